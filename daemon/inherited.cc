#include "daemon/inherited.h"

#include "base/network.h"
#include "base/text.h"

#include <cstddef>
#include <cstdlib>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

namespace postrider::daemon {

namespace {

constexpr std::uint64_t kMostSockets = 256;

std::string take_variable(const char* name) {
  const char* value = std::getenv(name);
  std::string copy = value == nullptr ? "" : value;
  unsetenv(name);
  return copy;
}

bool is_listening_stream(int fd) {
  int value = 0;
  socklen_t size = sizeof value;
  if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &value, &size) != 0 || value == 0)
    return false;
  size = sizeof value;
  return getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &size) == 0 && value == SOCK_STREAM;
}

std::string address_of(int fd) {
  sockaddr_storage storage{};
  socklen_t size = sizeof storage;
  auto* address = reinterpret_cast<sockaddr*>(&storage);
  if (getsockname(fd, address, &size) != 0)
    return "unknown";
  if (storage.ss_family == AF_UNIX) {
    const auto* local = reinterpret_cast<const sockaddr_un*>(&storage);
    const auto length = size - offsetof(sockaddr_un, sun_path);
    return "unix:" + std::string(local->sun_path, strnlen(local->sun_path, length));
  }
  // The socket's own family decides the form: [::] would otherwise be told as 0.0.0.0.
  if (storage.ss_family == AF_INET6) {
    const auto* v6 = reinterpret_cast<const sockaddr_in6*>(&storage);
    return "[" + IpAddress::from(address).str() + "]:" + std::to_string(ntohs(v6->sin6_port));
  }
  if (storage.ss_family == AF_INET) {
    const auto* v4 = reinterpret_cast<const sockaddr_in*>(&storage);
    return IpAddress::from(address).str() + ":" + std::to_string(ntohs(v4->sin_port));
  }
  return "unknown";
}

}  // namespace

std::vector<InheritedSocket> take_inherited_sockets(int first) {
  const auto pid = take_variable("LISTEN_PID");
  const auto count = parse_unsigned(take_variable("LISTEN_FDS"));
  const auto name_list = take_variable("LISTEN_FDNAMES");
  std::vector<InheritedSocket> sockets;
  if (pid != std::to_string(getpid()) || !count || *count > kMostSockets)
    return sockets;
  const auto names = split(name_list, ':');
  for (std::size_t i = 0; i < *count; ++i) {
    FileDescriptor fd(first + static_cast<int>(i));
    if (fcntl(fd.get(), F_SETFD, FD_CLOEXEC) != 0) {
      fd.release();  // was never open
      continue;
    }
    if (!is_listening_stream(fd.get()))
      continue;
    const bool is_named = i < names.size() && !names[i].empty();
    auto address = address_of(fd.get());
    sockets.push_back(
        {is_named ? std::string(names[i]) : "unknown", std::move(fd), std::move(address)});
  }
  return sockets;
}

}  // namespace postrider::daemon
