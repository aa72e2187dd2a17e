// A network loop: one thread, one single-threaded io_context. A connection lives its whole life on
// one loop; crossing threads is a posted message.
#pragma once

#include "base/net/deadline.h"
#include "base/net/task.h"

#include <functional>
#include <list>
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
  // The same for what must not end before its work is done, such as accepting: what `make` gives is
  // spawned, and once more a second after each time that it threw.
  void keep(std::function<Task<void>()> make, Log& log, const char* name);
  std::size_t children() const { return children_; }  // on the loop's thread

 private:
  struct Kept;
  using End = std::function<void(bool has_thrown)>;

  void spawn(Task<void> task, Log& log, const char* name, End then);
  void begin(Kept& kept);

  unsigned number_;
  asio::io_context context_;
  asio::executor_work_guard<Executor> keep_running_;
  DeadlineWheel deadlines_;
  std::size_t children_ = 0;
  std::list<Kept> kept_;
};

}  // namespace postrider
