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

Notifier::Notifier(std::string path, std::optional<Duration> watchdog)
    : path_(std::move(path)), watchdog_(watchdog) {
  const bool usable = !path_.empty() && (path_.front() == '/' || path_.front() == '@') &&
                      path_.size() < sizeof(sockaddr_un::sun_path);
  if (usable)
    socket_ = FileDescriptor(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
}

void Notifier::send(const std::string& message) {
  if (!socket_.is_open())
    return;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path_.data(), path_.size());
  if (path_.front() == '@')
    address.sun_path[0] = '\0';  // the abstract namespace
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path_.size());
  // A manager that does not listen is no reason to stop mail.
  (void)sendto(socket_.get(), message.data(), message.size(), MSG_NOSIGNAL | MSG_DONTWAIT,
               reinterpret_cast<const sockaddr*>(&address), size);
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
