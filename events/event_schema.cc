#include "events/event_schema.h"

#include "events/event_fields.h"

#include "base/json.h"
#include "base/text.h"
#include "mail/trace_parent.h"

#include <boost/json/serialize.hpp>

#include <charconv>
#include <iterator>

namespace postrider::events {

namespace {

constexpr std::string_view kTypePrefix = "postrider.";

bool is_digits(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

// "0", "12", "0.53": what is a number in the log is one in JSON.
bool is_number(std::string_view text) {
  if (text.size() > 20)
    return false;
  const auto point = text.find('.');
  const auto whole = text.substr(0, point);
  return is_digits(whole) && (whole.size() == 1 || whole.front() != '0') &&
         (point == std::string_view::npos || is_digits(text.substr(point + 1)));
}

void append_string(std::string_view value, std::string& out) {
  if (value.size() > kMostValue || !is_utf8(value))
    out.append(boost::json::serialize(boost::json::string_view(escaped(value, kMostValue))));
  else
    out.append(boost::json::serialize(boost::json::string_view(value)));
}

void append_field(const Field& field, const CloudEvent& event, std::string& out) {
  const std::string& value = event.*field.value;
  if (value.empty())
    return;
  if (field.is_number())
    append_number(field.name, value, out);
  else
    append_member(field.name, value, out);
}

// The text of a member; empty if there is none. False: it is there and no string.
bool take_string(const boost::json::object& object, const char* name, std::string& value) {
  const auto* const found = object.if_contains(name);
  if (found == nullptr)
    return true;
  if (!found->is_string())
    return false;
  value = std::string(found->get_string());
  return true;
}

bool take_number(const boost::json::object& object, const char* name, std::string& value) {
  const auto* const found = object.if_contains(name);
  if (found == nullptr)
    return true;
  if (!found->is_number())
    return false;
  value = found->is_double() ? std::string() : boost::json::serialize(*found);
  if (found->is_double()) {
    char digits[400];
    const auto end = std::to_chars(std::begin(digits), std::end(digits), found->get_double(),
                                   std::chars_format::fixed);
    value.assign(digits, end.ptr);
  }
  return is_number(value);
}

bool two_digits(std::string_view text, std::size_t at, int& value) {
  const auto part = text.substr(at, 2);
  return is_digits(part) && std::from_chars(part.data(), part.data() + 2, value).ptr != nullptr;
}

// What format_rfc3339() writes, and nothing else.
std::optional<TimePoint> parse_time(std::string_view text) {
  int century = 0, year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0, tens = 0;
  if (text.size() != 24 || !two_digits(text, 0, century) || !two_digits(text, 2, year) ||
      !two_digits(text, 5, month) || !two_digits(text, 8, day) || !two_digits(text, 11, hour) ||
      !two_digits(text, 14, minute) || !two_digits(text, 17, second) ||
      !two_digits(text, 20, tens) || text[22] < '0' || text[22] > '9')
    return {};
  const std::chrono::year_month_day date(std::chrono::year(century * 100 + year),
                                         std::chrono::month(static_cast<unsigned>(month)),
                                         std::chrono::day(static_cast<unsigned>(day)));
  if (!date.ok() || hour > 23 || minute > 59 || second > 60)
    return {};
  const auto seconds =
      std::chrono::hours(hour) + std::chrono::minutes(minute) + std::chrono::seconds(second);
  const TimePoint when =
      TimePoint(std::chrono::sys_days(date)) + seconds + Duration(tens * 10 + (text[22] - '0'));
  return format_rfc3339(when) == text ? std::optional(when) : std::nullopt;
}

Error bad(const char* what) {
  return malformed(std::string("event: ") + what);
}

Result<void> take_attributes(const boost::json::object& object, CloudEvent& event) {
  std::string version, type, time;
  if (!take_string(object, "specversion", version) || version != "1.0")
    return bad("specversion");
  if (!take_string(object, "id", event.id) || event.id.empty())
    return bad("id");
  if (!take_string(object, "source", event.source) || event.source.empty())
    return bad("source");
  if (!take_string(object, "type", type) || !type.starts_with(kTypePrefix))
    return bad("type");
  const auto kind = parse_kind(std::string_view(type).substr(kTypePrefix.size()));
  if (!kind)
    return bad("type");
  event.kind = *kind;
  const auto when = take_string(object, "time", time) ? parse_time(time) : std::nullopt;
  if (!when)
    return bad("time");
  event.time = *when;
  if (!take_string(object, "subject", event.subject))
    return bad("subject");
  if (!take_string(object, "traceparent", event.traceparent) ||
      (!event.traceparent.empty() && !mail::is_trace_parent(event.traceparent)))
    return bad("traceparent");
  return {};
}

Result<void> take_data(const boost::json::object& data, CloudEvent& event) {
  for (const auto& field : fields()) {
    std::string& value = event.*field.value;
    const bool taken = field.is_number() ? take_number(data, field.name, value)
                                         : take_string(data, field.name, value);
    if (!taken)
      return bad(field.name);
  }
  event.has_from = data.contains(kFrom);
  if (!take_string(data, "from", event.from))
    return bad("from");
  return {};
}

}  // namespace

void append_member(std::string_view name, std::string_view value, std::string& out) {
  if (out.back() != '{')
    out.push_back(',');
  out.append("\"").append(name).append("\":");
  append_string(value, out);
}

void append_number(std::string_view name, std::string_view value, std::string& out) {
  if (!is_number(value))
    return;
  if (out.back() != '{')
    out.push_back(',');
  out.append("\"").append(name).append("\":").append(value);
}

std::string encode(const CloudEvent& event) {
  std::string out;
  out.reserve(1024);
  out.push_back('{');
  append_member("specversion", "1.0", out);
  append_member("id", event.id, out);
  append_member("source", event.source, out);
  append_member("type", std::string(kTypePrefix).append(name_of(event.kind)), out);
  append_member("time", format_rfc3339(event.time), out);
  if (!event.subject.empty())
    append_member("subject", event.subject, out);
  if (mail::is_trace_parent(event.traceparent))
    append_member("traceparent", event.traceparent, out);
  append_member("datacontenttype", "application/json", out);
  out.append(",\"data\":{");
  for (const auto& field : fields()) {
    if (field.value == &CloudEvent::to && event.has_from)
      append_member(kFrom, event.from, out);
    append_field(field, event, out);
  }
  return out.append("}}");
}

Result<CloudEvent> decode(std::string_view text) {
  if (text.size() > kMostEvent)
    return Error(Errc::too_long, "read an event");
  const auto object = parse_json_object(text, {.members = 64, .depth = 4, .values = 256});
  if (!object)
    return object.error();
  CloudEvent event;
  if (auto taken = take_attributes(*object, event); !taken)
    return taken.error();
  const auto* const data = object->if_contains("data");
  if (data == nullptr || !data->is_object())
    return bad("data");
  if (auto taken = take_data(data->get_object(), event); !taken)
    return taken.error();
  return event;
}

}  // namespace postrider::events
