// What a Filter means in SQL, for waiting mail.
#pragma once

#include "queue/leases.h"
#include "queue/store/prepared_filter.h"
#include "queue/store/rows.h"
#include "queue/store/sqlite.h"

#include <array>

namespace postrider::queue {

// A statement with the conditions of a filter. Its text is constant: a condition that the filter
// does not make lets all through. Requires: add_filter_functions().
class FilterStatement {
 public:
  struct Scope {
    IdRange range;
    std::int64_t now = 0;  // queue time
    unsigned states = 0;   // of recipients, a bit for each; for `:states` alone
  };
  // Living recipients: m message, r recipient, d domain, s site. select: what is taken of them;
  // rest: more conditions, or their order. Text with names (queue/store/sql_names.h).
  Result<void> prepare_recipients(Database& database, const std::string& select,
                                  const std::string& rest = {});
  // Messages: m message. What the filter says of recipients does not count.
  Result<void> prepare_messages(Database& database, const std::string& select);
  // To be bound before it runs. filter must outlive the Query.
  Query& bind(Query& query, const PreparedFilter& filter, const Scope& scope) const;
  Statement& statement() { return statement_; }

 private:
  Result<void> prepare(Database& database, const std::string& sql);
  static constexpr std::size_t kParameters = 14;
  Statement statement_;
  std::array<int, kParameters> numbers_{};  // of each parameter; 0: it has none
};

// Messages with living recipients of a domain, for filters that name one: far fewer than all. Among
// them are all that were rerouted.
inline constexpr std::string_view kMessagesOfDomain =
    "SELECT DISTINCT message FROM recipient INDEXED BY recipient_due"
    " WHERE domain IN (SELECT id FROM domain WHERE name = ?1 UNION ALL SELECT id FROM domain WHERE"
    " ((name >= 'lmtp' AND name < 'lmtq') OR (name >= 'smtp' AND name < 'smtq'))"
    " AND instr(name, '://') > 0) AND state < {ended} LIMIT ?2";

// Ids that waiting mail must have to match, sorted; nullopt: any. of_domain: kMessagesOfDomain.
Result<std::optional<std::vector<mail::MessageId>>> find_candidates(const PreparedFilter& filter,
                                                                    Statement& of_domain);

// in_domain(address, domain), says(outcome, text), is_leased(id)
Result<void> add_filter_functions(Database& database, const Leases& leases);

}  // namespace postrider::queue
