#include "events/from_log.h"

#include "events/event_schema.h"

#include <catch2/catch.hpp>

using namespace postrider;
using namespace postrider::events;

namespace {

LogEvent attempted(const char* verdict, const char* dsn) {
  return LogEvent(Level::info, "attempted", "01ABC")
      .add("verdict", verdict)
      .add("from", "")
      .add("to", "b@example.net")
      .add("relay", "mx[192.0.2.1]:25")
      .add("delay", "0.5")
      .add("delays", "0/0/0.1/0.4")
      .add("dsn", dsn)
      .add("dsn_id", "order+2B17")
      .add("attempt", "1")
      .add("reason", "host mx said: 250 ok");
}

}  // namespace

TEST_CASE("an attempt is an event by its verdict", "[events]") {
  const auto sent = event_of(attempted("sent", "2.0.0"));
  REQUIRE(sent.has_value());
  CHECK(sent->kind == Kind::delivered);
  CHECK(sent->message == "01ABC");
  CHECK(sent->subject == "01ABC");
  CHECK((sent->has_from && sent->from.empty()));
  CHECK(sent->tag == "order+17");
  CHECK(sent->status_class == "success");
  CHECK(event_of(attempted("deferred", "4.4.1"))->kind == Kind::deferred);
  CHECK(event_of(attempted("deferred", "4.4.1"))->status_class == "transient");
  CHECK(event_of(attempted("bounced", "5.1.1"))->kind == Kind::bounced);
}

TEST_CASE("given up: expired or bounced", "[events]") {
  CHECK(event_of(LogEvent(Level::info, "bounced", "X").add("dsn", "5.4.7"))->kind == Kind::expired);
  CHECK(event_of(LogEvent(Level::info, "bounced", "X").add("dsn", "5.7.0"))->kind == Kind::bounced);
}

TEST_CASE("a refusal is about its session, not about a message", "[events]") {
  const auto event = event_of(LogEvent(Level::info, "rejected")
                                  .add("session", "S1")
                                  .add("stage", "RCPT")
                                  .add("reply", "550 5.1.1 no")
                                  .add("client", "192.0.2.7")
                                  .add("from", "a@example.org")
                                  .add("to", "b"));
  REQUIRE(event.has_value());
  CHECK(event->kind == Kind::rejected);
  CHECK(event->session == "S1");
  CHECK(event->subject == "S1");
  CHECK(event->message.empty());
  CHECK(event->reply == "550 5.1.1 no");
}

TEST_CASE("sites and alarms have their names as subject", "[events]") {
  const auto site = event_of(LogEvent(Level::warn, "site_blocked").add("site", "mx.example.net"));
  REQUIRE(site.has_value());
  CHECK((site->kind == Kind::site_blocked && site->subject == "mx.example.net"));
  const auto on = event_of(LogEvent(Level::error, "storage_failed").add("reason", "EIO"));
  const auto off = event_of(LogEvent(Level::info, "storage_reopened"));
  REQUIRE((on.has_value() && off.has_value()));
  CHECK((on->kind == Kind::alarm_on && off->kind == Kind::alarm_off));
  CHECK(on->subject == off->subject);
}

TEST_CASE("what concerns the administrator alone is not an event", "[events]") {
  for (const auto* name : {"connected", "disconnected", "encrypted", "reloaded", "notice_created"})
    CHECK_FALSE(event_of(LogEvent(Level::info, name, "S1")).has_value());
}
