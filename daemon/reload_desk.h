// Reloads that tools ask for: each gets a number, and the verdict on all up to a number is kept until
// the next. Thread-safe.
#pragma once

#include "daemon/control/control_service.h"

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>

namespace postrider::daemon {

class ReloadDesk {
 public:
  // wake: wakes the thread that reloads; called on the thread that asks.
  explicit ReloadDesk(std::function<void()> wake);

  std::uint64_t ask();
  std::uint64_t asked_for() const;
  // Waits a little for the verdict; nothing if there is none yet.
  std::optional<ReloadVerdict> verdict(std::uint64_t number);
  void set_verdict(std::uint64_t up_to, ReloadVerdict verdict);
  // The first problem of the last verdict, as long as none better has come; may be empty.
  std::string problem() const;
  void stop();  // who waits gets no answer

 private:
  const std::function<void()> wake_;
  mutable std::mutex mutex_;
  std::condition_variable judged_;
  bool is_stopping_ = false;
  std::uint64_t asked_ = 0;
  std::uint64_t judged_up_to_ = 0;
  ReloadVerdict verdict_;  // the last
};

}  // namespace postrider::daemon
