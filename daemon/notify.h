// The service manager's protocol (sd_notify(3)), spoken directly: one datagram a message to
// $NOTIFY_SOCKET. Without a service manager nothing is sent.
#pragma once

#include "base/file.h"
#include "base/time.h"

#include <optional>
#include <string>
#include <string_view>

namespace postrider::daemon {

class Notifier {
 public:
  // From NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID, which are then removed from the
  // environment. Before other threads are started.
  static Notifier from_environment();
  // path: "@name" for an abstract socket; empty: nobody listens.
  explicit Notifier(std::string path, std::optional<Duration> watchdog = std::nullopt);

  void ready(std::string_view status);
  void reloading(SteadyTime now);  // with the time, as Type=notify-reload wants it
  void stopping(std::string_view status);
  void alive();  // WATCHDOG=1
  // How often alive() must be called at least; twice as often is wise.
  std::optional<Duration> watchdog() const { return watchdog_; }

 private:
  void send(const std::string& message);

  FileDescriptor socket_;
  std::optional<Duration> watchdog_;
};

}  // namespace postrider::daemon
