// A network loop: one thread, one single-threaded io_context. A connection lives its whole life on
// one loop; crossing threads is a posted message.
#pragma once

#include "base/net/deadline.h"
#include "base/net/task.h"

#include <functional>
#include <memory>

namespace postrider {

class Log;

class Loop {
 public:
  explicit Loop(unsigned number);
  ~Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  unsigned number() const { return number_; }
  asio::io_context& context() { return context_; }
  Executor executor() { return context_.get_executor(); }
  DeadlineWheel& deadlines() { return deadlines_; }

  // Runs handlers on the calling thread until stop(), or until keep_running was dropped and nothing
  // is left to do.
  void run();
  void stop();                            // thread-safe; abandons what is pending
  void finish();                          // thread-safe; run() returns when nothing is left
  void post(std::function<void()> work);  // thread-safe
  // Starts a coroutine that owns all it needs. Only on this loop's thread, or before run().
  // What it throws is logged as a bug; the loop goes on. Counted, see children().
  void spawn(Task<void> task, Log& log, const char* name);
  std::size_t children() const { return children_; }  // on the loop's thread

 private:
  unsigned number_;
  asio::io_context context_;
  asio::executor_work_guard<Executor> keep_running_;
  DeadlineWheel deadlines_;
  std::size_t children_ = 0;
};

}  // namespace postrider
