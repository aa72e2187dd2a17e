#include "events/broker_url.h"

#include <catch2/catch.hpp>

#include <string>

using namespace postrider::events;

TEST_CASE("the URL of a broker says how it is reached", "[broker]") {
  const auto url = parse_broker_url("AMQPS://order%20s@Rabbit.Example.org:5673/shop%2Fa");
  REQUIRE(url.has_value());
  CHECK(url->protocol == "amqp");
  CHECK(url->is_tls);
  CHECK(url->user == "order s");
  CHECK(url->host == "rabbit.example.org");
  CHECK(url->port == 5673);
  CHECK(url->path == "shop/a");
  const auto plain = parse_broker_url("amqp://localhost");
  REQUIRE(plain.has_value());
  CHECK_FALSE(plain->is_tls);
  CHECK((plain->user.empty() && plain->path.empty()));
  CHECK(plain->port == 5672);
  CHECK(parse_broker_url("amqp://localhost/")->path.empty());
  CHECK(parse_broker_url("amqps://h")->port == 5671);
  CHECK(parse_broker_url("amqp10://h/orders")->port == 5672);
  CHECK(parse_broker_url("amqp10s://h")->port == 5671);
  CHECK(parse_broker_url("amqp10s://h")->protocol == "amqp10");
  CHECK(parse_broker_url("mqtts://h")->port == 8883);
  CHECK(parse_broker_url("mqtt://h")->protocol == "mqtt");
  CHECK(parse_broker_url("stomp://h/orders")->path == "orders");
  CHECK(parse_broker_url("stomp://h")->port == 61613);
  CHECK(parse_broker_url("stomps://h")->port == 61614);
  CHECK(parse_broker_url("kafka://h")->port == 9092);
  CHECK(parse_broker_url("KAFKAS://h")->is_tls);
  CHECK(parse_broker_url("kafkas://h")->port == 9093);
  CHECK(parse_broker_url("amqp://[::1]:5673")->host == "::1");
  CHECK(parse_broker_url("amqp://[::1]:5673")->port == 5673);
  CHECK(parse_broker_url("amqp://u@[::1]")->port == 5672);
}

TEST_CASE("what is not the URL of a broker", "[broker]") {
  for (const auto* text : {"",
                           "amqp",
                           "amqp:",
                           "amqp://",
                           "amqp:///x",
                           "http://localhost",
                           "amqp://user:secret@localhost",
                           "amqp://@localhost",
                           "amqp://localhost:0",
                           "amqp://localhost:65536",
                           "amqp://localhost:x",
                           "amqp://localhost:",
                           "amqp://::1",
                           "amqp://[::1",
                           "amqp://[::1]5672",
                           "amqp://h/%0",
                           "amqp://h/%zz",
                           "amqp://h/%00",
                           "amqp://h?heartbeat=1",
                           "amqp://h#x",
                           "amqp://h /x",
                           "amqp://h\x7f",
                           "amqp://h\xc3\xa4"}) {
    INFO(text);
    CHECK_FALSE(parse_broker_url(text).has_value());
  }
}
