#include "base/net/blocking_pool.h"

#include "base/log.h"

#include <catch2/catch.hpp>

#include <atomic>
#include <thread>

namespace postrider {
namespace {

Task<void> add_on_pool(BlockingPool& pool, Loop& loop, int value, int& sum,
                       std::thread::id& resumed_on) {
  std::function<int()> job = [value] { return value; };
  sum += co_await pool.run<int>(loop, std::move(job));
  resumed_on = std::this_thread::get_id();
}

TEST_CASE("blocking work runs elsewhere and its result comes home", "[base][blocking_pool]") {
  Loop loop(0);
  NullLog log;
  int sum = 0;
  std::thread::id resumed_on;
  {
    BlockingPool pool(2);
    for (int i = 1; i <= 100; ++i)
      loop.spawn(add_on_pool(pool, loop, i, sum, resumed_on), log, "add");
    while (loop.children() > 0)
      loop.context().run_one();
  }
  CHECK(sum == 5050);
  CHECK(resumed_on == std::this_thread::get_id());
}

TEST_CASE("what was posted is finished before the pool is gone", "[base][blocking_pool]") {
  std::atomic<int> ran{0};
  {
    BlockingPool pool(1);
    for (int i = 0; i < 100; ++i)
      pool.post([&] { ++ran; });
  }
  CHECK(ran == 100);
}

}  // namespace
}  // namespace postrider
