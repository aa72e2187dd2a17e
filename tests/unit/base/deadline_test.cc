#include "base/net/deadline.h"

#include "base/net/loop.h"

#include <catch2/catch.hpp>

#include <atomic>
#include <cstdint>
#include <ctime>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <sys/syscall.h>
#include <unistd.h>
#include <vector>

namespace {

// How far the monotonic clock of this program is ahead of the system's.
std::atomic<std::int64_t> ahead_seconds{0};

}  // namespace

// Takes the place of the C library's, so that the wheel's rounds need not be waited for.
extern "C" int clock_gettime(clockid_t clock, timespec* now) {
  const long result = ::syscall(SYS_clock_gettime, clock, now);
  if (result == 0 && clock == CLOCK_MONOTONIC)
    now->tv_sec += ahead_seconds.load();
  return static_cast<int>(result);
}

namespace postrider {
namespace {

using namespace std::chrono_literals;
using std::chrono::steady_clock;

// Until something stops the loop, or at most so long.
void run_for(Loop& loop, Duration limit) {
  loop.context().run_for(limit);
}

TEST_CASE("a deadline expires on time, never early", "[base][deadline]") {
  Loop loop(0);
  for (const auto wait : {1ms, 50ms, 100ms, 101ms, 250ms}) {
    std::optional<steady_clock::duration> took;
    const auto set_at = steady_clock::now();
    Deadline deadline(loop.deadlines(), [&] {
      took = steady_clock::now() - set_at;
      loop.stop();
    });
    deadline.set(wait);
    CHECK(deadline.is_set());
    loop.context().restart();
    run_for(loop, 60s);
    REQUIRE(took.has_value());
    CHECK(*took >= wait);
    CHECK(*took < wait + 30s);  // a busy machine
    CHECK_FALSE(deadline.is_set());
  }
}

TEST_CASE("what one deadline's function throws costs no other its turn", "[base][deadline]") {
  Loop loop(0);
  int expired = 0;
  std::vector<std::unique_ptr<Deadline>> deadlines;
  for (int i = 0; i < 20; ++i)
    deadlines.push_back(std::make_unique<Deadline>(loop.deadlines(), [&] {
      if (++expired == 20)
        loop.stop();
      throw std::bad_alloc();
    }));
  for (std::size_t i = 0; i < deadlines.size(); ++i)
    deadlines[i]->set(i < 10 ? 100ms : 300ms);
  for (int thrown = 0; thrown < 20; ++thrown)
    CHECK_THROWS_AS(run_for(loop, 60s), std::bad_alloc);
  CHECK(expired == 20);
}

TEST_CASE("a deadline that is set to now again and again still expires", "[base][deadline]") {
  Loop loop(0);
  bool expired = false;
  Deadline deadline(loop.deadlines(), [&] { expired = true; });
  const auto until = steady_clock::now() + 60s;
  while (!expired && steady_clock::now() < until) {
    deadline.set(0ms);
    loop.context().restart();
    run_for(loop, 10ms);
  }
  CHECK(expired);
}

TEST_CASE("a deadline that is set later moves, one that is set earlier too", "[base][deadline]") {
  Loop loop(0);
  std::vector<std::string> order;
  steady_clock::duration took{};
  const auto begin = steady_clock::now();
  Deadline later(loop.deadlines(), [&] {
    order.emplace_back("later");
    took = steady_clock::now() - begin;
    loop.stop();
  });
  Deadline earlier(loop.deadlines(), [&] { order.emplace_back("earlier"); });
  later.set(50ms);
  later.set(400ms);
  earlier.set(1h);
  earlier.set(50ms);
  run_for(loop, 60s);
  CHECK(order == std::vector<std::string>{"earlier", "later"});
  CHECK(took >= 400ms);  // both may fall into one slot, where the order is right by luck
}

TEST_CASE("a deadline that is moved on before each end does not come", "[base][deadline]") {
  Loop loop(0);
  int rounds = 0;
  bool has_expired = false;
  Deadline moved(loop.deadlines(), [&] { has_expired = true; });
  Deadline beat(loop.deadlines(), [&] {
    moved.set(1h);
    if (++rounds == 8)
      loop.stop();
    else
      beat.set(50ms);
  });
  moved.set(1h);
  moved.set(1s);  // filed early, and due much later when its slot comes
  moved.set(1h);
  beat.set(50ms);
  run_for(loop, 60s);
  CHECK(rounds == 8);
  CHECK_FALSE(has_expired);
  CHECK(moved.is_set());
}

TEST_CASE("a cleared deadline is silent and can be set again", "[base][deadline]") {
  Loop loop(0);
  int expired = 0;
  Deadline cleared(loop.deadlines(), [&] { ++expired; });
  Deadline end(loop.deadlines(), [&] { loop.stop(); });
  cleared.set(20ms);
  cleared.clear();
  CHECK_FALSE(cleared.is_set());
  end.set(300ms);
  run_for(loop, 60s);
  CHECK(expired == 0);
  cleared.set(20ms);
  end.set(300ms);
  loop.context().restart();
  run_for(loop, 60s);
  CHECK(expired == 1);
}

TEST_CASE("a deadline may be destroyed, or set, while it expires", "[base][deadline]") {
  Loop loop(0);
  std::unique_ptr<Deadline> mine;
  std::unique_ptr<Deadline> neighbour;
  int rounds = 0;
  mine = std::make_unique<Deadline>(loop.deadlines(), [&, guard = std::string(100, 'x')] {
    mine.reset();
    neighbour.reset();  // waits in the same slot
    CHECK(guard.size() == 100);
  });
  neighbour = std::make_unique<Deadline>(loop.deadlines(), [&] {
    mine.reset();
    neighbour.reset();
  });
  Deadline again(loop.deadlines(), [&] {
    if (++rounds == 3)
      loop.stop();
    else
      again.set(10ms);
  });
  mine->set(20ms);
  neighbour->set(20ms);
  again.set(20ms);
  run_for(loop, 60s);
  CHECK(rounds == 3);
  CHECK(mine == nullptr);
  CHECK(neighbour == nullptr);
}

TEST_CASE("many deadlines, many of them far away, expire in order", "[base][deadline]") {
  Loop loop(0);
  std::vector<std::unique_ptr<Deadline>> deadlines;
  std::size_t expired = 0;
  for (int i = 0; i < 2000; ++i) {
    deadlines.push_back(std::make_unique<Deadline>(loop.deadlines(), [&] { ++expired; }));
    deadlines.back()->set(i % 2 == 0 ? Duration(i % 300) : Duration(1h) + Duration(i));
  }
  Deadline end(loop.deadlines(), [&] { loop.stop(); });
  end.set(700ms);
  run_for(loop, 60s);
  CHECK(expired == 1000);
  for (std::size_t i = 0; i < deadlines.size(); i += 3)
    deadlines[i].reset();
}

// The wheel goes round in 102 s; what is further away passes its slot more than once.
TEST_CASE("a deadline beyond the wheel's round comes in the round that is its own",
          "[base][deadline]") {
  Loop loop(0);
  bool is_near_over = false, is_far_over = false;
  Deadline near(loop.deadlines(), [&] { is_near_over = true; });
  Deadline far(loop.deadlines(), [&] { is_far_over = true; });
  near.set(90s);
  far.set(250s);
  // Two ticks at least, so that what is due has come.
  const auto pass = [&](std::int64_t seconds) {
    ahead_seconds += seconds;
    Deadline end(loop.deadlines(), [&] { loop.stop(); });
    end.set(200ms);
    loop.context().restart();
    run_for(loop, 60s);
  };
  pass(89);
  CHECK_FALSE(is_near_over);
  for (int round = 0; round < 3; ++round) {  // 99, 149 and 199 s in all, and not 10 s more
    pass(round == 0 ? 10 : 50);
    CHECK(is_near_over);
    CHECK_FALSE(is_far_over);
  }
  pass(40);
  CHECK_FALSE(is_far_over);
  pass(20);
  CHECK(is_far_over);
  ahead_seconds = 0;
}

TEST_CASE("a finished loop runs empty though deadlines are set", "[base][deadline]") {
  Loop loop(0);
  Deadline far(loop.deadlines(), [] {});
  far.set(1h);
  loop.finish();
  const auto start = steady_clock::now();
  loop.run();
  CHECK(steady_clock::now() - start < 30s);
}

}  // namespace
}  // namespace postrider
