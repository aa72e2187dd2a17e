// What a Filter means: in SQL for waiting mail, in memory for mail that has just arrived.
#pragma once

#include "queue/leases.h"
#include "queue/store/sqlite.h"

// What a filter says of the message itself.
#define POSTRIDER_OF_MESSAGE                                                            \
  " AND (?3 IS NULL OR m.sender = ?3 COLLATE NOCASE)"                                   \
  " AND (?4 IS NULL OR in_domain(m.sender, ?4))"                                        \
  " AND (?9 IS NULL OR ?9 = CASE WHEN is_leased(m.id) THEN 'active' WHEN m.waiting = 0" \
  " THEN 'held' WHEN m.tried THEN 'deferred' ELSE 'queued' END)"                        \
  " AND (?11 IS NULL OR m.received <= ?11)"                                             \
  " AND (?12 IS NULL OR m.size > ?12)"

// Tables and condition for `SELECT ... FROM`: m message, r recipient, d domain, s site. Constant
// text, all values bound by bind_filter(); a condition whose parameter is NULL lets all through.
#define POSTRIDER_FILTERED                                                             \
  " message m CROSS JOIN recipient r ON r.message = m.id"                              \
  " LEFT JOIN domain d ON d.id = r.domain LEFT JOIN site s ON s.id = d.site"           \
  " WHERE m.id > ?1 AND m.id <= ?2 AND r.state < {ended}"                              \
  " AND (?5 IS NULL OR r.address = ?5 COLLATE NOCASE)"                                 \
  " AND (?6 IS NULL OR in_domain(r.address, ?6))"                                      \
  " AND (?7 IS NULL OR d.name = ?7)"                                                   \
  " AND (?8 IS NULL OR s.name = ?8)"                                                   \
  " AND (?10 IS NULL OR says(r.last, ?10) OR (s.blocked_until > ?13 AND says(s.last, " \
  "?10)))" POSTRIDER_OF_MESSAGE

namespace postrider::queue {

struct IdRange {
  std::int64_t after = 0;
  std::int64_t to = std::numeric_limits<std::int64_t>::max();
};

// A Filter with its texts in the form that is compared.
class PreparedFilter {
 public:
  using Text = std::optional<std::string>;
  PreparedFilter(const Filter& filter, TimePoint wall);
  // The thirteen parameters. now: queue time.
  void bind(Query& query, IdRange range, std::int64_t now) const;
  // For a message in `incoming`.
  bool matches(const mail::Message& message, bool is_leased) const;
  bool matches(const mail::Recipient& recipient) const;
  const std::vector<mail::MessageId>& ids() const { return ids_; }
  // What kind of filter it is, for those that count.
  bool asks_for_status_only() const;  // or for nothing
  bool asks_for_recipients() const;
  const Text& status() const { return status_; }
  Text only_domain() const;  // if it asks for nothing but the domain of a recipient
  // Ids that waiting mail must have to match, sorted; nullopt: any. of_domain: POSTRIDER_OF_DOMAIN.
  Result<std::optional<std::vector<mail::MessageId>>> candidates(Statement& of_domain) const;

 private:
  bool asks_for_message() const;
  std::vector<mail::MessageId> ids_;  // sorted
  Text sender_, sender_domain_, to_, to_domain_, domain_, site_, status_, reply_;
  std::optional<std::int64_t> received_by_, larger_;
};

// Messages with living recipients of a domain, for filters that name one: far fewer than all.
#define POSTRIDER_OF_DOMAIN                                         \
  "SELECT DISTINCT message FROM recipient INDEXED BY recipient_due" \
  " WHERE domain = (SELECT id FROM domain WHERE name = ?) AND state < {ended} LIMIT ?"

// in_domain(address, domain), says(outcome, text), is_leased(id)
Result<void> add_filter_functions(Database& database, const Leases& leases);

}  // namespace postrider::queue
