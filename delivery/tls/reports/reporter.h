// Collects what handshakes gave and sends each day's reports to those who want them (RFC 8460).
// Lives on the first loop; the file of results is written on the pool.
//
//   handshake --add()--> tally of its day --midnight UTC and a random while--> for each domain:
//     _smtp._tls.DOMAIN has no record: forgotten
//     mailto: an ordinary mail; https: a POST. One that works is enough, else again in an hour,
//     for two days
//
// Results outlive a restart: they are saved every minute and at the stop.
#pragma once

#include "base/net/blocking_pool.h"
#include "delivery/reports/daily_reporter.h"
#include "delivery/tls/reports/record.h"
#include "delivery/tls/reports/report.h"
#include "dns/fetch.h"

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace postrider::delivery {

struct TlsReportSettings {
  bool enabled = false;
  std::string organisation;
  std::string contact;
  std::string submitter;                   // our host name
  Duration delay = std::chrono::hours(4);  // at most, behind midnight
  dns::Families families = dns::Families::both;
  std::shared_ptr<const TlsContext> tls;  // of HTTPS; null: only mail
};

class TlsReporter final : public DailyReporter {
 public:
  // All references outlive this. file: where results are kept.
  TlsReporter(Loop& home, std::function<dns::Resolver&()> resolver, const Clock& clock, Log& log,
              BlockingPool& pool, std::string file, ReportPost post);

  void load();                                 // blocking, before the loop runs
  void configure(TlsReportSettings settings);  // on the loop, or before it runs
  void stop() override;
  void save_now();  // blocking, when the loop has ended

  // On the loop.
  void add(const TlsReport& report);
  // "2026-11-23 example.org: 12 sessions, 1 failed"
  std::vector<std::string> collected() const override;

 private:
  struct Saved;
  bool has_nothing() const override { return tally_.is_empty() && !has_changed_; }
  void save() override;
  std::vector<Work> reports_before(Day end) const override;
  void drop_before(Day day) override { tally_.remove_before(day); }
  Task<std::string> send_one(const Work& work) override;
  Task<std::string> deliver(const Work& work, const std::vector<TlsReportTarget>& targets);
  Task<Result<void>> send_to(const TlsReportTarget& target, const TlsReportHead& head,
                             const std::string& compressed);
  Task<Result<void>> send_by_https(const TlsReportTarget& target, const std::string& compressed);
  void forget(const Work& work);

  std::function<dns::Resolver&()> resolver_;
  BlockingPool& pool_;
  std::string file_;
  ReportPost post_;
  TlsReportSettings settings_;
  TlsTally tally_;
  std::shared_ptr<Saved> saved_;
  std::uint64_t version_ = 0;  // of what is to be saved
  bool has_changed_ = false;   // since it was last handed over
  std::shared_ptr<HttpCall> call_ = std::make_shared<HttpCall>();
};

}  // namespace postrider::delivery
