#include "tables/remote_socket.h"

#include "base/network.h"
#include "base/text.h"
#include "base/user_mounts.h"

#include <arpa/inet.h>
#include <array>
#include <cerrno>
#include <cstring>
#include <netinet/in.h>
#include <poll.h>
#include <sys/un.h>

namespace postrider::tables {

Result<RemotePlace> parse_remote_place(std::string_view text) {
  RemotePlace place;
  if (text.starts_with("unix:/")) {
    place.path = text.substr(5);
    auto& address = reinterpret_cast<sockaddr_un&>(place.address);
    if (place.path.size() >= sizeof address.sun_path)
      return malformed("the path of the socket is too long");
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, place.path.c_str(), place.path.size() + 1);
    place.size = sizeof address;
    return place;
  }
  const auto colon = text.rfind(':');
  if (!text.starts_with("inet:") || colon < 5)
    return malformed("unix:/path or inet:ADDRESS:PORT");
  auto host = std::string(text.substr(5, colon - 5));
  const auto port = parse_unsigned(text.substr(colon + 1));
  if (host.starts_with('[') && host.ends_with(']'))
    host = host.substr(1, host.size() - 2);
  const auto address = IpAddress::parse(host == "localhost" ? "127.0.0.1" : host);
  if (!address || !port || *port == 0 || *port > 65535)
    return malformed("an address, not a name, and a port");
  const auto number = htons(static_cast<std::uint16_t>(*port));
  if (address->is_v4()) {
    auto& four = reinterpret_cast<sockaddr_in&>(place.address);
    four.sin_family = AF_INET;
    four.sin_port = number;
    ::inet_pton(AF_INET, address->str().c_str(), &four.sin_addr);
    place.size = sizeof four;
  } else {
    auto& six = reinterpret_cast<sockaddr_in6&>(place.address);
    six.sin6_family = AF_INET6;
    six.sin6_port = number;
    ::inet_pton(AF_INET6, address->str().c_str(), &six.sin6_addr);
    place.size = sizeof six;
  }
  return place;
}

Result<void> wait_for(int descriptor, short events, RemoteClock::time_point until) {
  for (;;) {
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(until - RemoteClock::now()).count();
    if (left <= 0)
      return Error(make_error_code(boost::system::errc::timed_out), "wait for it");
    pollfd look{descriptor, events, 0};
    const int ready = ::poll(&look, 1, static_cast<int>(left));
    if (ready > 0)
      return {};
    if (ready < 0 && errno != EINTR)
      return system_error("poll");
  }
}

Result<void> RemoteSocket::open(const RemotePlace& place, RemoteClock::time_point until) {
  if (!place.path.empty())
    if (auto found = find_place(place.path); !found)
      return found.error();
  socket_ = FileDescriptor(
      ::socket(place.address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket_.is_open())
    return system_error("socket");
  if (::connect(socket_.get(), reinterpret_cast<const sockaddr*>(&place.address), place.size) == 0)
    return {};
  if (errno != EINPROGRESS)
    return system_error("connect");
  if (auto ready = wait_for(socket_.get(), POLLOUT, until); !ready)
    return ready;
  int failed = 0;
  socklen_t size = sizeof failed;
  ::getsockopt(socket_.get(), SOL_SOCKET, SO_ERROR, &failed, &size);
  return failed == 0 ? Result<void>() : Result<void>(system_error(failed, "connect"));
}

bool RemoteSocket::is_quiet() const {
  char octet = 0;
  return socket_.is_open() && ::recv(socket_.get(), &octet, 1, MSG_PEEK) < 0 && errno == EAGAIN;
}

Result<void> RemoteSocket::send(std::string_view bytes, RemoteClock::time_point until) {
  while (!bytes.empty()) {
    const auto wrote = ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (wrote > 0)
      bytes.remove_prefix(static_cast<std::size_t>(wrote));
    else if (errno != EAGAIN && errno != EINTR)
      return system_error("send");
    else if (auto ready = wait_for(socket_.get(), POLLOUT, until); !ready)
      return ready;
  }
  return {};
}

Result<void> RemoteSocket::receive(std::string& to, RemoteClock::time_point until) {
  std::array<char, 4096> room{};
  for (;;) {
    if (RemoteClock::now() >= until)  // also of one that sends without end
      return Error(make_error_code(boost::system::errc::timed_out), "wait for it");
    const auto size = ::recv(socket_.get(), room.data(), room.size(), 0);
    if (size > 0) {
      to.append(room.data(), static_cast<std::size_t>(size));
      return {};
    }
    if (size == 0)
      return Error(Errc::truncated, "it has hung up");
    if (errno != EAGAIN && errno != EINTR)
      return system_error("receive");
    if (auto ready = wait_for(socket_.get(), POLLIN, until); !ready)
      return ready;
  }
}

}  // namespace postrider::tables
