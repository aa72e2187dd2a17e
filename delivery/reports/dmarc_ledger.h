// What DMARC found, by day (UTC), until it is reported; and its form on disk, a journal of a day in
// lines that are only ever added, so that a kill loses what was not handed over yet and no more.
// Pure; bounded: each day has the limits of its tally.
#pragma once

#include "delivery/reports/report_mail.h"
#include "mailauth/dmarc_tally.h"

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace postrider::delivery {

class DmarcLedger {
 public:
  using Key = std::string;  // of ReportTally
  // The report that will tell of a policy.
  struct Report {
    std::string id;                 // the same however often it is sent
    std::set<std::string> reached;  // addresses that have it
  };
  // make_id: a new one at each call; letters and digits.
  DmarcLedger(mailauth::ReportTally::Limits limits, std::function<std::string()> make_id)
      : limits_(limits), make_id_(std::move(make_id)) {}
  explicit DmarcLedger(std::function<std::string()> make_id)
      : DmarcLedger({}, std::move(make_id)) {}

  // False: there is no room, and the message is lost.
  bool add(Day day, const mailauth::PublishedPolicy& policy, mailauth::ReportRow row);
  bool is_empty() const { return days_.empty(); }
  std::vector<Day> days() const;
  const mailauth::ReportTally* tally(Day day) const;    // null: none of that day
  const Report* report(Day day, const Key& key) const;  // null: none
  void note_reached(Day day, const Key& key, const std::string& address);
  // It was reported, as far as it is in here: what came meanwhile stays for another report. The day
  // goes with the last.
  void finish(Day day, const Key& key, mailauth::PolicyRows reported);
  void drop(Day day);

  // Lines of a journal that are not written out yet, which takes long and may be done on any thread.
  class Entries {
   public:
    std::string text() const;
    std::size_t octets() const;  // of the text, about
    bool is_empty() const { return octets() == 0; }

   private:
    friend class DmarcLedger;
    struct OfPolicy {
      std::uint64_t number = 0;
      std::string id;
      std::optional<mailauth::PublishedPolicy> published;  // where it was not written before
      mailauth::PolicyRows::Rows rows;
      std::uint64_t lost = 0;
      std::set<std::string> reached;
    };
    std::string before, behind;
    std::vector<OfPolicy> policies;
    std::uint64_t lost_elsewhere = 0;
  };
  // What has happened since it was last asked, or nothing.
  Entries take_entries(Day day);
  std::string take_journal(Day day) { return take_entries(day).text(); }
  // A journal that says all, in parts of so many rows, about, for which there may be pauses: what happens meanwhile is
  // in a later part, or in what is taken behind the last. Nothing is to be taken before that.
  class Whole {
   public:
    bool is_done() const { return is_done_; }

   private:
    friend class DmarcLedger;
    std::optional<Key> after_;
    bool is_done_ = false;
  };
  Entries next_of(Day day, Whole& whole, std::size_t most_rows);
  std::string whole_journal(Day day);
  // Adds what the journal says. Its lines count as outside bytes. Gives the number of those that
  // could not be read.
  std::size_t read_journal(Day day, std::string_view text);

 private:
  struct Open {
    Report report;
    std::uint64_t number = 0;  // in the journal
    bool is_written = false;
    mailauth::PolicyRows::Rows unsaved;
    std::uint64_t unsaved_lost = 0;
  };
  struct Book {
    explicit Book(mailauth::ReportTally::Limits limits) : tally(limits) {}
    mailauth::ReportTally tally;
    std::map<Key, Open> open;  // of each policy in the tally
    std::set<Key> changed;     // have something unsaved
    std::uint64_t last_number = 0;
    std::uint64_t unsaved_lost_elsewhere = 0;
    std::string ends;   // lines that are to be written before the others
    std::string marks;  // and behind them
  };
  class Reader;

  Book& book_of(Day day);
  bool count(Book& book, const mailauth::PublishedPolicy& policy, mailauth::ReportRow row,
             std::uint64_t messages);
  Open& open_of(Book& book, const Key& key);

  mailauth::ReportTally::Limits limits_;
  std::function<std::string()> make_id_;
  std::map<Day, Book> days_;
};

}  // namespace postrider::delivery
