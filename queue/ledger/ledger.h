// What the queue thread knows and does, without the thread: each call is a part of one transaction
// that the caller (queue/writer/writer.h) begins and commits. Nothing here waits, posts or syncs.
#pragma once

#include "base/log.h"
#include "queue/ledger/queue_time.h"
#include "queue/spool.h"
#include "queue/store/sqlite_store.h"

#include <unordered_set>

namespace postrider::queue {

// What the file of a leased message must contain.
struct BodyCheck {
  mail::MessageId id;
  std::uint32_t checksum = 0;
};

// What follows from a transaction once it is committed, or must be undone if it is not.
struct Effects {
  std::vector<Lease> leases;           // to delivery; taken back if the commit fails
  std::vector<BodyCheck> checks;       // of leases whose content is in a file: before they go out
  std::vector<Leases::Node> ended;     // put back if the commit fails
  std::vector<std::string> files;      // bodies that have no row any more
  std::vector<mail::MessageId> gone;   // removed by an administrator
  std::vector<mail::MessageId> made;   // of submissions; removed again if the commit is in doubt
  std::vector<mail::MessageId> moved;  // leased ones that left `incoming`
  struct Noted {
    mail::MessageId id;
    std::uint64_t lease = 0;
    std::vector<std::uint32_t> removed;
  };
  std::vector<Noted> removed;  // what was noted as removed of leased ones before
  std::vector<LogEvent> told;  // once it is committed
  Queue::Counters counted;
};

// A change under way: it goes through the queue once, the oldest first. It concerns what had
// arrived when it began; whether a message matches is decided when its turn comes.
struct ChangeRun {
  ChangeRun(Verb verb_, const Filter& filter, bool dry_run_, TimePoint wall);
  Verb verb;
  bool dry_run;
  PreparedFilter prepared;
  bool has_begun = false;
  bool has_candidates = false;
  bool is_done = false;
  std::int64_t last = 0;  // ids beyond it came later
  std::vector<mail::MessageId> landed;
  std::size_t next_landed = 0;
  std::vector<mail::MessageId> counted;  // of those
  std::optional<std::vector<mail::MessageId>> candidates;
  std::size_t next_candidate = 0;
  std::int64_t after = 0;      // without candidates: how far it came
  std::int64_t messages = 64;  // in a piece
  // How far it came: a piece that was undone is done again from there.
  struct Place {
    bool has_candidates = false;
    std::size_t next_landed = 0, next_candidate = 0, counted = 0;
    std::int64_t after = 0;
  };
  Place place() const {
    return {has_candidates, next_landed, next_candidate, counted.size(), after};
  }
  void return_to(const Place& place);
  // Of the latest piece: what it changed, and of leased messages, which delivery is to be told.
  Changed piece;
  std::vector<BulkChange::PickedLease> picked;
};

class Ledger {
 public:
  Ledger(Spool& spool, QueueSettings settings_, Log& log)
      : settings(std::move(settings_)), spool_(spool), log_(log) {}

  // At start, in one transaction: mail that was in delivery's hands waits again. Returns how many.
  Result<std::size_t> recover();

  // Stores one message. Its own fault (a constraint) comes back as `refused`, without harm to the
  // transaction; any other failure is the transaction's.
  Result<void> submit(const std::shared_ptr<const mail::Message>& message, std::string_view head,
                      Effects& effects, Result<void>& refused);
  Result<void> record(const Record& record, Effects& effects);
  Result<void> set_site(const SiteState& state);
  Result<void> quarantine(mail::MessageId id, const std::string& why, Effects& effects);
  // Hands out what is due, within the limits.
  Result<void> lease_due(Effects& effects);
  // last: the highest id of what had arrived.
  Result<void> begin(ChangeRun& run, std::int64_t last);
  // The next piece of a change, which takes about `most`.
  Result<void> change_on(ChangeRun& run, std::chrono::microseconds most, Effects& effects);

  // Takes back what a failed transaction did in memory.
  void undo(Effects& effects);
  // Whether the transaction failed for a damaged message that was not known before. Done again, it
  // holds that one without reading it. (Once SQLite has read a damaged page, it writes nothing more
  // in that transaction.)
  bool found_damage() { return std::exchange(found_damage_, false); }
  void committed() { damaged_.clear(); }
  std::size_t passed_over() const { return passed_over_.size(); }
  // After a salvage: what is leased and did not land where it was has moved.
  Result<void> follow_landed();
  // What was damaged has been repaired.
  void forget_damage() {
    damaged_.clear();
    passed_over_.clear();
    found_damage_ = false;
  }

  // Whether lease_due() has something to do now, or when.
  bool is_work_due() const { return look_again_ || next_due_ <= now(); }
  bool is_work_due_now() const { return has_consumer && is_work_due(); }
  std::int64_t next_due() const { return next_due_; }
  void look_again() { look_again_ = true; }

  std::int64_t now() const { return time.now().time_since_epoch().count(); }

  std::unique_ptr<SqliteStore> store;
  Leases leases;
  QueueTime time;
  QueueSettings settings;
  bool has_consumer = false;
  SteadyTime ramp_until;  // after an unclean stop, work is handed out slowly up to then
  SteadyTime steady_now;

 private:
  struct Budget {  // limits, what is out included
    std::size_t messages = 0;
    std::size_t bytes = 0;
    std::size_t now = 0;  // of messages, in this transaction
  };
  Result<void> submit_waiting(const mail::Message& message, std::string_view head, Effects& effects,
                              Result<void>& refused);
  bool is_blocked(const mail::Message& message) const;
  Result<void> note_parked(const mail::Message& message, const mail::Recipient& recipient,
                           Effects& effects);
  Result<bool> waits_for_site(const Record& record, const mail::Message& message);
  Result<void> land_again(mail::MessageId id);
  MessageRow new_row(const mail::Message& message) const;
  std::int64_t deadline_of(const mail::Message& message, const MessageRow& row) const;
  RecipientRow after(RecipientRow row, const Record::Result& result, std::int64_t expires) const;
  bool keep_rest(const Record& record, const Leased& leased);
  Result<void> record_landed(const Record& record, const Leased& leased, Effects& effects);
  Result<void> record_waiting(const Record& record, const Leased& leased, Effects& effects);
  Result<std::vector<RecipientRow>> store_results(const Record& record,
                                                  std::vector<RecipientRow>& alive,
                                                  MessageRow& row);
  Result<void> log_attempts(const Record& record, MessageRow& row);
  Result<void> store_notices(const Record& record, Effects& effects);
  Result<void> remove_message(const mail::Message& message, Effects& effects);
  void tell_end(const mail::Message& message, bool by_administrator, Effects& effects);

  Result<void> change_landed(ChangeRun& run, mail::MessageId id, Effects& effects);
  Result<void> pick_piece(ChangeRun& run);
  Result<void> apply_piece(ChangeRun& run, Effects& effects);
  Result<void> remove_piece(ChangeRun& run, const Changed& changed, Effects& effects);
  Result<void> move_leased(Leased& leased, Effects& effects);

  bool has_room(const Budget& budget) const;
  std::size_t share(const Budget& budget, std::size_t out, bool is_probed) const;
  Result<void> lease_deadlines(Budget& budget, Effects& effects);
  Result<void> lease_deadline(mail::MessageId id, Effects& effects);
  Result<void> lease_site(std::int64_t site, Budget& budget, Effects& effects);
  Result<void> lease_domain(std::int64_t site, std::int64_t domain, std::size_t most,
                            Budget& budget, Effects& effects);
  Result<void> lease_message(mail::MessageId id, Effects& effects);
  void hand_out(Leased leased, std::vector<Lease::Recipient> recipients, Effects& effects);
  Result<StoredMessage> load_checked(mail::MessageId id);
  Result<void> hold_or_wait(mail::MessageId id, const Error& error, Effects& effects);
  Result<void> hold_damaged(mail::MessageId id, const std::string& why, Effects& effects);
  Result<void> hold_what_is_damaged(Effects& effects);
  Error pass_over(mail::MessageId id, const Error& error);
  Result<void> postpone(mail::MessageId id, const Error& error);
  void expect(std::int64_t due);
  void look_again_after(const Leased& leased);
  void pause(const Record& record, const Leased& leased);
  Result<StoredMessage> load_leased(mail::MessageId id);
  bool is_paused(std::int64_t domain) const;
  void drop_pauses();

  Spool& spool_;
  Log& log_;
  std::uint64_t last_lease_ = 0;  // number
  std::int64_t next_due_ = 0;
  bool look_again_ = true;
  bool stopped_at_limit_ = false;  // there was more than the limits of all allowed
  // Where there is more than was handed out, and how many were out then.
  std::unordered_map<std::int64_t, std::size_t> wanting_sites_, wanting_domains_;
  std::unordered_map<std::int64_t, std::string> damaged_;  // found, not held yet; and why
  std::unordered_set<std::int64_t> passed_over_;  // messages whose rows cannot be changed either
  bool found_damage_ = false;
  // Domains whose mail came back untried: not handed out again at once.
  std::unordered_map<std::int64_t, SteadyTime> paused_;
};

}  // namespace postrider::queue
