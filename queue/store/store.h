// The rows: the only SQL that writes. Used by the queue thread alone, inside its transactions.
// Times are the queue's own (queue/ledger/queue_time.h), in milliseconds.
//
//   incoming          accepted, in delivery's hands for the first time; one row a message
//   message + body +  waits: one row for the message, one for its content, one a recipient
//   recipient
//   domain -> site    who is due next: both keep the earliest time below them, so the next due
//                     work is the first entry of an index, however many wait
#pragma once

#include "queue/leases.h"
#include "queue/store/row_filter.h"
#include "queue/store/sql_names.h"
#include "queue/store/sqlite.h"

#include <limits>
#include <span>
#include <unordered_map>

namespace postrider::queue {

struct RecipientRow {
  std::uint32_t index = 0;
  std::int64_t domain = 0;
  RecipientState state = RecipientState::queued;
  std::uint32_t attempts = 0;
  std::int64_t next_attempt = 0;
  std::string last;     // encoded; empty: no attempt yet
  std::string address;  // filled by load only
  bool is_alive() const { return state < RecipientState::delivered; }
};

struct MessageRow {
  std::int64_t deadline = 0;
  std::int64_t expires = 0;
  bool tried = false;
  bool delayed = false;  // the delay notice was sent, or is not wanted
  std::int64_t logged = 0;
  std::int64_t delay_at = kNever;  // only when a row is made
};

struct SiteRow {
  std::int64_t wake = kNever;
  std::int64_t blocked_until = 0;
  std::uint32_t failures = 0;
};

// A message with what its content must be: for content in a file, which is read elsewhere.
struct StoredMessage {
  std::shared_ptr<const mail::Message> message;
  std::optional<std::uint32_t> checksum;
};

class Store {
 public:
  static Result<Store> open(const std::string& path, const char* vfs, const Leases& leases);
  Database& database() { return database_; }

  // Fresh mail.
  Result<void> insert_incoming(const mail::Message& message, std::string_view head);
  Result<void> delete_incoming(mail::MessageId id);
  Result<std::vector<mail::MessageId>> incoming_ids();
  Result<std::shared_ptr<const mail::Message>> load_incoming_head(mail::MessageId id);

  // Waiting mail. Empty head: its row is in `incoming` and moves here.
  Result<void> insert_message(const mail::Message& message, std::string_view head, MessageRow row,
                              std::vector<RecipientRow> recipients);
  // A landed row that does not decode: kept, held, without content checks.
  Result<void> quarantine_incoming(mail::MessageId id, const std::string& last);
  Result<void> delete_message(mail::MessageId id);
  Result<std::optional<MessageRow>> load_row(mail::MessageId id);
  Result<std::vector<RecipientRow>> load_alive(mail::MessageId id);
  // With the content, checked, unless that is in a file.
  Result<StoredMessage> load_message(mail::MessageId id);
  // Held because its content is damaged; shown as such until it is released.
  Result<void> mark_damaged(mail::MessageId id);
  Result<void> update_recipient(mail::MessageId id, const RecipientRow& row);
  // Counts are taken from the living recipients.
  Result<void> update_message(mail::MessageId id, const MessageRow& row,
                              std::span<const RecipientRow> alive);
  Result<void> log_attempt(mail::MessageId id, std::int64_t seq, TimePoint when,
                           std::uint32_t recipient, std::string_view outcome);
  Result<void> set_logged(mail::MessageId id, std::int64_t seq);
  Result<bool> exists(mail::MessageId id);

  // Due work.
  Result<std::int64_t> domain_id(const std::string& name);  // made if missing
  Result<void> touch(std::int64_t domain, std::int64_t due);
  struct Due {
    std::int64_t id = 0;
    std::int64_t time = 0;
  };
  // Those due by now behind `after`, in order of time and id, at most `most`.
  Result<std::vector<Due>> due_sites(std::int64_t now, Due after, std::size_t most);
  Result<std::vector<Due>> due_domains(std::int64_t site, std::int64_t now, Due after,
                                       std::size_t most);
  // Messages with due recipients of the domain who are not leased. more: there are others.
  Result<std::vector<mail::MessageId>> due_messages(std::int64_t domain, std::int64_t now,
                                                    const Leases& leases, std::size_t most,
                                                    bool& more);
  Result<std::vector<mail::MessageId>> due_deadlines(std::int64_t now, std::size_t most,
                                                     bool& more);
  Result<void> set_deadline(mail::MessageId id, std::int64_t deadline);
  // Puts the kept time of a domain or site back to the truth, or removes one that has no mail.
  Result<void> settle_domain(std::int64_t domain);
  // The first time after `now` at which mail of the domain is due: kNever if there is none.
  Result<std::int64_t> next_in_domain(std::int64_t domain, std::int64_t now);
  Result<std::int64_t> next_in_site(std::int64_t site, std::int64_t now);
  Result<void> settle_site(std::int64_t site);
  // The next time after `now` at which something may be due.
  Result<std::int64_t> next_due(std::int64_t now);
  Result<bool> is_blocked(std::int64_t domain, std::int64_t now);
  Result<std::int64_t> site_of(std::int64_t domain);  // 0: not known
  // Whether any site was blocked since the start; spares the usual message a look.
  bool has_blocked_sites() const { return has_blocked_sites_; }
  // Why the site of the domain is in trouble, encoded; empty: it is not.
  Result<std::string> site_trouble(std::int64_t domain);
  // From memory alone: true only if it is surely blocked.
  bool is_known_blocked(const std::string& domain, std::int64_t now) const;
  Result<SiteRow> load_site(std::int64_t id);

  // Changes to many, in steps: pick() gathers recipients in a table of its own, apply_picked()
  // changes them, forget_picked() empties it.
  Result<std::optional<std::vector<mail::MessageId>>> candidates(const PreparedFilter& filter) {
    return filter.candidates(of_domain_);
  }
  Result<void> pick(const PreparedFilter& filter, IdRange range, unsigned states, std::int64_t now);
  Result<void> unpick(mail::MessageId id);
  // The id of the message that is `messages` behind `after`, or kNever.
  Result<std::int64_t> end_of_piece(std::int64_t after, std::int64_t messages);
  Result<Changed> picked();
  struct PickedLease {
    Revocation leased;
    std::size_t recipients = 0;  // picked ones, leased or not
  };
  Result<std::vector<PickedLease>> picked_leases(const Leases& leases);
  Result<void> apply_picked(Verb verb, std::int64_t now, Duration delay_notice);
  // Messages without living recipients. file: of the content; empty: it had none.
  struct Unused {
    mail::MessageId id;
    std::string file;
  };
  Result<std::vector<Unused>> delete_picked();
  Result<void> forget_picked();

  // The drop folder.
  Result<std::optional<mail::MessageId>> find_dropped(std::string_view drop_id);
  Result<void> add_dropped(std::string_view drop_id, mail::MessageId id);
  Result<void> forget_dropped(std::string_view drop_id);

  // Sites.
  Result<void> set_site(const SiteState& state, std::int64_t blocked_until);
  Result<void> assign_site(const std::string& domain, const std::string& site);

  Result<std::int64_t> meta(std::string_view key);
  Result<void> set_meta(std::string_view key, std::int64_t value);
  // After a rollback what was remembered about rows may be wrong.
  void forget();

 private:
  struct DomainRow {
    std::int64_t site = 0;
    std::int64_t next_due = kNever;
    std::string name;
  };
  Result<void> prepare();
  Result<void> prepare_due();
  Result<void> prepare_change();
  Result<void> run_all(std::span<const char* const> statements, std::int64_t now,
                       std::int64_t delay);
  Result<std::vector<Unused>> find_unused();
  Result<DomainRow*> find_domain(std::int64_t id);
  Result<SiteRow*> find_site(std::int64_t id);
  Result<std::int64_t> site_id(const std::string& name);
  Result<void> touch_site(std::int64_t id, std::int64_t due);
  Result<std::int64_t> make_domain(const std::string& name);
  Result<void> remove_domain(std::int64_t id, DomainRow row);
  static Result<std::int64_t> first_after(Statement& statement, std::int64_t key, std::int64_t now);
  Result<std::int64_t> site_minimum(std::int64_t id);
  Result<void> remove_site_if_unused(std::int64_t id);

  // Dropped in this order reversed: statements before their database.
  Database database_;
  Statement insert_incoming_, delete_incoming_, incoming_ids_, incoming_head_;
  Statement insert_message_, move_message_, insert_body_, move_body_, insert_recipient_;
  Statement delete_message_, delete_body_, delete_recipients_, delete_attempts_;
  Statement message_row_, message_head_, body_, alive_, update_recipient_, update_message_;
  Statement insert_attempt_, trim_attempts_, set_logged_, exists_, damaged_incoming_;
  Statement domain_by_name_, domain_by_id_, insert_domain_, set_domain_due_, set_domain_site_;
  Statement site_trouble_, site_by_name_, site_by_id_, site_name_, insert_site_, set_site_wake_,
      set_site_;
  Statement due_sites_, due_domains_, due_messages_, due_deadlines_, set_deadline_;
  Statement domain_minimum_, next_in_domain_, next_in_site_, site_minimum_, next_wake_,
      next_deadline_;
  Statement delete_domain_, delete_site_;
  Statement get_meta_, set_meta_, pick_, of_domain_, end_of_piece_, unpick_;
  Statement mark_damaged_, find_dropped_, add_dropped_, forget_dropped_;

  // Remembered rows, each a copy of what is stored; emptied when they grow too many.
  std::unordered_map<std::string, std::int64_t> domain_ids_;
  std::unordered_map<std::int64_t, DomainRow> domains_;
  std::unordered_map<std::int64_t, SiteRow> sites_;
  bool has_blocked_sites_ = false;
  std::unordered_map<std::string, std::string> known_sites_;  // of domains without mail here
};

}  // namespace postrider::queue
