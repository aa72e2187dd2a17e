#include "delivery/scheduler/limit_finder.h"

#include <catch2/catch.hpp>

namespace postrider::scheduler {
namespace {

using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;

const TimePoint kStart{Duration(1'000'000'000)};

// Answers of a second each, all connections busy, with a step of time for each.
void answer(LimitFinder& finder, TimePoint& now, unsigned count, Duration latency) {
  for (unsigned i = 0; i < count; ++i) {
    now += Duration(latency.count() / finder.limit());
    finder.on_answered(latency, finder.limit(), true, now);
  }
}

TEST_CASE("limit: begins with one and doubles while it helps", "[limit_finder]") {
  LimitFinder finder(16);
  TimePoint now = kStart;
  CHECK(finder.limit() == 1);
  answer(finder, now, 1, seconds(1));
  CHECK(finder.limit() == 2);
  answer(finder, now, 2, seconds(1));
  CHECK(finder.limit() == 4);
  answer(finder, now, 1000, seconds(1));
  CHECK(finder.limit() == 16);
  CHECK(finder.cause() == LimitFinder::Cause::most);
}

TEST_CASE("limit: a site that answers at once has fifty within six rounds", "[limit_finder]") {
  LimitFinder finder(50);
  TimePoint now = kStart;
  unsigned answers = 0;
  for (; finder.limit() < 50 && answers < 1000; ++answers)
    finder.on_answered(Duration(20), finder.limit(), true, now += Duration(1));
  CHECK(answers == 1 + 2 + 4 + 8 + 16 + 32);
  CHECK(finder.cause() == LimitFinder::Cause::most);
}

TEST_CASE("limit: greetings count among the first four", "[limit_finder]") {
  LimitFinder finder(50);
  finder.on_greeted(1, kStart);
  CHECK(finder.limit() == 2);
  finder.on_greeted(1, kStart);
  finder.on_greeted(2, kStart);
  CHECK(finder.limit() == 4);
  for (int i = 0; i < 100; ++i)
    finder.on_greeted(4, kStart);
  CHECK(finder.limit() == 4);
}

TEST_CASE("limit: one greeted behind a refusal counts as borne", "[limit_finder]") {
  LimitFinder finder(50);
  TimePoint now = kStart;
  for (int i = 0; i < 15; ++i)
    finder.on_answered(Duration(20), finder.limit(), true, now += Duration(1));
  REQUIRE(finder.limit() == 16);
  finder.on_refused(9, now);
  CHECK(finder.limit() == 9);
  finder.on_greeted(10, now);  // it was begun with the one that was refused
  CHECK(finder.limit() == 10);
  finder.on_greeted(10, now);
  finder.on_greeted(3, now);
  CHECK(finder.limit() == 10);
}

TEST_CASE("limit: one that hangs beside others costs its place, and is tried again soon",
          "[limit_finder]") {
  LimitFinder finder(50);
  TimePoint now = kStart;
  answer(finder, now, 40, seconds(1));
  finder.on_silent(3, now);
  CHECK(finder.limit() == 3);
  CHECK(finder.cause() == LimitFinder::Cause::silence);
  now += minutes(1);
  answer(finder, now, 1000, seconds(1));
  CHECK(finder.limit() > 3);
}

TEST_CASE("limit: an operator's new bound holds at once, and is grown into", "[limit_finder]") {
  LimitFinder finder(50);
  TimePoint now = kStart;
  answer(finder, now, 3, Duration(20));
  CHECK(finder.limit() == 4);
  finder.set_most(2);
  CHECK(finder.limit() == 2);
  finder.set_most(0);
  CHECK(finder.limit() == 1);
  finder.set_most(50);
  answer(finder, now, 1000, Duration(20));
  CHECK(finder.limit() == 50);
}

TEST_CASE("limit: a refusal beside five that work names the limit", "[limit_finder]") {
  LimitFinder finder(50);
  TimePoint now = kStart;
  answer(finder, now, 40, seconds(1));
  REQUIRE(finder.limit() > 5);
  finder.on_refused(5, now);
  CHECK(finder.limit() == 5);
  CHECK(finder.cause() == LimitFinder::Cause::refusal);
  CHECK(finder.is_settled());
}

TEST_CASE("limit: behind a refused probe there are a hundred messages before the next",
          "[limit_finder]") {
  LimitFinder finder(50);
  TimePoint now = kStart;
  answer(finder, now, 40, seconds(1));
  finder.on_refused(5, now);
  now += hours(1);
  answer(finder, now, 99, seconds(1));
  CHECK(finder.limit() == 5);
  answer(finder, now, 2, seconds(1));
  CHECK(finder.limit() == 6);
  finder.on_refused(5, now);
  CHECK(finder.limit() == 5);
}

TEST_CASE("limit: what was not saturated proves nothing", "[limit_finder]") {
  LimitFinder finder(50);
  TimePoint now = kStart;
  for (int i = 0; i < 1000; ++i)
    finder.on_answered(seconds(1), 1, false, now += seconds(1));
  CHECK(finder.limit() == 1);
}

TEST_CASE("limit: where more connections only wait longer, fewer are used", "[limit_finder]") {
  LimitFinder finder(50);
  TimePoint now = kStart;
  for (int i = 0; i < 20000; ++i) {
    const unsigned busy = finder.limit();
    const auto latency = Duration(busy <= 6 ? 1000 : 1000 * busy / 6);
    now += latency / busy;
    finder.on_answered(latency, busy, true, now);
  }
  CHECK(finder.limit() >= 5);
  CHECK(finder.limit() <= 9);
  CHECK(finder.cause() == LimitFinder::Cause::latency);
}

TEST_CASE("limit: refusals below what was proven pause first, the fourth counts",
          "[limit_finder]") {
  LimitFinder finder(50);
  TimePoint now = kStart;
  answer(finder, now, 40, seconds(1));
  finder.on_refused(8, now);
  for (int i = 0; i < 3; ++i) {
    now += seconds(10);
    finder.on_refused(4, now);
    CHECK(finder.limit() == 8);
    CHECK(!finder.may_open(4, 0, now));
    CHECK(finder.may_open(4, 0, now + seconds(4)));
    CHECK(!finder.may_open(4, 1, now + seconds(4)));  // one at a time
  }
  now += seconds(10);
  finder.on_refused(4, now);
  CHECK(finder.limit() == 4);
}

TEST_CASE("limit: one conversation in a hundred that breaks is not a limit; many halve it",
          "[limit_finder]") {
  LimitFinder finder(16);
  TimePoint now = kStart;
  answer(finder, now, 1000, seconds(1));
  for (int i = 0; i < 50; ++i) {
    finder.on_broken(now);
    answer(finder, now, 99, seconds(1));
  }
  CHECK(finder.limit() == 16);
  for (int i = 0; i < 8; ++i)
    finder.on_broken(now);
  CHECK(finder.limit() == 8);
}

TEST_CASE("limit: kept over a restart, and forgotten by and by", "[limit_finder]") {
  LimitFinder finder(50);
  TimePoint now = kStart;
  answer(finder, now, 100, seconds(1));
  finder.on_refused(20, now);
  LimitFinder again(50);
  again.restore(finder.stored(), minutes(1));
  CHECK(again.limit() == 20);
  CHECK(again.is_settled());
  again.restore(finder.stored(), hours(24 * 30));
  CHECK(again.limit() == 4);
  LimitFinder fewer(3);
  fewer.restore(finder.stored(), minutes(1));
  CHECK(fewer.limit() == 3);
}

}  // namespace
}  // namespace postrider::scheduler
