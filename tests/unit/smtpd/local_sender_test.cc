// Whose connection it is, asked of the kernel.
#include "smtpd/local_sender.h"

#include "base/file.h"

#include <catch2/catch.hpp>

#include <arpa/inet.h>
#include <cstring>
#include <net/if.h>
#include <netinet/in.h>
#include <optional>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <thread>
#include <unistd.h>

using namespace postrider;
using namespace postrider::smtpd;

namespace {

sockaddr_in6 six(const char* host, in_port_t port = 0) {
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  address.sin6_port = port;
  ::inet_pton(AF_INET6, host, &address.sin6_addr);
  return address;
}

sockaddr_in four(const char* host, in_port_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = port;
  ::inet_pton(AF_INET, host, &address.sin_addr);
  return address;
}

template <class Address>
const sockaddr* plain(const Address& address) {
  return reinterpret_cast<const sockaddr*>(&address);
}

// Listens for both families, as "[::]:25" does.
struct Listener {
  FileDescriptor socket;
  in_port_t port = 0;

  Listener() : socket(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const int no = 0;
    ::setsockopt(socket.get(), IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof no);
    auto address = six("::");
    socklen_t size = sizeof address;
    REQUIRE(::bind(socket.get(), plain(address), size) == 0);
    REQUIRE(::listen(socket.get(), 16) == 0);
    REQUIRE(::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address), &size) == 0);
    port = address.sin6_port;
  }
  // The accepted end of the next connection, and who is at the other.
  std::optional<std::uint32_t> user(FileDescriptor& accepted) const {
    sockaddr_storage peer{};
    socklen_t size = sizeof peer;
    accepted = FileDescriptor(
        ::accept4(socket.get(), reinterpret_cast<sockaddr*>(&peer), &size, SOCK_CLOEXEC));
    REQUIRE(accepted.is_open());
    return local_user_of(accepted.get(), plain(peer));
  }
};

template <class Address>
FileDescriptor connected(const Address& to) {
  FileDescriptor socket(::socket(plain(to)->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  REQUIRE(::connect(socket.get(), plain(to), sizeof to) == 0);
  return socket;
}

}  // namespace

TEST_CASE("a connection over loopback has a user, in either family", "[smtpd][local]") {
  const Listener listener;
  FileDescriptor accepted;
  const auto by_four = connected(four("127.0.0.1", listener.port));
  CHECK(listener.user(accepted) == ::geteuid());
  const auto by_another = connected(four("127.9.8.7", listener.port));
  CHECK(listener.user(accepted) == ::geteuid());
  const auto by_six = connected(six("::1", listener.port));
  CHECK(listener.user(accepted) == ::geteuid());
}

TEST_CASE("as root: the user is the one of the other end", "[smtpd][local]") {
  if (::geteuid() != 0) {
    WARN("not run: needs root");
    return;
  }
  const Listener listener;
  FileDescriptor client, accepted;
  std::thread([&] {  // a thread's user is its own
    if (::syscall(SYS_setresuid, -1, 4001, -1) == 0)
      client = connected(four("127.0.0.1", listener.port));
  })
      .join();
  CHECK(listener.user(accepted) == 4001U);
}

// A network of its own: "lo" with 10.9.9.9 beside 127.0.0.1. For this thread, which is to end.
bool enter_network_with_another_address() {
  if (::unshare(CLONE_NEWNET) != 0)
    return false;
  const FileDescriptor socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq up{}, more{};
  std::strcpy(up.ifr_name, "lo");
  up.ifr_flags = IFF_UP;
  std::strcpy(more.ifr_name, "lo:1");
  const auto address = four("10.9.9.9", 0);
  std::memcpy(&more.ifr_addr, &address, sizeof address);
  return ::ioctl(socket.get(), SIOCSIFFLAGS, &up) == 0 &&
         ::ioctl(socket.get(), SIOCSIFADDR, &more) == 0;
}

TEST_CASE("a connection over another address of this machine has one, where it is asked for",
          "[smtpd][local]") {
  std::thread([] {
    if (!enter_network_with_another_address()) {
      WARN("not run: needs root");
      return;
    }
    const Listener listener;
    FileDescriptor accepted;
    const auto client = connected(four("10.9.9.9", listener.port));
    sockaddr_storage peer{};
    socklen_t size = sizeof peer;
    accepted = FileDescriptor(
        ::accept4(listener.socket.get(), reinterpret_cast<sockaddr*>(&peer), &size, SOCK_CLOEXEC));
    CHECK(local_user_of(accepted.get(), plain(peer), true) == ::geteuid());
    CHECK_FALSE(local_user_of(accepted.get(), plain(peer)));
    // Somebody elsewhere, whose port is one that somebody listens at here.
    auto elsewhere = four("192.0.2.1", listener.port);
    CHECK_FALSE(local_user_of(accepted.get(), plain(elsewhere), true));
    auto listens = four("10.9.9.9", listener.port);
    CHECK_FALSE(local_user_of(accepted.get(), plain(listens), true));
  }).join();
}

// Who sends all and closes before we ask is nobody in particular, least of all root.
TEST_CASE("an end that is closed already belongs to nobody known", "[smtpd][local]") {
  const Listener listener;
  FileDescriptor accepted;
  connected(four("127.0.0.1", listener.port)).reset();
  CHECK(listener.user(accepted).value_or(kUnknownUser) == kUnknownUser);
  connected(six("::1", listener.port)).reset();
  CHECK(listener.user(accepted).value_or(kUnknownUser) == kUnknownUser);
}
