#include "web/pam_door.h"

#include "base/file.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

namespace postrider::web {

namespace {

constexpr int kPamPatience = 30000;  // milliseconds
constexpr std::size_t kMostPamPacket = 4096;

Result<FileDescriptor> connect_to(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    return Error(Errc::too_long, "connect to " + path);
  std::memcpy(address.sun_path, path.data(), path.size());
  FileDescriptor made(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!made.is_open())
    return system_error("socket");
  if (::connect(made.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return system_error("connect to " + path + " (of the daemon, if web.pam is set and it runs)");
  // The folder is the daemon's: it could put a socket of its own there, and hear passwords. Ours was
  // opened by its parent, which is root, or by whoever runs all of it.
  ucred listener{};
  socklen_t size = sizeof listener;
  if (::getsockopt(made.get(), SOL_SOCKET, SO_PEERCRED, &listener, &size) != 0)
    return system_error("look who listens on " + path);
  if (listener.uid != 0 && listener.uid != ::geteuid())
    return Error(Errc::refused, "connect to " + path + ": uid " + std::to_string(listener.uid) +
                                    " listens there, expected root; no password was sent");
  return made;
}

}  // namespace

Result<Role> ask_pam(const std::string& socket, const std::string& user,
                     const std::string& password, const std::string& client) {
  const auto door = connect_to(socket);
  if (!door)
    return door.error();
  auto packet = user + '\0' + password + '\0' + client;
  if (packet.size() > kMostPamPacket)
    return Error(Errc::too_long, "ask postrider-pam");
  const auto sent = ::send(door->get(), packet.data(), packet.size(), MSG_NOSIGNAL);
  const int failure = errno;
  ::explicit_bzero(packet.data(), packet.size());
  if (sent < 0)
    return system_error(failure, "ask postrider-pam");
  pollfd waiting{door->get(), POLLIN, 0};
  if (::poll(&waiting, 1, kPamPatience) <= 0)
    return Error(boost::system::errc::make_error_code(boost::system::errc::timed_out),
                 "wait for postrider-pam");
  std::array<char, 16> said{};
  if (::recv(door->get(), said.data(), said.size(), 0) < 1)
    return Error(Errc::stopped, "read from postrider-pam (it answers web.user alone)");
  switch (said[0]) {
    case 'r':
      return Role::read;
    case 'c':
      return Role::change;
    case 'n':
      return Role::none;
    default:
      return Error(Errc::refused, "judge a password: PAM cannot tell, or was asked too often");
  }
}

}  // namespace postrider::web
