#include "mail/delivery_wishes.h"

#include "base/text.h"

#include <algorithm>
#include <cstdio>

namespace postrider::mail {

namespace {

constexpr std::size_t kMostSecondsDigits = 9;  // of seconds (RFC 2852 §4, RFC 4865 §4)

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

bool are_digits(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), is_digit);
}

// Exactly so many digits at the front.
std::optional<unsigned> take_digits(std::string_view& text, std::size_t count) {
  if (text.size() < count || !are_digits(text.substr(0, count)))
    return std::nullopt;
  unsigned number = 0;
  for (const char c : text.substr(0, count))
    number = number * 10 + static_cast<unsigned>(c - '0');
  text.remove_prefix(count);
  return number;
}

bool take(std::string_view& text, char wanted) {
  if (text.empty() || ascii_lower(text.front()) != ascii_lower(wanted))
    return false;
  text.remove_prefix(1);
  return true;
}

std::optional<std::chrono::sys_days> take_date(std::string_view& text) {
  const auto year = take_digits(text, 4);
  if (!year || !take(text, '-'))
    return std::nullopt;
  const auto month = take_digits(text, 2);
  if (!month || !take(text, '-'))
    return std::nullopt;
  const auto day = take_digits(text, 2);
  if (!day)
    return std::nullopt;
  const std::chrono::year_month_day date{std::chrono::year(static_cast<int>(*year)),
                                         std::chrono::month(*month), std::chrono::day(*day)};
  if (!date.ok())
    return std::nullopt;
  return std::chrono::sys_days(date);
}

// "13:34:44.5"; a leap second is the first of the next minute.
std::optional<std::chrono::seconds> take_time(std::string_view& text) {
  const auto hour = take_digits(text, 2);
  if (!hour || *hour > 23 || !take(text, ':'))
    return std::nullopt;
  const auto minute = take_digits(text, 2);
  if (!minute || *minute > 59 || !take(text, ':'))
    return std::nullopt;
  const auto second = take_digits(text, 2);
  if (!second || *second > 60)
    return std::nullopt;
  std::chrono::seconds time(*hour * 3600 + *minute * 60 + *second);
  if (take(text, '.')) {
    const auto part = text.substr(0, text.find_first_not_of("0123456789"));
    if (part.empty())
      return std::nullopt;
    text.remove_prefix(part.size());
    if (part.find_first_not_of('0') != part.npos)
      ++time;
  }
  return time;
}

// "Z" or "+01:00": how much later it is there than in UTC.
std::optional<std::chrono::seconds> take_zone(std::string_view& text) {
  if (take(text, 'Z'))
    return std::chrono::seconds(0);
  const bool is_west = take(text, '-');
  if (!is_west && !take(text, '+'))
    return std::nullopt;
  const auto hours = take_digits(text, 2);
  if (!hours || *hours > 23 || !take(text, ':'))
    return std::nullopt;
  const auto minutes = take_digits(text, 2);
  if (!minutes || *minutes > 59)
    return std::nullopt;
  const std::chrono::seconds offset(*hours * 3600 + *minutes * 60);
  return is_west ? -offset : offset;
}

}  // namespace

std::optional<ByRequest> parse_by(std::string_view value) {
  ByRequest request;
  const bool is_negative = take(value, '-');
  if (!is_negative)
    take(value, '+');
  const auto digits = value.substr(0, value.find(';'));
  if (digits.size() > kMostSecondsDigits || !are_digits(digits))
    return std::nullopt;
  value.remove_prefix(digits.size());
  request.seconds = static_cast<std::int32_t>(parse_unsigned(digits).value_or(0));
  if (is_negative)
    request.seconds = -request.seconds;
  if (!take(value, ';'))
    return std::nullopt;
  request.returns = take(value, 'R');
  if (!request.returns && !take(value, 'N'))
    return std::nullopt;
  request.traces = take(value, 'T');
  if (!value.empty() || (request.returns && request.seconds <= 0))
    return std::nullopt;
  return request;
}

std::optional<Duration> parse_hold_for(std::string_view value) {
  if (value.size() > kMostSecondsDigits || !are_digits(value) || value.front() == '0')
    return std::nullopt;
  return std::chrono::seconds(parse_unsigned(value).value_or(0));
}

std::optional<TimePoint> parse_date_time(std::string_view value) {
  const auto date = take_date(value);
  if (!date || !take(value, 'T'))
    return std::nullopt;
  const auto time = take_time(value);
  if (!time)
    return std::nullopt;
  const auto offset = take_zone(value);
  if (!offset || !value.empty())
    return std::nullopt;
  return std::max(TimePoint(*date + *time - *offset), TimePoint());
}

std::string format_date_time(TimePoint when) {
  const auto midnight = std::chrono::floor<std::chrono::days>(when);
  const std::chrono::year_month_day day(midnight);
  const std::chrono::hh_mm_ss time(std::chrono::floor<std::chrono::seconds>(when - midnight));
  char text[64];
  const int size = std::snprintf(
      text, sizeof text, "%04d-%02u-%02uT%02d:%02d:%02dZ", static_cast<int>(day.year()),
      static_cast<unsigned>(day.month()), static_cast<unsigned>(day.day()),
      static_cast<int>(time.hours().count()), static_cast<int>(time.minutes().count()),
      static_cast<int>(time.seconds().count()));
  return {text, static_cast<std::size_t>(size)};
}

std::optional<std::int8_t> parse_priority(std::string_view value) {
  const bool is_negative = take(value, '-');
  if (value.size() != 1 || !is_digit(value.front()) || (is_negative && value.front() == '0'))
    return std::nullopt;
  const int priority = value.front() - '0';
  return static_cast<std::int8_t>(is_negative ? -priority : priority);
}

}  // namespace postrider::mail
