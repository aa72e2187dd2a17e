#include "delivery/site_health.h"

#include "delivery/smtp/tls_sessions.h"

#include <catch2/catch.hpp>

using namespace postrider;
using namespace postrider::delivery;
using State = SiteHealth::State;

namespace {

const TimePoint kNow{std::chrono::hours(500000)};

mail::Outcome refused() {
  mail::Outcome outcome;
  outcome.status = {4, 4, 1};
  outcome.text = "connect to mx: Connection refused";
  return outcome;
}

}  // namespace

TEST_CASE("an open site has one connection until it has answered", "[delivery][site]") {
  SiteHealth health;
  CHECK(health.state(kNow) == State::open);
  CHECK(health.limit(kNow, 20) == 1);  // it has not said anything yet
  CHECK_FALSE(health.on_answer());
  CHECK(health.limit(kNow, 20) == 20);
  CHECK(health.limit(kNow, 2) == 2);
  CHECK(health.limit(kNow, 0) == 1);
}

TEST_CASE("a site that stopped us is opened by a verdict on mail, not by its greeting",
          "[delivery][site]") {
  SiteHealth health;
  health.on_answer();
  health.on_stopped(refused(), kNow, std::chrono::seconds(10));
  CHECK(health.state(kNow) == State::blocked);
  CHECK_FALSE(health.on_verdict(kNow));  // of what was under way
  const auto later = kNow + std::chrono::seconds(10);
  CHECK(health.state(later) == State::probing);
  CHECK_FALSE(health.on_answer());
  CHECK(health.state(later) == State::probing);
  CHECK(health.limit(later, 20) == 1);
  CHECK(health.on_verdict(later));
  CHECK(health.state(later) == State::open);
  CHECK_FALSE(health.on_verdict(later));
  health.on_stopped(refused(), later, std::chrono::seconds(10));
  health.on_unreachable(refused(), later, std::chrono::seconds(10));
  CHECK(health.on_answer());
}

TEST_CASE("a site that does not answer is blocked, probed once, and opened", "[delivery][site]") {
  SiteHealth health;
  health.on_unreachable(refused(), kNow, std::chrono::minutes(5));
  CHECK(health.state(kNow) == State::blocked);
  CHECK(health.limit(kNow, 20) == 0);
  const auto later = kNow + std::chrono::minutes(5);
  CHECK(health.state(later) == State::probing);
  CHECK(health.limit(later, 20) == 1);
  health.on_unreachable(refused(), later, std::chrono::minutes(15));
  CHECK(health.failures() == 2);
  CHECK(health.since() == kNow);
  CHECK(health.state(later) == State::blocked);
  CHECK(health.on_answer());
  CHECK_FALSE(health.on_answer());
  CHECK(health.state(later) == State::open);
  CHECK(health.failures() == 0);
}

TEST_CASE("M18: a clock that was set back blocks no site for years", "[delivery][site]") {
  SiteHealth health;
  health.on_unreachable(refused(), kNow, std::chrono::minutes(5));
  CHECK(health.state(kNow - std::chrono::hours(9000)) == State::probing);
}

TEST_CASE("conversations that break again and again block the site", "[delivery][site]") {
  SiteHealth health;
  for (int i = 0; i < 9; ++i)
    CHECK_FALSE(health.on_broken());
  CHECK(health.on_broken());
  SiteHealth mixed;
  for (int i = 0; i < 50; ++i) {
    CHECK_FALSE(mixed.on_broken());
    mixed.on_success();
  }
}

TEST_CASE("a site's health is stored and restored", "[delivery][site]") {
  SiteHealth health;
  health.on_unreachable(refused(), kNow, std::chrono::minutes(5));
  const SiteHealth again(health.stored("mx.test"));
  CHECK(again.state(kNow) == State::blocked);
  CHECK(again.failures() == 1);
  CHECK(again.why().text == refused().text);
}

TEST_CASE("for an hour TLS is not tried where it broke", "[delivery][tls]") {
  TlsSessions known;
  TlsAttempt attempt;
  attempt.step = TlsAttempt::Step::broken;
  attempt.why = "alert";
  const SteadyTime now{std::chrono::hours(1000)};
  known.note_broken("mx.test", attempt, now);
  REQUIRE(known.broken("mx.test", now + std::chrono::minutes(59)));
  CHECK(known.broken("mx.test", now)->why == "alert");
  CHECK_FALSE(known.broken("mx.test", now + std::chrono::minutes(60)));
  CHECK_FALSE(known.broken("other.test", now));
}

TEST_CASE("TLS is not tried where mail was lost under it twice within an hour", "[delivery][tls]") {
  using std::chrono::minutes;
  TlsSessions known;
  TlsAttempt attempt;
  attempt.step = TlsAttempt::Step::cut_off;
  const SteadyTime now{std::chrono::hours(1000)};
  known.note_lost("mx.test", attempt, now);
  CHECK_FALSE(known.broken("mx.test", now));
  SECTION("within it") {
    known.note_lost("mx.test", attempt, now + minutes(59));
    CHECK(known.broken("mx.test", now + minutes(59)));
    CHECK_FALSE(known.broken("other.test", now + minutes(59)));
  }
  SECTION("an hour later it is the first again") {
    known.note_lost("mx.test", attempt, now + minutes(60));
    CHECK_FALSE(known.broken("mx.test", now + minutes(60)));
    known.note_lost("mx.test", attempt, now + minutes(119));
    CHECK(known.broken("mx.test", now + minutes(119)));
  }
  SECTION("a message got through in between") {
    known.note_through("mx.test");
    known.note_lost("mx.test", attempt, now + minutes(1));
    CHECK_FALSE(known.broken("mx.test", now + minutes(1)));
  }
}
