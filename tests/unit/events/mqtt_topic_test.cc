#include "events/mqtt_topic.h"

#include <catch2/catch.hpp>

#include <string>

using namespace postrider::events;

TEST_CASE("a topic of MQTT has no wildcard, and a filter has them as whole levels", "[mqtt]") {
  for (const auto* text : {"mail", "mail/requests", "/", "mail/{type}", "$SYS/x", "a//b"}) {
    INFO(text);
    CHECK(is_mqtt_topic(text));
    CHECK(is_mqtt_filter(text));
  }
  for (const auto* text : {"#", "+", "mail/#", "mail/+", "+/requests", "+/+/#",
                           "$share/shop/mail/#", "$share/shop/mail"}) {
    INFO(text);
    CHECK(is_mqtt_filter(text));
  }
  for (const auto* text : {"", "mail#", "mail/#/x", "#/x", "ma+il", "mail/x+", "$share/shop",
                           "$share/shop/", "$share//mail", "$share/a+/mail"}) {
    INFO(text);
    CHECK_FALSE(is_mqtt_filter(text));
  }
  for (const auto* text : {"", "mail/+", "mail/#", "a+b", "#"})
    CHECK_FALSE(is_mqtt_topic(text));
}

TEST_CASE("a filter takes the topics that MQTT says", "[mqtt]") {
  const struct {
    const char* filter;
    const char* topic;
    bool takes;
  } cases[] = {
      {"mail", "mail", true},
      {"mail", "mail/x", false},
      {"mail/x", "mail", false},
      {"mail/#", "mail/x/y", true},
      {"mail/#", "mail", true},
      {"mail/+", "mail/x", true},
      {"mail/+", "mail/x/y", false},
      {"mail/+", "mail", false},
      {"mail/+", "mail/", true},
      {"+/x", "mail/x", true},
      {"+/x", "mail/y", false},
      {"#", "mail/x", true},
      {"#", "$SYS/x", false},
      {"+/x", "$SYS/x", false},
      {"$SYS/#", "$SYS/x", true},
      {"/mail", "mail", false},
      {"+/mail", "/mail", true},
      {"mail/x", "mail/X", false},
      {"$share/g/mail/#", "mail/x", true},
      {"$share/g/mail", "mail/x", false},
  };
  for (const auto& each : cases) {
    INFO(each.filter << " " << each.topic);
    CHECK(mqtt_filter_takes(each.filter, each.topic) == each.takes);
  }
}
