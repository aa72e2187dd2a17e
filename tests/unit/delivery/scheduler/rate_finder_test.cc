#include "delivery/scheduler/rate_finder.h"

#include <catch2/catch.hpp>

#include <deque>

namespace postrider::scheduler {
namespace {

using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;

const TimePoint kStart{Duration(1'000'000'000)};

// A site that takes so many messages in any minute.
struct Minute {
  std::size_t most;
  std::deque<TimePoint> taken;
  bool take(TimePoint now) {
    while (!taken.empty() && taken.front() <= now - minutes(1))
      taken.pop_front();
    if (taken.size() >= most)
      return false;
    taken.push_back(now);
    return true;
  }
};

struct Count {
  unsigned taken = 0, refused = 0;
};

Count send(RateFinder& finder, Minute& site, TimePoint& now, Duration time) {
  Count count;
  for (const auto end = now + time; now < end; now += Duration(50)) {
    if (!finder.may_send(0, now))
      continue;
    finder.on_sent(now);
    if (site.take(now)) {
      finder.on_taken(now);
      ++count.taken;
    } else {
      finder.on_refused(std::nullopt, now);
      ++count.refused;
    }
  }
  return count;
}

TEST_CASE("rate: without a refusal there is none", "[rate_finder]") {
  RateFinder finder;
  TimePoint now = kStart;
  Minute site{1'000'000, {}};
  CHECK(send(finder, site, now, minutes(10)).refused == 0);
  CHECK(finder.rate() == 0);
}

TEST_CASE("rate: a hundred a minute are found", "[rate_finder]") {
  RateFinder finder;
  TimePoint now = kStart;
  Minute site{100, {}};
  send(finder, site, now, minutes(10));
  const auto later = send(finder, site, now, hours(3));
  CHECK(later.taken >= 180 * 100 * 0.93);
  CHECK(later.refused * 100 < later.taken);
}

TEST_CASE("rate: a limit that is raised is followed", "[rate_finder]") {
  RateFinder finder;
  TimePoint now = kStart;
  Minute site{60, {}};
  send(finder, site, now, hours(1));
  site.most = 240;
  send(finder, site, now, hours(1));
  CHECK(finder.rate() > 3);
  site.most = 60;
  send(finder, site, now, hours(1));
  CHECK(finder.rate() < 1.1);
}

TEST_CASE("rate: what an operator allows is never exceeded, to the microsecond", "[rate_finder]") {
  RateFinder finder(300);
  TimePoint now = kStart;
  unsigned sent = 0;
  for (const auto end = now + seconds(10); now < end; now += Duration(1))
    while (finder.may_send(0, now)) {
      finder.on_sent(now);
      ++sent;
    }
  CHECK(sent >= 2990);
  CHECK(sent <= 3000 + 151);  // and the burst
}

TEST_CASE("rate: while it searches there is one message at a time", "[rate_finder]") {
  RateFinder finder;
  finder.on_taken(kStart);
  finder.on_refused(seconds(30), kStart + seconds(1));
  CHECK(finder.is_searching());
  CHECK(!finder.may_send(0, kStart + seconds(30)));
  CHECK(finder.may_send(0, kStart + seconds(32)));
  CHECK(!finder.may_send(1, kStart + seconds(32)));
  finder.on_refused(seconds(1), kStart + seconds(40));
  CHECK(!finder.may_send(0, kStart + seconds(60)));  // the pause doubles, whatever is hinted
  CHECK(finder.next_send(kStart + seconds(41)) == kStart + seconds(100));
}

TEST_CASE("rate: a hint of an hour is not a pause of an hour", "[rate_finder]") {
  RateFinder finder;
  finder.on_refused(hours(1), kStart);
  CHECK(finder.may_send(0, kStart + minutes(2)));
}

TEST_CASE("rate: kept over a restart, raised by the day, forgotten in a week", "[rate_finder]") {
  RateFinder finder;
  TimePoint now = kStart;
  Minute site{100, {}};
  send(finder, site, now, hours(1));
  RateFinder again;
  again.restore(finder.stored(), minutes(1));
  CHECK(again.rate() > 1);
  CHECK(again.rate() < 2);
  RateFinder later;
  later.restore(finder.stored(), hours(50));
  CHECK(later.rate() == Approx(4 * again.rate()));
  RateFinder forgotten;
  forgotten.restore(finder.stored(), hours(24 * 8));
  CHECK(forgotten.rate() == 0);
}

TEST_CASE("rate: what was under way at the refusal does not end the search", "[rate_finder]") {
  RateFinder finder;
  TimePoint now = kStart;
  for (int i = 0; i < 20; ++i)
    finder.on_taken(now);
  finder.on_refused(std::nullopt, now);
  finder.on_taken(now + Duration(200));
  CHECK(finder.is_searching());
  finder.on_taken(now + seconds(40));
  CHECK_FALSE(finder.is_searching());
  CHECK(finder.rate() < 0.6);
}

}  // namespace
}  // namespace postrider::scheduler
