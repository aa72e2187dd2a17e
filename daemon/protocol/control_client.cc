#include "daemon/protocol/control_client.h"

#include "daemon/privsep/privileges.h"

#include <boost/json/monotonic_resource.hpp>

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>
#include <vector>

namespace postrider::daemon {

namespace {

// For root: the folder of the socket is the daemon user's, who could lead root to a socket of
// somebody else's by a link. The address becomes that of what is held open.
Result<FileDescriptor> hold_socket(const std::string& path, sockaddr_un& address) {
  const auto slash = path.rfind('/');
  if (::geteuid() != 0 || slash == std::string::npos || path.front() != '/')
    return FileDescriptor();
  // A program that is confined may pass through folders that it may not list.
  const auto folder = open_folder_as_root(path.substr(0, slash + 1), FolderUse::pass_through);
  if (!folder)
    return folder.error();
  auto held = open_file_at(*folder, path.substr(slash + 1), O_PATH | O_NOFOLLOW);
  if (!held)
    return held.error();
  struct stat about {};
  if (::fstat(held->get(), &about) != 0)
    return system_error("look at " + path);
  if (S_ISLNK(about.st_mode))
    return Error(Errc::refused, "connect to " + path + " (it is a symbolic link)");
  if (!S_ISSOCK(about.st_mode))
    return system_error(ECONNREFUSED, "connect to " + path);
  const auto name = "/proc/self/fd/" + std::to_string(held->get());
  if (::access(name.c_str(), F_OK) == 0) {
    std::memset(address.sun_path, 0, sizeof address.sun_path);
    std::memcpy(address.sun_path, name.data(), name.size());
  }
  return held;
}

void limit_waits(const FileDescriptor& socket, int option, Duration limit) {
  timeval value{};
  value.tv_sec = limit.count() / 1000;
  value.tv_usec = limit.count() % 1000 * 1000;
  ::setsockopt(socket.get(), SOL_SOCKET, option, &value, sizeof value);
}

}  // namespace

Result<LocalConnection> LocalConnection::connect(const std::string& path, Duration limit) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    return Error(Errc::too_long, "socket path " + path);
  std::memcpy(address.sun_path, path.data(), path.size());
  FileDescriptor socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket.is_open())
    return system_error("socket");
  const auto held = hold_socket(path, address);
  if (!held)
    return held.error();
  limit_waits(socket, SO_SNDTIMEO, limit);
  int connected = 0;
  do {
    connected =
        ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  } while (connected != 0 && errno == EINTR);
  if (connected != 0)
    return system_error("connect to " + path);
  limit_waits(socket, SO_SNDTIMEO, Duration(0));
  return LocalConnection(std::move(socket));
}

void LocalConnection::set_timeout(Duration limit) {
  limit_waits(socket_, SO_RCVTIMEO, limit);
  limit_waits(socket_, SO_SNDTIMEO, limit);
}

Result<void> LocalConnection::write(std::string_view bytes) {
  while (!bytes.empty()) {
    const auto sent = ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR)
      continue;
    if (sent < 0)
      return system_error("write");
    bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
  return {};
}

Result<std::string> LocalConnection::read_line(std::size_t most) {
  std::size_t searched = at_;
  for (;;) {
    const auto end = buffer_.find('\n', searched);
    if (end != std::string::npos) {
      std::string line = buffer_.substr(at_, end - at_);
      at_ = end + 1;
      return line;
    }
    buffer_.erase(0, at_);
    at_ = 0;
    searched = buffer_.size();
    if (buffer_.size() > most)
      return Error(Errc::too_long, "line");
    char room[65536];
    const auto got = ::recv(socket_.get(), room, sizeof room, 0);
    if (got < 0 && errno == EINTR)
      continue;
    if (got < 0)
      return system_error("read");
    if (got == 0)
      return Error(Errc::not_found, "read (the daemon closed the connection)");
    buffer_.append(room, static_cast<std::size_t>(got));
  }
}

Result<ControlEnd> ask(LocalConnection& connection, const ControlRequest& request,
                       const OnLine& on_line) {
  // Refused before it was read, a request still has an answer.
  const auto written = connection.write(encode(request));
  std::vector<unsigned char> room(64U << 10U);
  for (;;) {
    const auto line = connection.read_line(kMostAnswerLine);
    if (!line)
      return written ? line.error() : written.error();
    // One piece of memory for each line, not one for each of its members.
    boost::json::monotonic_resource memory(room.data(), room.size());
    const auto object = parse_json_line(*line, &memory);
    if (!object)
      return object.error().during("answer");
    if (auto end = find_end(*object))
      return *std::move(end);
    if (!on_line(*object))
      return ControlEnd{};
  }
}

}  // namespace postrider::daemon
