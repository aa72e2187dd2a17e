#include "daemon/notify.h"

#include "base/text.h"

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

namespace postrider::daemon {

namespace {

std::string take_variable(const char* name) {
  const char* value = std::getenv(name);
  std::string copy = value == nullptr ? "" : value;
  unsetenv(name);
  return copy;
}

// The watchdog is ours if it names this process, or none.
std::optional<Duration> watchdog_interval() {
  const auto microseconds = parse_unsigned(take_variable("WATCHDOG_USEC"));
  const auto pid = take_variable("WATCHDOG_PID");
  if (!microseconds || *microseconds < 1000)
    return std::nullopt;
  if (!pid.empty() && pid != std::to_string(getpid()))
    return std::nullopt;
  return std::chrono::duration_cast<Duration>(
      std::chrono::microseconds(static_cast<std::int64_t>(*microseconds)));
}

// One line: the manager splits messages at line ends.
std::string status_line(std::string_view status) {
  return "\nSTATUS=" + escaped(status, 200);
}

}  // namespace

Notifier Notifier::from_environment() {
  const auto watchdog = watchdog_interval();
  return Notifier(take_variable("NOTIFY_SOCKET"), watchdog);
}

Notifier::Notifier(std::string path, std::optional<Duration> watchdog) : watchdog_(watchdog) {
  sockaddr_un address{};
  const bool usable = !path.empty() && (path.front() == '/' || path.front() == '@') &&
                      path.size() < sizeof address.sun_path;
  if (!usable)
    return;
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  if (path.front() == '@')
    address.sun_path[0] = '\0';  // the abstract namespace
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());
  socket_ = FileDescriptor(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  // Connected while we may be root: afterwards no right to the path is needed.
  if (connect(socket_.get(), reinterpret_cast<const sockaddr*>(&address), size) != 0)
    socket_.reset();
}

void Notifier::send(const std::string& message) {
  // A manager that does not listen is no reason to stop mail.
  if (socket_.is_open())
    (void)::send(socket_.get(), message.data(), message.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
}

void Notifier::ready(std::string_view status) {
  send("READY=1" + status_line(status));
}

void Notifier::reloading(SteadyTime now) {
  const auto microseconds =
      std::chrono::duration_cast<std::chrono::microseconds>(now.time_since_epoch());
  send("RELOADING=1\nMONOTONIC_USEC=" + std::to_string(microseconds.count()) +
       status_line("reloading"));
}

void Notifier::stopping(std::string_view status) {
  send("STOPPING=1" + status_line(status));
}

void Notifier::alive() {
  send("WATCHDOG=1");
}

}  // namespace postrider::daemon
