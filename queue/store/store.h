// The rows of the queue, by subject: what an engine (queue/store/sqlite_store.h) has to offer. No
// caller sees SQL. Used by the queue thread alone, inside its transactions.
//
//   incoming          accepted, in delivery's hands for the first time; one row a message
//   message + body +  waits: one row for the message, one for its content, one a recipient
//   recipient
//   domain -> site    who is due next: both keep the earliest time below them, so the next due
//                     work is the first entry of an index, however many wait
#pragma once

#include "queue/fact.h"
#include "queue/leases.h"
#include "queue/store/pause_set.h"
#include "queue/store/prepared_filter.h"
#include "queue/store/rows.h"
#include "queue/store/store_error.h"
#include "queue/store/transaction.h"

#include <span>
#include <unordered_set>

namespace postrider::queue {

// Fresh mail, each message with its content unless that is in a file.
class IncomingRows {
 public:
  virtual ~IncomingRows() = default;
  virtual Result<void> insert(const mail::Message& message, std::string_view head) = 0;
  virtual Result<void> remove(mail::MessageId id) = 0;
  virtual Result<std::vector<mail::MessageId>> ids() = 0;
  virtual Result<std::shared_ptr<const mail::Message>> load_head(mail::MessageId id) = 0;
};

// Waiting mail: its row, its content, its recipients.
class MessageRows {
 public:
  virtual ~MessageRows() = default;
  virtual Result<void> insert(const mail::Message& message, std::string_view head,
                              const MessageRow& row, std::vector<RecipientRow> recipients) = 0;
  // Its head and content are in `incoming` and move here.
  virtual Result<void> move_in(const mail::Message& message, const MessageRow& row,
                               std::vector<RecipientRow> recipients) = 0;
  // The same in steps, for many: rows for some recipients, who may have theirs already; then, when
  // all have, the rest of the message. In between forget_recipients() undoes it.
  virtual Result<void> add_recipients(const mail::Message& message,
                                      std::vector<RecipientRow> recipients) = 0;
  virtual Result<void> move_rest(const mail::Message& message, const MessageRow& row) = 0;
  virtual Result<void> forget_recipients(mail::MessageId id) = 0;
  // A landed row that does not decode: kept, held, without content checks.
  virtual Result<void> quarantine_incoming(mail::MessageId id, const std::string& last) = 0;
  // With content, recipients and attempts.
  virtual Result<void> remove(mail::MessageId id) = 0;
  virtual Result<std::optional<MessageRow>> load_row(mail::MessageId id) = 0;
  virtual Result<std::string> sender(mail::MessageId id) = 0;  // empty also if it is gone
  virtual Result<std::vector<RecipientRow>> load_alive(mail::MessageId id) = 0;
  // At most so many of them, from that index on.
  virtual Result<std::vector<RecipientRow>> load_alive(mail::MessageId id, std::uint32_t from,
                                                       std::size_t most) = 0;
  // Those of the domain that are due at exactly that time.
  virtual Result<std::vector<RecipientRow>> load_due(mail::MessageId id, std::int64_t domain,
                                                     std::int64_t time, std::uint32_t from,
                                                     std::size_t most) = 0;
  // Of those with these indexes. It costs as much as they are, however many others there are.
  virtual Result<std::vector<RecipientRow>> load_alive(mail::MessageId id,
                                                       std::span<const std::uint32_t> indexes) = 0;
  virtual Result<RecipientCounts> count_alive(mail::MessageId id) = 0;
  // With the content, checked, unless that is in a file.
  virtual Result<StoredMessage> load(mail::MessageId id) = 0;
  // Held because its content is damaged; shown as such until it is released.
  virtual Result<void> mark_damaged(mail::MessageId id) = 0;
  virtual Result<void> update_recipient(mail::MessageId id, const RecipientRow& row) = 0;
  virtual Result<void> remove_recipient(mail::MessageId id, std::uint32_t index) = 0;
  // Counts are taken from the living recipients.
  virtual Result<void> update(mail::MessageId id, const MessageRow& row,
                              std::span<const RecipientRow> alive) = 0;
  // Counts are those of the row.
  virtual Result<void> update(mail::MessageId id, const MessageRow& row) = 0;
  virtual Result<void> set_deadline(mail::MessageId id, std::int64_t deadline) = 0;
  // Recipients that wait for the domain by a time of their own, behind `after`, at most `most`.
  virtual Result<std::vector<QueuedEntry>> queued_in(std::int64_t domain, const QueuedPlace& after,
                                                     std::size_t most) = 0;
  // Recipients who have not been tried and may wait for a time that their sender chose, behind
  // `after`, at most `most`.
  virtual Result<std::vector<UntriedEntry>> untried(const UntriedEntry& after,
                                                    std::size_t most) = 0;
  // Their next attempt is at another time.
  virtual Result<void> postpone(const UntriedEntry& entry, std::int64_t next_attempt) = 0;
  // False: it was marked before, or nobody of it waits.
  virtual Result<bool> mark_tried(mail::MessageId id) = 0;
  virtual Result<bool> exists(mail::MessageId id) = 0;  // here or in `incoming`
  // Without its content; none if it is gone, or cannot be read.
  virtual Result<std::optional<mail::Message>> load_head(mail::MessageId id) = 0;
};

// The latest attempts of waiting mail, numbered by the message's row.
class AttemptRows {
 public:
  static constexpr std::int64_t kKept = 100;  // of one message
  virtual ~AttemptRows() = default;
  virtual Result<void> add(mail::MessageId id, std::int64_t seq, TimePoint when,
                           std::uint32_t recipient, std::string_view outcome) = 0;
  virtual Result<void> set_logged(mail::MessageId id, std::int64_t seq) = 0;
  virtual Result<void> remove(mail::MessageId id) = 0;  // all of a message
};

// Domains with living recipients, and the sites that serve them. Rows are remembered: after a
// rollback forget() is to be called.
class Destinations {
 public:
  virtual ~Destinations() = default;
  virtual Result<std::int64_t> domain_id(const std::string& name) = 0;  // made if missing
  // Mail of the domain is due at that time.
  virtual Result<void> touch(std::int64_t domain, std::int64_t due) = 0;
  // Puts the kept time of a domain or site back to the truth, or removes one that has no mail.
  virtual Result<void> settle_domain(std::int64_t domain) = 0;
  virtual Result<void> settle_site(std::int64_t site) = 0;
  virtual Result<bool> is_blocked(std::int64_t domain, std::int64_t now) = 0;
  virtual Result<std::int64_t> site_of(std::int64_t domain) = 0;  // 0: not known
  virtual Result<std::string> name_of(std::int64_t domain) = 0;   // empty: it is gone
  virtual Result<bool> is_in_trouble(std::int64_t domain) = 0;    // blocked or to be probed
  virtual Result<std::vector<std::int64_t>> troubled_sites() = 0;
  virtual Result<std::vector<std::int64_t>> domains_of(std::int64_t site) = 0;
  // Why the site of the domain is in trouble, encoded; empty: it is not.
  virtual Result<std::string> site_trouble(std::int64_t domain) = 0;
  virtual Result<SiteRow> load_site(std::int64_t id) = 0;
  // Returns the site if it is in trouble now and was not before; or 0.
  virtual Result<std::int64_t> set_site(const SiteState& state, std::int64_t blocked_until) = 0;
  // Returns the domain if it has mail and another site than before; or 0.
  virtual Result<std::int64_t> assign_site(const std::string& domain, const std::string& site) = 0;
  // Whether any site was in trouble since the start; spares the usual message a look.
  virtual bool has_blocked_sites() const = 0;
  // From memory alone: true only if it is surely blocked.
  virtual bool is_known_blocked(const std::string& domain, std::int64_t now) const = 0;
  virtual void forget() = 0;
};

// What is due, by index.
class DueIndex {
 public:
  struct Due {
    std::int64_t id = 0;
    std::int64_t time = 0;
  };
  virtual ~DueIndex() = default;
  // Those due by now behind `after`, in order of time and id, at most `most`.
  virtual Result<std::vector<Due>> sites(std::int64_t now, Due after, std::size_t most) = 0;
  virtual Result<std::vector<Due>> domains(std::int64_t site, std::int64_t now, Due after,
                                           std::size_t most) = 0;
  // A message with the first recipient of the domain who is due and not leased.
  struct DueMessage {
    mail::MessageId id;
    std::int64_t time = 0;
    std::uint32_t recipient = 0;
  };
  static DueMessage before_all() {
    constexpr auto kLeast = std::numeric_limits<std::int64_t>::min();
    return {{kLeast}, kLeast};
  }
  // Each once. more: there are others.
  virtual Result<std::vector<DueMessage>> messages(std::int64_t domain, std::int64_t now,
                                                   const Leases& leases, std::size_t most,
                                                   bool& more) = 0;
  // The same of one lane of the domain, of those behind `after`: not those who are among `seen`,
  // where they come to.
  virtual Result<std::vector<DueMessage>> messages_of(std::int64_t domain, std::int64_t lane,
                                                      std::int64_t now, const DueMessage& after,
                                                      const Leases& leases, std::size_t most,
                                                      std::unordered_set<std::int64_t>& seen) = 0;
  // The lane behind `after` with living recipients of the domain, with the first time at which one
  // of them is due; none: that was the last. The first is behind -1.
  virtual Result<std::optional<Due>> next_lane(std::int64_t domain, std::int64_t after) = 0;
  virtual Result<std::int64_t> lane_of(const DueMessage& message) = 0;
  virtual Result<std::vector<mail::MessageId>> deadlines(std::int64_t now, std::size_t most,
                                                         bool& more) = 0;
  // The first time after `now` at which mail of the domain is due: kNever if there is none.
  virtual Result<std::int64_t> next_in_domain(std::int64_t domain, std::int64_t now) = 0;
  virtual Result<std::int64_t> next_in_site(std::int64_t site, std::int64_t now) = 0;
  // The next time after `now` at which something may be due.
  virtual Result<std::int64_t> next(std::int64_t now) = 0;
};

// Changes to many recipients, in steps: pick() gathers them in a table of its own, apply() changes
// them, clear() empties that table.
class BulkChange {
 public:
  struct PickedLease {
    Revocation leased;
    std::size_t recipients = 0;  // picked ones, leased or not
  };
  // A message without living recipients. file: of the content; empty: it had none.
  struct Unused {
    mail::MessageId id;
    std::string file;
  };
  // With whose message it is; envelope_id, in xtext, and trace_parent: of that.
  struct Picked {
    mail::MessageId id;
    std::uint32_t index = 0;
    std::string address, sender, envelope_id, trace_parent;
    std::string domain;  // or what stands for the host that it was rerouted to
  };
  // What remains of a sender's wishes about time behind a release, in the queue's time.
  struct Wish {
    mail::MessageId id;
    std::int64_t release = 0;       // 0: none, or it is past
    std::string waits;              // why it waits for that: an encoded outcome
    std::int64_t expires = kNever;  // at the latest
    std::int64_t delayed = kNever;  // when its sender is to be told that it waits
    std::int64_t late = kNever;     // that it is late
  };
  virtual ~BulkChange() = default;
  virtual Result<std::optional<std::vector<mail::MessageId>>> candidates(
      const PreparedFilter& filter) = 0;
  // states: a bit for each RecipientState.
  virtual Result<void> pick(const PreparedFilter& filter, IdRange range, unsigned states,
                            std::int64_t now) = 0;
  virtual Result<void> unpick(mail::MessageId id) = 0;
  // What its sender asked not to send yet (RFC 4865) is not what a retry means, and of what is not
  // held it is all that a release means; a reroute leaves its time alone. wall: now, by the clock.
  // changed: of a retry, counts it.
  virtual Result<void> sort_unreleased(Verb verb, std::int64_t now, TimePoint wall,
                                       Changed& changed) = 0;
  virtual Result<Changed::Kept> count_held() = 0;  // of what is picked
  // What is held is picked no more; returns how much it was.
  virtual Result<Changed::Kept> unpick_held() = 0;
  // The id of the message that is `messages` behind `after`, or kNever.
  virtual Result<std::int64_t> end_of_piece(std::int64_t after, std::int64_t messages) = 0;
  virtual Result<Changed> picked() = 0;
  virtual Result<std::vector<Picked>> picked_recipients() = 0;
  virtual Result<std::vector<PickedLease>> picked_leases(const Leases& leases) = 0;
  virtual Result<void> apply(Verb verb, std::int64_t now, Duration delay_notice) = 0;
  // Of those picked, the messages whose sender has wishes about time, without their content.
  virtual Result<std::vector<std::shared_ptr<const mail::Message>>> picked_with_wishes() = 0;
  // Behind apply(Verb::release). Those who were held wait for `release`; what was waiting for it
  // was released from that.
  virtual Result<void> keep_wish(const Wish& wish) = 0;
  // From now on they belong to what stands for a host instead of their domain.
  virtual Result<void> reroute(const std::string& next_hop, std::int64_t now) = 0;
  // Of those picked, the messages without living recipients.
  virtual Result<std::vector<Unused>> remove_ended() = 0;
  virtual Result<void> clear() = 0;
};

// Numbers by name.
class Meta {
 public:
  virtual ~Meta() = default;
  virtual Result<std::int64_t> get(std::string_view key) = 0;  // 0: not set
  virtual Result<void> set(std::string_view key, std::int64_t value) = 0;
  virtual Result<bool> is_empty() = 0;
};

// Files of the drop folder that became messages.
class DroppedFiles {
 public:
  virtual ~DroppedFiles() = default;
  virtual Result<std::optional<mail::MessageId>> find(std::string_view drop_id) = 0;
  virtual Result<void> add(std::string_view drop_id, mail::MessageId id) = 0;
  virtual Result<void> forget(std::string_view drop_id) = 0;
};

// What administrators paused.
class PauseRows {
 public:
  virtual ~PauseRows() = default;
  virtual Result<std::vector<PauseRow>> all() = 0;
  virtual Result<void> set(const PauseRow& row) = 0;  // replaces the one of that name
  virtual Result<void> remove(Pause::Of of, std::string_view name) = 0;
};

// Facts that wait for their witness (queue/fact.h), in the order of their numbers.
class FactRows {
 public:
  virtual ~FactRows() = default;
  virtual Result<void> add(const Fact& fact) = 0;
  virtual Result<std::vector<Fact>> load(std::int64_t after) = 0;
  virtual Result<std::uint64_t> remove_to(std::int64_t number) = 0;  // how many there were
  virtual Result<void> remove(std::int64_t number) = 0;
};

class Store {
 public:
  virtual ~Store() = default;
  virtual IncomingRows& incoming() = 0;
  virtual MessageRows& messages() = 0;
  virtual AttemptRows& attempts() = 0;
  virtual Destinations& destinations() = 0;
  virtual DueIndex& due() = 0;
  virtual BulkChange& changes() = 0;
  virtual Meta& meta() = 0;
  virtual DroppedFiles& dropped() = 0;
  virtual PauseRows& pauses() = 0;
  virtual FactRows& facts() = 0;
  virtual Result<Transaction> begin() = 0;
  virtual Result<Savepoint> begin_part() = 0;
};

}  // namespace postrider::queue
