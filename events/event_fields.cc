#include "events/event_fields.h"

#include <algorithm>
#include <array>

namespace postrider::events {

namespace {

constexpr std::array<const char*, kKinds> kKindNames = {
    "accepted", "rejected", "deferred",     "delivered", "bounced",  "expired",   "removed",
    "held",     "released", "site_blocked", "site_open", "alarm_on", "alarm_off", "events_lost"};

constexpr auto kNumber = Field::Form::number;
constexpr auto kDerived = Field::Origin::derived;

constexpr Field kFields[] = {
    {"id", &CloudEvent::message, Field::Form::text, kDerived},
    {"session", &CloudEvent::session},
    {"message_id", &CloudEvent::message_id},
    {"tag", &CloudEvent::tag, Field::Form::text, kDerived},
    {"to", &CloudEvent::to},
    {"nrcpt", &CloudEvent::nrcpt, kNumber},
    {"size", &CloudEvent::size, kNumber},
    {"client", &CloudEvent::client},
    {"client_name", &CloudEvent::client_name},
    {"helo", &CloudEvent::helo},
    {"user", &CloudEvent::user},
    {"mechanism", &CloudEvent::mechanism},
    {"protocol", &CloudEvent::protocol},
    {"tls", &CloudEvent::tls},
    {"stage", &CloudEvent::stage},
    {"reply", &CloudEvent::reply},
    {"attempt", &CloudEvent::attempt, kNumber},
    {"relay", &CloudEvent::relay},
    {"dsn", &CloudEvent::dsn},
    {"class", &CloudEvent::status_class, Field::Form::text, kDerived},
    {"reason", &CloudEvent::reason},
    {"delay", &CloudEvent::delay, kNumber},
    {"delays", &CloudEvent::delays},
    {"reused", &CloudEvent::reused},
    {"site", &CloudEvent::site},
    {"until", &CloudEvent::until},
    {"failures", &CloudEvent::failures, kNumber},
    {"alarm", &CloudEvent::alarm, Field::Form::text, kDerived},
    {"by", &CloudEvent::by},
    {"uid", &CloudEvent::uid, kNumber},
    {"count", &CloudEvent::count, kNumber},
    {"sink", &CloudEvent::sink},
};

}  // namespace

const char* name_of(Kind kind) {
  return kKindNames[static_cast<std::size_t>(kind)];
}

std::optional<Kind> parse_kind(std::string_view name) {
  const auto found = std::find(kKindNames.begin(), kKindNames.end(), name);
  if (found == kKindNames.end())
    return {};
  return static_cast<Kind>(found - kKindNames.begin());
}

std::span<const Field> fields() {
  return kFields;
}

const Field* find_field(std::string_view name) {
  const auto* const found = std::find_if(std::begin(kFields), std::end(kFields),
                                         [&](const auto& one) { return one.name == name; });
  return found == std::end(kFields) ? nullptr : found;
}

}  // namespace postrider::events
