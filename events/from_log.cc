#include "events/from_log.h"

#include "events/event_fields.h"

#include "mail/smtp_command.h"
#include "mail/trace_parent.h"

#include <algorithm>
#include <string_view>

namespace postrider::events {

namespace {

// What an administrator must put right, and what says that it is.
struct AlarmName {
  std::string_view line;
  const char* alarm;
  bool is_on;
};
constexpr AlarmName kAlarms[] = {
    {"credentials_refused", "credentials_refused", true},
    {"no_token", "no_token", true},
    {"user_limited", "user_limited", true},
    {"disk_full", "disk_full", true},
    {"storage_failed", "storage_failed", true},
    {"storage_lost", "storage_failed", true},
    {"storage_reopened", "storage_failed", false},
    {"database_damaged", "database_damaged", true},
    {"indexes_rebuilt", "database_damaged", false},
    {"salvaged", "database_damaged", false},
    {"certificate_refused", "certificate_refused", true},
    {"pam_helper_ended", "pam_helper_ended", true},
    {"events_not_written", "events_not_written", true},
    {"events_written_again", "events_not_written", false},
    {"trace_not_written", "trace_not_written", true},
    {"trace_written_again", "trace_not_written", false},
};

// RFC 3463 §3.5: x.4.7 is "delivery time expired".
Kind kind_of_bounce(std::string_view dsn) {
  return dsn == "5.4.7" ? Kind::expired : Kind::bounced;
}

std::optional<Kind> kind_of_attempt(std::string_view verdict) {
  if (verdict == "sent")
    return Kind::delivered;
  return verdict == "bounced" ? Kind::bounced : Kind::deferred;
}

const AlarmName* alarm_of(std::string_view name) {
  const auto* const found = std::find_if(std::begin(kAlarms), std::end(kAlarms),
                                         [&](const auto& one) { return one.line == name; });
  return found == std::end(kAlarms) ? nullptr : found;
}

// The others are what a line means: an attempt by its verdict, an alarm by the name of the line.
bool has_line_of_its_own(Kind kind) {
  return kind != Kind::delivered && kind != Kind::bounced && kind != Kind::expired &&
         kind != Kind::alarm_on && kind != Kind::alarm_off;
}

template <class Line>
std::optional<Kind> kind_by_name(const Line& line, std::string_view name) {
  if (name == "attempted")
    return kind_of_attempt(line.value("verdict"));
  if (name == "bounced")
    return kind_of_bounce(line.value("dsn"));
  if (const auto kind = parse_kind(name); kind && has_line_of_its_own(*kind))
    return kind;
  if (const auto* const alarm = alarm_of(name))
    return alarm->is_on ? Kind::alarm_on : Kind::alarm_off;
  return {};
}

const char* class_of(std::string_view dsn) {
  if (dsn.starts_with("2."))
    return "success";
  return dsn.starts_with("4.") ? "transient" : dsn.starts_with("5.") ? "permanent" : "";
}

template <class Line>
void copy_fields(const Line& line, CloudEvent& event) {
  line.for_each([&](std::string_view key, std::string_view value) {
    if (key == kFrom) {
      event.has_from = true;
      event.from = value;
    } else if (key == "dsn_id") {
      event.tag = mail::decode_xtext(value).value_or(std::string(value));
    } else if (key == mail::kTraceParent) {
      event.traceparent = value;
    } else if (const auto* const field = find_field(key);
               field != nullptr && field->origin == Field::Origin::line) {
      event.*field->value = value;
    }
  });
}

template <class Line>
std::optional<CloudEvent> make_event(const Line& line, std::string_view name, std::string_view id) {
  const auto kind = kind_by_name(line, name);
  if (!kind)
    return {};
  CloudEvent event;
  event.kind = *kind;
  event.time = line.when;
  event.subject = id;
  copy_fields(line, event);
  event.message = id;
  if (*kind == Kind::rejected)
    event.subject = event.session;
  event.status_class = class_of(event.dsn);
  if (event.relay == "none")
    event.relay.clear();
  if (*kind == Kind::events_lost)
    event.subject = event.sink;
  if (*kind == Kind::site_blocked || *kind == Kind::site_open)
    event.subject = event.site;
  if (const auto* const alarm = alarm_of(name)) {
    event.alarm = alarm->alarm;
    event.subject = event.alarm;
  }
  return event;
}

}  // namespace

bool is_of_queue(Kind kind) {
  return kind <= Kind::released && kind != Kind::rejected;
}

std::optional<CloudEvent> event_of(const LogEvent& line) {
  return make_event(line, line.name(), line.id());
}

std::optional<Kind> kind_of(const queue::FactLine& line) {
  return kind_by_name(line, line.name);
}

std::optional<CloudEvent> event_of(const queue::Fact& fact) {
  const auto line = queue::decode_fact(fact.bytes);
  if (!line)
    return {};
  auto event = make_event(*line, line->name, line->id);
  if (event)
    event->fact = fact.number;
  return event;
}

}  // namespace postrider::events
