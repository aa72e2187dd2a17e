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

#include "base/log.h"
#include "base/net/blocking_pool.h"
#include "base/net/deadline.h"
#include "base/random.h"
#include "delivery/tls/reports/record.h"
#include "delivery/tls/reports/report.h"
#include "dns/fetch.h"

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
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

struct ReportMail {
  std::string sender, recipient;
  mail::MessageId id;
  std::string text;
};

class TlsReporter : public std::enable_shared_from_this<TlsReporter> {
 public:
  // What the daemon gives: ids, and custody of a message.
  struct Post {
    std::function<mail::MessageId()> next_id;
    std::function<Task<Result<void>>(ReportMail mail)> submit;
  };
  // All references outlive this. file: where results are kept.
  TlsReporter(Loop& home, std::function<dns::Resolver&()> resolver, const Clock& clock, Log& log,
              BlockingPool& pool, std::string file, Post post);

  void load();                                 // blocking, before the loop runs
  void start();                                // before the loop runs
  void configure(TlsReportSettings settings);  // on the loop, or before it runs
  void stop();                                 // on the loop: nothing is sent any more
  void save_now();                             // blocking, when the loop has ended

  // All on the loop.
  void add(const TlsReport& report);
  // "2026-11-23 example.org: 12 sessions, 1 failed", one line each.
  std::vector<std::string> collected() const;
  // Sends what there is, today's results too if so asked, without waiting for midnight. done gets
  // one line for each domain.
  void send(bool today_too, std::function<void(std::vector<std::string>)> done);

 private:
  struct Work {
    Day day;
    std::string domain;
  };
  void tick();
  struct Saved;
  void save();
  std::vector<Work> work_before(Day day, TimePoint now, bool impatient) const;
  Task<void> run(std::shared_ptr<TlsReporter> self, std::vector<Work> work,
                 std::function<void(std::vector<std::string>)> done);
  Task<std::string> send_one(const Work& work);
  Task<std::string> deliver(const Work& work, const std::vector<TlsReportTarget>& targets);
  Task<Result<void>> send_to(const TlsReportTarget& target, const TlsReportHead& head,
                             const std::string& compressed);
  Task<Result<void>> send_by_https(const TlsReportTarget& target, const std::string& compressed);
  void put_off(const Work& work);
  void forget(const Work& work);
  Day today() const { return std::chrono::floor<std::chrono::days>(clock_.now()); }

  Loop& home_;
  std::function<dns::Resolver&()> resolver_;
  const Clock& clock_;
  Log& log_;
  BlockingPool& pool_;
  std::string file_;
  Post post_;
  TlsReportSettings settings_;
  SystemRandom random_;
  TlsTally tally_;
  std::map<std::pair<Day, std::string>, TimePoint> put_off_;  // not to be tried before
  Duration jitter_{0};
  std::unique_ptr<Deadline> tick_;
  std::shared_ptr<Saved> saved_;
  std::uint64_t version_ = 0;  // of what is to be saved
  bool has_changed_ = false;   // since it was last handed over
  bool is_sending_ = false;
  bool is_stopped_ = false;
  std::shared_ptr<HttpCall> call_ = std::make_shared<HttpCall>();
};

}  // namespace postrider::delivery
