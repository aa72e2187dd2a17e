#include "base/net/loop.h"

#include "base/log.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>

#include <exception>
#include <new>

namespace postrider {

Loop::Loop(unsigned number)
    : number_(number), context_(1), keep_running_(context_.get_executor()), deadlines_(context_) {}

Loop::~Loop() = default;

// Where memory is short, the piece of work that asked for it is lost, not the loop. Coroutines have
// caught that already.
void Loop::run() {
  for (;;) {
    try {
      context_.run();
      return;
    } catch (const std::bad_alloc&) {
    }
  }
}

void Loop::stop() {
  context_.stop();
}

void Loop::finish() {
  post([this] {
    deadlines_.stop();
    keep_running_.reset();
  });
}

void Loop::post(std::function<void()> work) {
  asio::post(context_, std::move(work));
}

void Loop::spawn(Task<void> task, Log& log, const char* name) {
  const auto ended = [this, &log, name](const std::exception_ptr& thrown) {
    --children_;
    if (!thrown)
      return;
    try {
      std::rethrow_exception(thrown);
    } catch (const std::exception& error) {
      log.write(LogEvent(Level::error, "bug").add("where", name).add("what", error.what()));
    }
  };
  ++children_;
  try {
    asio::co_spawn(context_, std::move(task), ended);
  } catch (...) {
    --children_;
    throw;
  }
}

}  // namespace postrider
