#include "brokers/door.h"

#include "base/text.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

namespace postrider::brokers {

namespace {

constexpr int kTendEvery = 1000;  // milliseconds
constexpr int kMostCallers = 4;
constexpr std::size_t kMostBatch = 8U << 20U;
constexpr std::size_t kMostReason = 400;
// Who may call is looked at when it calls.
constexpr mode_t kDoorMode = 0666;

Result<void> wait_to_read(const FileDescriptor& socket, const std::function<void()>& tend) {
  for (;;) {
    pollfd watched{socket.get(), POLLIN, 0};
    const int ready = ::poll(&watched, 1, kTendEvery);
    if (ready > 0)
      return {};
    if (ready < 0 && errno != EINTR)
      return system_error("wait for the daemon");
    tend();
  }
}

Result<void> answer(const FileDescriptor& caller, const Result<void>& taken) {
  const auto text = taken ? "ok\n" : "no " + escaped(taken.error().describe(), kMostReason) + "\n";
  if (::send(caller.get(), text.data(), text.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(text.size()))
    return system_error("answer the daemon");
  return {};
}

}  // namespace

Result<Door> Door::open(const std::string& path, std::vector<uid_t> callers) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path)
    return Error(Errc::too_long, "listen on " + path);
  std::memcpy(address.sun_path, path.data(), path.size());
  Door door;
  door.callers_ = std::move(callers);
  door.socket_ = FileDescriptor(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!door.socket_.is_open())
    return system_error("make a socket");
  struct stat found {};
  if (::lstat(path.c_str(), &found) == 0 && S_ISSOCK(found.st_mode))
    ::unlink(path.c_str());
  if (::bind(door.socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) !=
          0 ||
      ::chmod(path.c_str(), kDoorMode) != 0 || ::listen(door.socket_.get(), kMostCallers) != 0)
    return system_error("listen on " + path);
  return door;
}

Result<void> Door::serve(const Take& take, const std::function<void()>& tend) const {
  if (auto called = wait_to_read(socket_, tend); !called)
    return called.error();
  const FileDescriptor caller(::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!caller.is_open())
    return errno == EINTR || errno == ECONNABORTED ? Result<void>()
                                                   : system_error("let the daemon in");
  if (auto known = check_caller(caller); !known)
    return known.error();
  return converse(caller, take, tend);
}

Result<void> Door::check_caller(const FileDescriptor& caller) const {
  ucred who{};
  socklen_t size = sizeof who;
  if (::getsockopt(caller.get(), SOL_SOCKET, SO_PEERCRED, &who, &size) != 0)
    return system_error("ask who calls");
  if (std::find(callers_.begin(), callers_.end(), who.uid) == callers_.end())
    return Error(Errc::refused, "take events from user " + std::to_string(who.uid));
  return {};
}

Result<void> Door::converse(const FileDescriptor& caller, const Take& take,
                            const std::function<void()>& tend) const {
  std::string text;
  std::vector<char> bytes(64U << 10U);
  for (;;) {
    if (auto ready = wait_to_read(caller, tend); !ready)
      return ready.error();
    const auto got = ::recv(caller.get(), bytes.data(), bytes.size(), 0);
    if (got < 0 && errno == EINTR)
      continue;
    if (got <= 0)
      return {};  // it has gone; what it has no answer to comes again
    const auto seen = text.empty() ? 0 : text.size() - 1;
    text.append(bytes.data(), static_cast<std::size_t>(got));
    const auto end = text.find("\n\n", seen);
    if (end == std::string::npos && text.size() > kMostBatch)
      return Error(Errc::too_long, "take a batch of events");
    if (end == std::string::npos)
      continue;
    if (auto answered = answer(caller, take(std::string_view(text).substr(0, end))); !answered)
      return answered.error();
    text.erase(0, end + 2);
  }
}

}  // namespace postrider::brokers
