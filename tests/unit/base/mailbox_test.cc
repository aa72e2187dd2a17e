#include "base/mailbox.h"

#include "base/loop.h"

#include <catch2/catch.hpp>

#include <memory>
#include <thread>
#include <vector>

namespace postrider {

TEST_CASE("what threads post to a loop runs there, each thread's in order", "[base][loop]") {
  constexpr unsigned kThreads = 4, kPosts = 5000;
  Loop loop(0);
  std::vector<unsigned> seen(kThreads);
  bool is_in_order = true;
  unsigned left = kThreads * kPosts;
  const auto home = std::this_thread::get_id();
  std::vector<std::thread> threads;
  for (unsigned thread = 0; thread < kThreads; ++thread)
    threads.emplace_back([&, thread] {
      for (unsigned number = 0; number < kPosts; ++number)
        loop.post([&, thread, number] {
          is_in_order =
              is_in_order && seen[thread]++ == number && std::this_thread::get_id() == home;
          if (--left == 0)
            loop.finish();
        });
    });
  loop.run();
  for (auto& thread : threads)
    thread.join();
  CHECK(left == 0);
  CHECK(is_in_order);
}

TEST_CASE("a loop that finishes still runs what is posted until nothing is left", "[base][loop]") {
  Loop loop(0);
  std::vector<int> ran;
  const auto work = std::make_unique<asio::executor_work_guard<Executor>>(loop.executor());
  loop.post([&] { ran.push_back(1); });
  loop.finish();
  loop.post([&] { ran.push_back(2); });
  std::thread late;
  loop.post([&] {
    late = std::thread([&] {  // the box is closed by now
      loop.post([&] { ran.push_back(3); });
      loop.post([&] { work->reset(); });
    });
  });
  loop.run();
  late.join();
  CHECK(ran == std::vector<int>{1, 2, 3});
}

TEST_CASE("what a loop never ran goes with it", "[base][loop]") {
  const auto owned = std::make_shared<int>(1);
  {
    Loop loop(0);
    loop.post([owned] {});
    CHECK(owned.use_count() == 2);
  }
  CHECK(owned.use_count() == 1);
}

}  // namespace postrider
