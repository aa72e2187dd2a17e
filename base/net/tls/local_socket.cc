#include "base/net/tls/local_socket.h"

#include "base/passed_descriptors.h"

#include <boost/asio/as_tuple.hpp>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

namespace postrider {

namespace {

constexpr int kBacklog = 128;
constexpr auto use_tuple = asio::as_tuple(use_task);

Result<sockaddr_un> address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    return Error(Errc::too_long, "socket path " + path + " (at most 107 octets)");
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

Result<FileDescriptor> new_socket() {
  FileDescriptor socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.is_open())
    return system_error("socket");
  return socket;
}

// Removes a socket that nobody listens on.
Result<void> make_way(const std::string& path, const sockaddr_un& address) {
  struct stat about {};
  if (::lstat(path.c_str(), &about) != 0)
    return {};
  if (!S_ISSOCK(about.st_mode))
    return system_error(EEXIST, path + " is not a socket");
  auto probe = new_socket();
  if (!probe)
    return probe.error();
  if (::connect(probe->get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0)
    return system_error(EADDRINUSE, "another process listens on " + path);
  if (::unlink(path.c_str()) != 0)
    return system_error("remove the old " + path);
  return {};
}

// Others must be able to reach the sockets in a folder that we made, whatever the umask is.
Result<void> provide_folder(const std::string& folder) {
  if (folder.empty() || ::access(folder.c_str(), F_OK) == 0)
    return {};
  if (auto made = make_folder(folder, 0755); !made)
    return made.error();
  if (::chmod(folder.c_str(), 0755) != 0)
    return system_error("chmod " + folder);
  return {};
}

// None on a kernel that does not know them: then the primary one must do.
std::vector<gid_t> groups_of(int socket) {
  std::vector<gid_t> groups(256);
  for (int tries = 0; tries < 2; ++tries) {
    auto size = static_cast<socklen_t>(groups.size() * sizeof(gid_t));
    const bool failed = ::getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &size) != 0;
    if (failed && errno != ERANGE)
      return {};
    groups.resize(size / sizeof(gid_t));  // as many as there are
    if (!failed)
      return groups;
  }
  return {};
}

}  // namespace

Result<Peer> peer_of(int socket) {
  ucred credentials{};
  socklen_t size = sizeof credentials;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0)
    return system_error("SO_PEERCRED");
  Peer peer;
  peer.uid = credentials.uid;
  peer.gid = credentials.gid;
  peer.pid = credentials.pid;
  peer.groups = groups_of(socket);
  return peer;
}

bool Peer::is_in(gid_t group) const {
  return gid == group || std::find(groups.begin(), groups.end(), group) != groups.end();
}

bool may_administrate(const Peer& peer) {
  return peer.uid == 0 || peer.uid == ::geteuid() || peer.is_in(::getegid());
}

LocalListener::LocalListener(std::string path, Loop& loop, FileDescriptor socket)
    : path_(std::move(path)), loop_(loop), socket_(loop.context(), socket.release()) {}

LocalListener::~LocalListener() {
  close();
}

Result<std::unique_ptr<LocalListener>> LocalListener::bind(std::string path, unsigned mode,
                                                           Loop& loop) {
  const auto address = address_of(path);
  if (!address)
    return address.error();
  if (auto made = provide_folder(std::filesystem::path(path).parent_path().string()); !made)
    return made.error().during("folder of the socket");
  if (auto free = make_way(path, *address); !free)
    return free.error();
  auto socket = new_socket();
  if (!socket)
    return socket.error();
  const auto* name = reinterpret_cast<const sockaddr*>(&*address);
  // Closed to all until its mode is set: connect() needs the right to write.
  const auto old_mask = ::umask(0777);
  const int bound = ::bind(socket->get(), name, sizeof *address);
  const int number = errno;
  ::umask(old_mask);
  if (bound != 0)
    return system_error(number, "bind " + path);
  if (::listen(socket->get(), kBacklog) != 0)
    return system_error("listen on " + path);
  if (::chmod(path.c_str(), mode) != 0)
    return system_error("chmod " + path);
  return std::unique_ptr<LocalListener>(
      new LocalListener(std::move(path), loop, std::move(*socket)));
}

Task<Result<std::unique_ptr<Stream>>> LocalListener::accept() {
  for (;;) {
    if (!socket_.is_open())
      co_return Error(asio::error::operation_aborted, "accept");
    FileDescriptor peer(
        ::accept4(socket_.native_handle(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (peer.is_open()) {
      Socket socket(loop_.context());
      boost::system::error_code failed;
      socket.assign(asio::generic::stream_protocol(AF_UNIX, 0), peer.get(), failed);
      if (failed)
        co_return Error(failed, "accept");
      peer.release();
      co_return std::make_unique<Stream>(loop_, std::move(socket));
    }
    if (errno == EINTR || errno == ECONNABORTED)
      continue;
    if (errno != EAGAIN && errno != EWOULDBLOCK)
      co_return system_error("accept on " + path_);
    const auto [code] = co_await socket_.async_wait(Descriptor::wait_read, use_tuple);
    if (code)
      co_return Error(code, "accept");
  }
}

Result<void> LocalListener::set_mode(unsigned mode) {
  if (::chmod(path_.c_str(), mode) != 0)
    return system_error("chmod " + path_);
  return {};
}

void LocalListener::close() {
  if (!socket_.is_open())
    return;
  ::unlink(path_.c_str());
  // Who waits to be accepted may have sent something already.
  for (int left = 2 * kBacklog; left > 0; --left) {
    FileDescriptor peer(
        ::accept4(socket_.native_handle(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!peer.is_open())
      break;
    close_local(std::move(peer), 0);
  }
  boost::system::error_code ignored;
  socket_.close(ignored);
}

}  // namespace postrider
