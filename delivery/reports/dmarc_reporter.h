// Collects what DMARC found about mail of strangers and sends each day's aggregate reports to the
// domains that ask for them (RFC 9990). Lives on the first loop; files are written on the pool.
//
//   a message was judged --add()--> ledger of its day --midnight UTC and a random while--> for each
//   policy of each domain: who may have it (the DNS says); XML, compressed; a mail to each. What
//   nobody could be asked about is tried again in an hour, for two days
//
// What is collected outlives a restart, and all but its last minute a kill.
#pragma once

#include "base/net/blocking_pool.h"
#include "delivery/reports/daily_reporter.h"
#include "delivery/reports/dmarc_ledger.h"
#include "delivery/reports/journal_files.h"
#include "dns/resolver.h"
#include "mailauth/dmarc_destinations.h"

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace postrider::delivery {

struct DmarcReportSettings {
  bool enabled = false;
  std::string organisation;
  std::string contact;                     // an address, which is also the sender
  std::string submitter;                   // our host name
  Duration delay = std::chrono::hours(4);  // at most, behind midnight
};

class DmarcReporter final : public DailyReporter {
 public:
  // All references outlive this. folder: where the journals are.
  DmarcReporter(Loop& home, std::function<dns::Resolver&()> resolver, const Clock& clock, Log& log,
                BlockingPool& pool, std::string folder, ReportPost post,
                mailauth::ReportTally::Limits limits = {});

  void load();                                   // blocking, before the loop runs
  void configure(DmarcReportSettings settings);  // on the loop, or before it runs
  void save_now();                               // blocking, when the loop has ended

  // On the loop.
  void add(const mailauth::PublishedPolicy& policy, mailauth::ReportRow row);
  // "2026-11-23 example.org: 12 messages, 1 failed"
  std::vector<std::string> collected() const override;

 private:
  using Found = mailauth::ReportDestinations;
  struct Paper;
  struct Journal {
    std::size_t size = 0;         // on disk, about
    std::size_t whole = 0;        // when it was last written anew
    bool must_be_new = false;     // it ends in the middle of a line, or lacks some
    bool has_overflowed = false;  // which was said
    bool is_collected =
        false;  // it is being written anew; what happens meanwhile is written behind that
  };

  bool has_nothing() const override { return ledger_.is_empty() && journals_.empty(); }
  void save() override;
  std::vector<Work> reports_before(Day end) const override;
  void drop_before(Day day) override;
  Task<std::string> send_one(const Work& work) override;

  enum class Pace : std::uint8_t { in_parts, at_once };
  void hand_over(Pace pace);
  void save_day(Day day, Pace pace);
  Task<void> write_anew(std::shared_ptr<DailyReporter> self, Day day);
  Task<void> collect(Day day);
  void drop(Day day, const char* reason);
  void tell_trouble();
  mailauth::ReportHead head_of(Day day, std::string id) const;
  Task<Found> destinations(const mailauth::PublishedPolicy& policy);
  Task<std::string> send_to_all(const Work& work, const Paper& paper, const Found& found);
  Task<Result<void>> send_to(const Paper& paper, const mailauth::ReportMailbox& mailbox);

  std::function<dns::Resolver&()> resolver_;
  BlockingPool& pool_;
  ReportPost post_;
  DmarcReportSettings settings_;
  SystemRandom random_;
  DmarcLedger ledger_;
  const std::string folder_;
  std::shared_ptr<JournalFiles> files_;
  std::map<Day, Journal> journals_;
};

}  // namespace postrider::delivery
