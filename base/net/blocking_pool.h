// A few threads for work that blocks: file syncs, password hashes, private keys in bulk. Network
// loops hand it over and await the result on their own thread.
#pragma once

#include "base/net/loop.h"
#include "base/net/signal.h"

#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

namespace postrider {

// Loops that await must outlive the pool, or have stopped for good.
class BlockingPool {
 public:
  // niceness: how far its threads stand back where processors are scarce, 0 to 19.
  explicit BlockingPool(unsigned threads, int niceness = 0);
  ~BlockingPool();  // finishes what was posted
  BlockingPool(const BlockingPool&) = delete;
  BlockingPool& operator=(const BlockingPool&) = delete;

  void post(std::function<void()> job);  // thread-safe

  // Runs the job on the pool; resumes on `loop`, which is the caller's. The job owns what it
  // uses, or refers to what the awaiting coroutine keeps alive.
  template <class T>
  Task<T> run(Loop& loop, std::function<T()> job) {
    std::optional<T> result;
    std::exception_ptr thrown;  // without memory this job fails, and nobody else's
    Signal done;
    post([&] {
      try {
        result.emplace(job());
      } catch (...) {
        thrown = std::current_exception();
      }
      loop.post([&done] { done.set(); });
    });
    co_await done.wait();
    if (thrown)
      std::rethrow_exception(thrown);
    co_return *std::move(result);
  }

 private:
  void work();

  const int niceness_;
  std::mutex mutex_;
  std::condition_variable waiting_;
  std::deque<std::function<void()>> jobs_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace postrider
