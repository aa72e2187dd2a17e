#include "queue/store/row_filter.h"

#include "base/text.h"
#include "queue/row_codec.h"
#include "queue/store/sql_names.h"

#include <algorithm>

namespace postrider::queue {

namespace {

constexpr std::string_view kOfMessage =
    " AND (:sender IS NULL OR m.sender = :sender COLLATE NOCASE)"
    " AND (:sender_domain IS NULL OR in_domain(m.sender, :sender_domain))"
    " AND (:status IS NULL OR :status = CASE WHEN is_leased(m.id) THEN 'active'"
    " WHEN m.waiting = 0 THEN 'held' WHEN m.tried THEN 'deferred' ELSE 'queued' END)"
    " AND (:received_by IS NULL OR m.received <= :received_by)"
    " AND (:larger IS NULL OR m.size > :larger)";

constexpr std::string_view kRecipients =
    " FROM message m CROSS JOIN recipient r ON r.message = m.id"
    " LEFT JOIN domain d ON d.id = r.domain LEFT JOIN site s ON s.id = d.site"
    " WHERE m.id > :after AND m.id <= :up_to AND r.state < {ended}"
    " AND (:to IS NULL OR r.address = :to COLLATE NOCASE)"
    " AND (:to_domain IS NULL OR in_domain(r.address, :to_domain))"
    " AND (:domain IS NULL OR d.name = :domain"
    " OR (instr(d.name, '://') > 0 AND in_domain(r.address, :domain)))"
    " AND (:site IS NULL OR s.name = :site)"
    " AND (:reply IS NULL OR says(r.last, :reply)"
    " OR (s.blocked_until > :now AND says(s.last, :reply)))";

constexpr std::string_view kMessages = " FROM message m WHERE m.id > :after AND m.id <= :up_to";

// In the order of FilterStatement::bind().
constexpr const char* kFilterParameters[] = {
    ":after",     ":up_to",  ":now",  ":states", ":sender", ":sender_domain", ":to",
    ":to_domain", ":domain", ":site", ":status", ":reply",  ":received_by",   ":larger"};

std::string_view text_of(sqlite3_value* value) {
  const auto* bytes = sqlite3_value_blob(value);
  const auto size = static_cast<std::size_t>(sqlite3_value_bytes(value));
  return bytes == nullptr ? std::string_view()
                          : std::string_view(static_cast<const char*>(bytes), size);
}

void in_domain(sqlite3_context* context, int, sqlite3_value** values) {
  sqlite3_result_int(context, mail::domain_of(text_of(values[0])) == text_of(values[1]) ? 1 : 0);
}

void says(sqlite3_context* context, int, sqlite3_value** values) {
  const auto outcome = decode_outcome(text_of(values[0]));
  const bool found =
      outcome && ascii_lower(outcome->reason()).find(text_of(values[1])) != std::string::npos;
  sqlite3_result_int(context, found ? 1 : 0);
}

void is_leased(sqlite3_context* context, int, sqlite3_value** values) {
  const auto* leases = static_cast<const Leases*>(sqlite3_user_data(context));
  sqlite3_result_int(context, leases->is_leased({sqlite3_value_int64(values[0])}) ? 1 : 0);
}

void bind_optional(Query& query, const std::optional<std::string>& value) {
  if (value)
    query.bind_text(*value);
  else
    query.bind_null();
}

void bind_optional(Query& query, const std::optional<std::int64_t>& value) {
  if (value)
    query.bind(*value);
  else
    query.bind_null();
}

}  // namespace

Result<void> FilterStatement::prepare(Database& database, const std::string& sql) {
  static_assert(std::size(kFilterParameters) == kParameters);
  auto prepared = prepare_named(database, sql);
  if (!prepared)
    return prepared.error();
  statement_ = *std::move(prepared);
  std::transform(std::begin(kFilterParameters), std::end(kFilterParameters), numbers_.begin(),
                 [this](const char* name) { return statement_.parameter(name); });
  return {};
}

Result<void> FilterStatement::prepare_recipients(Database& database, const std::string& select,
                                                 const std::string& rest) {
  return prepare(database, select + std::string(kRecipients) + std::string(kOfMessage) + rest);
}

Result<void> FilterStatement::prepare_messages(Database& database, const std::string& select) {
  return prepare(database, select + std::string(kMessages) + std::string(kOfMessage));
}

Query& FilterStatement::bind(Query& query, const PreparedFilter& filter, const Scope& scope) const {
  auto number = numbers_.begin();
  const auto bind_next = [&](const auto& value) {
    if (const int at = *number++; at > 0)
      bind_optional(query.at(at), value);
  };
  for (const std::int64_t value :
       {scope.range.after, scope.range.to, scope.now, std::int64_t{scope.states}})
    bind_next(std::optional(value));
  const auto& wanted = filter.wanted();
  for (const auto* text : {&wanted.sender, &wanted.sender_domain, &wanted.to, &wanted.to_domain,
                           &wanted.domain, &wanted.site, &wanted.status, &wanted.reply})
    bind_next(*text);
  bind_next(wanted.received_by);
  bind_next(wanted.larger);
  return query;
}

Result<std::optional<std::vector<mail::MessageId>>> find_candidates(const PreparedFilter& filter,
                                                                    Statement& of_domain) {
  // Beyond that, going through all in order finds a page of them soon enough.
  constexpr std::size_t kWorthIt = 10'000;
  using Candidates = std::optional<std::vector<mail::MessageId>>;
  if (!filter.ids().empty())
    return Candidates(filter.ids());
  const auto& wanted = filter.wanted();
  const auto& domain = wanted.domain ? wanted.domain : wanted.to_domain;
  if (!domain)
    return Candidates();
  auto found = Query(of_domain).bind_text(*domain).bind(kWorthIt + 1).rows([](const Query& row) {
    return mail::MessageId{row.integer(0)};
  });
  if (!found)
    return found.error();
  if (found->size() > kWorthIt)
    return Candidates();
  std::sort(found->begin(), found->end());
  return Candidates(*std::move(found));
}

Result<void> add_filter_functions(Database& database, const Leases& leases) {
  using Function = void (*)(sqlite3_context*, int, sqlite3_value**);
  const struct {
    const char* name;
    int parameters;
    Function function;
  } all[] = {{"in_domain", 2, in_domain}, {"says", 2, says}, {"is_leased", 1, is_leased}};
  for (const auto& each : all)
    if (sqlite3_create_function_v2(database.handle(), each.name, each.parameters,
                                   SQLITE_UTF8 | SQLITE_DIRECTONLY, const_cast<Leases*>(&leases),
                                   each.function, nullptr, nullptr, nullptr) != SQLITE_OK)
      return sqlite_error(database.handle(), "add function");
  return {};
}

}  // namespace postrider::queue
