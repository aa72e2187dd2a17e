#include "delivery/scheduler/operator_words.h"

#include <catch2/catch.hpp>

#include <string>

using namespace postrider;
using scheduler::parse_rate;
using scheduler::parse_retry_rule;

TEST_CASE("retry rules: a reason and its waits", "[retry_rule]") {
  const auto rule = parse_retry_rule(" mailbox-full  1h 4h 100ms ");
  REQUIRE(rule);
  CHECK(rule->klass == scheduler::ReplyClass::mailbox_full);
  CHECK(rule->steps == std::vector<Duration>{std::chrono::hours(1), std::chrono::hours(4),
                                             std::chrono::milliseconds(100)});
  for (std::size_t i = 0; i < scheduler::kReplyClasses; ++i) {
    const auto klass = static_cast<scheduler::ReplyClass>(i);
    const auto named = parse_retry_rule(std::string(scheduler::name(klass)) + " 1m");
    REQUIRE(named);
    CHECK(named->klass == klass);
  }
}

TEST_CASE("retry rules: what is none", "[retry_rule]") {
  for (const auto* text : {"", " ", "mailbox-full", "1h", "mailbox_full 1h", "Rate 1h", "rate 1",
                           "rate 1h x", "rate 99ms", "rate 8d", "rate -1h", "rate 1h,2h"})
    CHECK_FALSE(parse_retry_rule(text));
  std::string many = "rate";
  for (int i = 0; i < 20; ++i)
    many += " 1m";
  CHECK(parse_retry_rule(many));
  CHECK_FALSE(parse_retry_rule(many + " 1m"));
}

TEST_CASE("rates: messages in a time", "[retry_rule]") {
  CHECK(parse_rate("100/m").value() == Approx(100.0 / 60));
  CHECK(parse_rate("1/s").value() == Approx(1));
  CHECK(parse_rate("1000000/s").value() == Approx(1e6));
  CHECK(parse_rate("1/d").value() == Approx(1.0 / 86400));
  CHECK(parse_rate("7200/h").value() == Approx(2));
  for (const auto* text : {"", "/", "/m", "100", "100/", "0/m", "1000001/s", "-1/m", "1.5/m",
                           "100/w", "100/min", "100 /m", "99999999999999999999/s"})
    CHECK_FALSE(parse_rate(text));
}
