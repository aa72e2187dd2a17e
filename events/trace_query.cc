#include "events/trace_query.h"

#include "base/text.h"
#include "mail/envelope.h"
#include "mail/message_id.h"

#include <ctime>

namespace postrider::events {

namespace {

constexpr std::size_t kMostPattern = 1000;  // a line of a header has no more

Error unusable(const char* what, std::string_view given, const char* allowed) {
  return Error(Errc::malformed,
               std::string(what) + "\"" + escaped(given, 100) + "\" is not " + allowed);
}

std::string without_brackets(std::string_view text) {
  text = trim(text);
  if (text.size() >= 2 && text.front() == '<' && text.back() == '>')
    text = text.substr(1, text.size() - 2);
  return std::string(text);
}

Result<std::optional<std::string>> pattern_of(const char* option,
                                              const std::optional<std::string>& given) {
  if (!given)
    return std::optional<std::string>();
  if (given->size() > kMostPattern)
    return unusable(option, *given, "an address");
  return std::optional(without_brackets(*given));
}

std::string_view from_of(const queue::FactLine& step, bool& is_there) {
  for (const auto& [key, value] : step.fields)
    if (key == "from") {
      is_there = true;
      return value;
    }
  is_there = false;
  return {};
}

bool is_from(std::string_view pattern, const queue::FactLine& step) {
  bool is_there = false;
  const auto from = from_of(step, is_there);
  return is_there && is_meant(pattern, from);
}

bool is_to(std::string_view pattern, const queue::FactLine& step) {
  const auto to = step.value("to");
  return !to.empty() && is_meant(pattern, to);
}

// Reads so many digits at the front.
bool take_number(std::string_view& text, std::size_t digits, int& value) {
  const auto number = text.size() < digits ? std::nullopt : parse_unsigned(text.substr(0, digits));
  if (!number)
    return false;
  value = static_cast<int>(*number);
  text.remove_prefix(digits);
  return true;
}

bool take(std::string_view& text, char wanted) {
  if (text.empty() || text.front() != wanted)
    return false;
  text.remove_prefix(1);
  return true;
}

// "2026-11-29", "2026-11-29T13:05", "2026-11-29 13:05:30", each perhaps with "Z" behind the time.
std::optional<std::tm> take_date(std::string_view& text) {
  std::tm date{};
  date.tm_isdst = -1;
  if (!take_number(text, 4, date.tm_year) || !take(text, '-') ||
      !take_number(text, 2, date.tm_mon) || !take(text, '-') || !take_number(text, 2, date.tm_mday))
    return {};
  if (date.tm_year < 1970 || date.tm_mon < 1 || date.tm_mon > 12 || date.tm_mday < 1 ||
      date.tm_mday > 31)
    return {};
  date.tm_year -= 1900;
  date.tm_mon -= 1;
  if (!take(text, 'T') && !take(text, ' '))
    return date;
  if (!take_number(text, 2, date.tm_hour) || !take(text, ':') ||
      !take_number(text, 2, date.tm_min) || date.tm_hour > 23 || date.tm_min > 59)
    return {};
  if (take(text, ':') && (!take_number(text, 2, date.tm_sec) || date.tm_sec > 60))
    return {};
  int part = 0;
  if (take(text, '.') && !take_number(text, 3, part))
    return {};
  return date;
}

}  // namespace

Result<TimePoint> parse_since(const std::string& text, TimePoint now) {
  constexpr const char* kAllowed =
      "a time such as 90m, 2h or 5d, or a date such as 2026-11-29 or 2026-11-29T13:05";
  if (const auto span = parse_duration(text))
    return now - std::min(*span, now.time_since_epoch());
  std::string_view left = text;
  auto date = take_date(left);
  if (!date)
    return unusable("--since: ", text, kAllowed);
  const bool is_utc = take(left, 'Z');
  const auto day = date->tm_mday;
  const auto seconds = is_utc ? ::timegm(&*date) : ::mktime(&*date);
  if (!left.empty() || seconds < 0 || date->tm_mday != day)
    return unusable("--since: ", text, kAllowed);
  return TimePoint(std::chrono::seconds(seconds));
}

Result<TraceQuery> parse_trace_query(const TraceWords& words, TimePoint now) {
  TraceQuery query;
  query.rejected = words.rejected;
  if (words.target.size() > kMostPattern)
    return unusable("", words.target, "a queue id, an address or a Message-ID");
  if (const auto id = mail::parse_message_id(words.target))
    query.id = mail::to_string(*id);
  else if (!words.target.empty())
    query.any = without_brackets(words.target);
  if (query.rejected && !query.id.empty())
    return Error(Errc::malformed, "refused mail has no queue id: --rejected goes without one");
  auto from = pattern_of("--from: ", words.from);
  auto to = pattern_of("--to: ", words.to);
  if (!from || !to)
    return from ? to.error() : from.error();
  query.from = *std::move(from);
  query.to = *std::move(to);
  if (!words.since.empty()) {
    const auto since = parse_since(words.since, now);
    if (!since)
      return since.error();
    query.since = *since;
  }
  if (query.matches_all() && !query.since && !query.rejected)
    return Error(Errc::malformed,
                 "say which mail: a queue id, an address, a Message-ID, or an option");
  return query;
}

bool is_meant(std::string_view pattern, std::string_view address) {
  if (pattern.size() > 1 && pattern.front() == '@')
    return mail::domain_of(address) == mail::domain_of(std::string("x").append(pattern));
  return is_same_address(pattern, address);
}

bool has_message_id(const TraceQuery& query, const queue::FactLine& step) {
  const auto id = step.value("message_id");
  return query.any && !id.empty() && bare_message_id(id) == *query.any;
}

bool is_match(const TraceQuery& query, const queue::FactLine& step) {
  if (has_message_id(query, step))
    return true;
  if (query.since && step.when < *query.since)
    return false;
  if (query.from && !is_from(*query.from, step))
    return false;
  if (query.to && !is_to(*query.to, step))
    return false;
  return !query.any || is_from(*query.any, step) || is_to(*query.any, step);
}

bool is_shown(const TraceQuery& query, const queue::FactLine& step) {
  if (step.name == "accepted" || step.value("to").empty())
    return true;
  if (query.to && !is_to(*query.to, step))
    return false;
  return !query.any || is_from(*query.any, step) || is_to(*query.any, step);
}

}  // namespace postrider::events
