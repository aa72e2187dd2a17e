// Lets one coroutine wait for what another one on the same loop, or a posted message, will say.
#pragma once

#include "base/assert.h"
#include "base/net/task.h"

#include <boost/asio/any_completion_handler.hpp>
#include <boost/asio/async_result.hpp>

namespace postrider {

// One waiter at a time. A set() before the wait is kept, so no wake-up is lost; several count as
// one. Not thread-safe: from another thread, post to the loop.
class Signal {
 public:
  Task<void> wait() {
    if (!is_set_)
      co_await asio::async_initiate<const asio::use_awaitable_t<Executor>, void()>(
          [this](auto handler) {
            POSTRIDER_ASSERT(!waiter_);
            // Not an assignment: in Boost 1.81 that of any_completion_handler recurses for ever.
            asio::any_completion_handler<void()>(std::move(handler)).swap(waiter_);
          },
          use_task);
    is_set_ = false;
  }
  // Resumes the waiter before it returns.
  void set() {
    is_set_ = true;
    if (waiter_)
      std::exchange(waiter_, nullptr)();
  }

 private:
  asio::any_completion_handler<void()> waiter_;
  bool is_set_ = false;
};

}  // namespace postrider
