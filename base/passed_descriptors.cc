#include "base/passed_descriptors.h"

#include "base/close_aside.h"

#include <array>
#include <cerrno>
#include <cstring>

namespace postrider {

namespace {

constexpr std::size_t kMostInAMessage = 253;  // SCM_MAX_FD
constexpr int kMostReads = 10'000;

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

ssize_t receive_plain(int socket, char* room, std::size_t size) {
  auto passed = receive_passed(socket, room, size);
  if (passed.descriptors.empty())
    return passed.octets;
  for (auto& descriptor : passed.descriptors)
    close_aside(std::move(descriptor));
  errno = EPROTO;
  return -1;
}

void drain_local(int socket) {
  ::shutdown(socket, SHUT_RDWR);
  std::array<char, 16384> room;
  for (int reads = 0; reads < kMostReads; ++reads) {
    auto passed = receive_passed(socket, room.data(), room.size(), MSG_DONTWAIT);
    for (auto& descriptor : passed.descriptors)
      close_aside(std::move(descriptor));
    if (passed.octets == 0 || (passed.octets < 0 && errno != EINTR))
      return;
  }
}

}  // namespace postrider
