#include "queue/store/row_filter.h"

#include "base/text.h"
#include "queue/row_codec.h"

#include <algorithm>

namespace postrider::queue {

namespace {

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

void bind(Query& query, const std::optional<std::string>& value) {
  if (value)
    query.bind_text(*value);
  else
    query.bind_null();
}

void bind(Query& query, const std::optional<std::int64_t>& value) {
  if (value)
    query.bind(*value);
  else
    query.bind_null();
}

// "@domain" or an address.
void split_address(const std::optional<std::string>& given, std::optional<std::string>& address,
                   std::optional<std::string>& domain) {
  if (!given)
    return;
  if (given->starts_with('@'))
    domain = mail::domain_of(*given);
  else
    address = *given == "<>" ? std::string() : *given;
}

}  // namespace

bool Filter::matches_all() const {
  return ids.empty() && !from && !to && !domain && !site && !status && !reply && !older && !larger;
}

bool PreparedFilter::asks_for_message() const {
  return !ids_.empty() || sender_ || sender_domain_ || received_by_ || larger_;
}

bool PreparedFilter::asks_for_recipients() const {
  return to_ || to_domain_ || domain_ || site_ || reply_;
}

bool PreparedFilter::asks_for_status_only() const {
  return !asks_for_message() && !asks_for_recipients();
}

PreparedFilter::Text PreparedFilter::only_domain() const {
  if (asks_for_message() || status_ || to_ || site_ || reply_ || (domain_ && to_domain_))
    return std::nullopt;
  return domain_ ? domain_ : to_domain_;
}

PreparedFilter::PreparedFilter(const Filter& filter, TimePoint wall) : ids_(filter.ids) {
  std::sort(ids_.begin(), ids_.end());
  ids_.erase(std::unique(ids_.begin(), ids_.end()), ids_.end());
  split_address(filter.from, sender_, sender_domain_);
  split_address(filter.to, to_, to_domain_);
  if (filter.domain)
    domain_ = mail::domain_of("@" + *filter.domain);
  site_ = filter.site;
  status_ = filter.status;
  if (filter.reply)
    reply_ = ascii_lower(*filter.reply);
  if (filter.older)
    received_by_ = (wall - *filter.older).time_since_epoch().count();
  if (filter.larger)
    larger_ = static_cast<std::int64_t>(
        std::min<std::uint64_t>(*filter.larger, std::numeric_limits<std::int64_t>::max()));
}

void PreparedFilter::bind(Query& query, IdRange range, std::int64_t now) const {
  query.bind(range.after).bind(range.to);
  for (const auto* text :
       {&sender_, &sender_domain_, &to_, &to_domain_, &domain_, &site_, &status_, &reply_})
    queue::bind(query, *text);
  queue::bind(query, received_by_);
  queue::bind(query, larger_);
  query.bind(now);
}

bool PreparedFilter::matches(const mail::Message& message, bool is_leased) const {
  const auto& sender = message.envelope.sender;
  if (site_ || reply_)
    return false;  // never tried
  if (sender_ && !equals_ignoring_case(*sender_, sender))
    return false;
  if (sender_domain_ && *sender_domain_ != mail::domain_of(sender))
    return false;
  if (status_ && *status_ != (is_leased ? "active" : "queued"))
    return false;
  if (received_by_ && message.received.time_since_epoch().count() > *received_by_)
    return false;
  return !larger_ || static_cast<std::int64_t>(message.content.size) > *larger_;
}

bool PreparedFilter::matches(const mail::Recipient& recipient) const {
  if (to_ && !equals_ignoring_case(*to_, recipient.address))
    return false;
  if (!domain_ && !to_domain_)
    return true;
  const auto domain = mail::domain_of(recipient.address);
  return (!domain_ || *domain_ == domain) && (!to_domain_ || *to_domain_ == domain);
}

Result<std::optional<std::vector<mail::MessageId>>> PreparedFilter::candidates(
    Statement& of_domain) const {
  // Beyond that, going through all in order finds a page of them soon enough.
  constexpr std::size_t kWorthIt = 10'000;
  using Candidates = std::optional<std::vector<mail::MessageId>>;
  if (!ids_.empty())
    return Candidates(ids_);
  const auto& domain = domain_ ? domain_ : to_domain_;
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
