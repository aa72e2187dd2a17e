// Notifies the service manager's watchdog for as long as every loop answers. A hung loop stops the
// notifications, and the service manager restarts the daemon.
#pragma once

#include "daemon/loop_threads.h"
#include "daemon/notify.h"

namespace postrider::daemon {

class Heartbeat {
 public:
  // All outlive it.
  Heartbeat(const Clock& clock, Notifier& notifier, LoopThreads& loops)
      : clock_(clock), notifier_(notifier), loops_(loops), next_(clock.steady()) {}

  // How often beat() wants to be called; nothing without a watchdog.
  std::optional<Duration> pause() const {
    const auto watchdog = notifier_.watchdog();
    return watchdog ? std::optional(Duration(*watchdog / 4)) : std::nullopt;
  }
  void beat() {
    const auto every = pause();
    const auto now = clock_.steady();
    if (!every || now < next_ || !loops_.are_alive())
      return;
    notifier_.alive();
    next_ = now + *every;
  }

 private:
  const Clock& clock_;
  Notifier& notifier_;
  LoopThreads& loops_;
  SteadyTime next_;
};

}  // namespace postrider::daemon
