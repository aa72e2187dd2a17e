// What the parts of the ledger share: the store, what is leased, and the time.
#pragma once

#include "queue/ledger/effects.h"
#include "queue/ledger/facts.h"
#include "queue/ledger/queue_time.h"
#include "queue/spool.h"
#include "queue/store/store.h"

#include <algorithm>

namespace postrider::queue {

struct QueueState {
  QueueState(Spool& spool_, mail::MessageIds& ids, Log& log_, QueueSettings settings_)
      : spool(spool_), log(log_), settings(std::move(settings_)), facts(store, ids, log_) {
    facts.want(settings.keeps_facts);
  }

  Spool& spool;
  Log& log;
  QueueSettings settings;
  Store* store = nullptr;  // null while it is closed: then no part of the ledger is called
  Facts facts;
  Leases leases;
  PauseSet pauses;  // a copy of what is stored
  QueueTime time;
  SteadyTime steady_now;
  SteadyTime ramp_until;  // after an unclean stop, work is handed out slowly up to then
  bool has_consumer = false;
  std::uint64_t last_lease = 0;  // number

  std::int64_t now() const { return time.now().time_since_epoch().count(); }
  void hand_out(Leased leased, std::vector<Lease::Recipient> recipients, Effects& effects);
};

// When work may be due: at once, or at a time.
class NextLook {
 public:
  void at_once() { at_once_ = true; }
  void expect(std::int64_t due) { next_ = std::min(next_, due); }
  void begin() {  // what is found from now on says when the next is
    at_once_ = false;
    next_ = kNever;
  }
  bool is_due(std::int64_t now) const { return at_once_ || next_ <= now; }
  std::int64_t next() const { return next_; }

 private:
  bool at_once_ = true;
  std::int64_t next_ = 0;
};

// When its first attempt may be, as its sender asked (RFC 4865); long ago if he did not.
std::int64_t release_of(const QueueState& state, const mail::Message& message);
// The row of a message that has to wait from now on.
MessageRow new_row(const QueueState& state, const mail::Message& message);
// When something is to be done about it, whatever its recipients' times are.
// How that waits: the outcome, encoded.
std::string waits_for_release(const mail::Message& message);
// RFC 2852 and RFC 4865: what an administrator's release leaves of the sender's wishes.
BulkChange::Wish wish_behind_release(const QueueState& state, const mail::Message& message);
std::int64_t deadline_of(const QueueState& state, const mail::Message& message,
                         const MessageRow& row);
// A notice has been sent that it waits.
void note_told(const QueueState& state, const mail::Message& message, MessageRow& row);
// A row for each recipient, due now.
std::vector<RecipientRow> all_due(const mail::Message& message, std::int64_t now);
// The same for those from `first` to before `end`.
std::vector<RecipientRow> due_rows(const mail::Message& message, std::size_t first, std::size_t end,
                                   std::int64_t now);
// From `incoming` to the mail that waits, though delivery has it in hand.
Result<void> move_leased(QueueState& state, Leased& leased, Effects& effects);

}  // namespace postrider::queue
