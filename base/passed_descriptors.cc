#include "base/passed_descriptors.h"

#include "base/close_aside.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <sys/ioctl.h>
#include <utility>

namespace postrider {

namespace {

constexpr std::size_t kMostInAMessage = 253;  // SCM_MAX_FD

}  // namespace

bool is_local_socket(int descriptor) {
  int family = 0;
  socklen_t size = sizeof family;
  return ::getsockopt(descriptor, SOL_SOCKET, SO_DOMAIN, &family, &size) == 0 && family == AF_UNIX;
}

Passed receive_passed(int socket, void* room, std::size_t size, int flags) {
  Passed passed;
  iovec part{room, size};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * kMostInAMessage)> control;
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  passed.octets = ::recvmsg(socket, &header, flags | MSG_CMSG_CLOEXEC);
  if (passed.octets < 0)
    return passed;
  const int number = errno;
  passed.flags = header.msg_flags;
  for (auto* item = CMSG_FIRSTHDR(&header); item != nullptr; item = CMSG_NXTHDR(&header, item)) {
    if (item->cmsg_level != SOL_SOCKET || item->cmsg_type != SCM_RIGHTS)
      continue;
    const auto count = (item->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(item) + i * sizeof fd, sizeof fd);
      passed.descriptors.emplace_back(fd);
    }
  }
  errno = number;
  return passed;
}

// A look tells whether descriptors come with it, without opening one. What is read then is no more
// than was looked at.
ssize_t receive_plain(int socket, char* room, std::size_t size) {
  iovec part{room, size};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  const auto seen = ::recvmsg(socket, &header, MSG_PEEK | MSG_DONTWAIT);
  if (seen <= 0)
    return seen;
  if ((header.msg_flags & MSG_CTRUNC) == 0)
    return ::recv(socket, room, static_cast<std::size_t>(seen), MSG_DONTWAIT);
  errno = EPROTO;
  return -1;
}

void close_local(FileDescriptor socket, std::uint64_t owner) {
  ::shutdown(socket.get(), SHUT_RDWR);
  int left = 0;
  if (::ioctl(socket.get(), FIONREAD, &left) != 0 || left > 0)
    close_aside(std::move(socket), owner);
}

}  // namespace postrider
