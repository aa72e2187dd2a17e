#include "base/passed_descriptors.h"

#include "base/close_aside.h"

#include <catch2/catch.hpp>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <string>
#include <string_view>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>
#include <vector>

using namespace postrider;

namespace {

struct Pair {
  FileDescriptor one, other;
};

Pair local_pair() {
  std::array<int, 2> ends{};
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) == 0);
  return {FileDescriptor(ends[0]), FileDescriptor(ends[1])};
}

Pair new_pipe() {
  std::array<int, 2> ends{};
  REQUIRE(::pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK) == 0);
  return {FileDescriptor(ends[0]), FileDescriptor(ends[1])};
}

void pass(const FileDescriptor& to, std::string_view octets, const std::vector<int>& descriptors) {
  iovec part{const_cast<char*>(octets.data()), octets.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * 253)> room{};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = room.data();
  header.msg_controllen = CMSG_SPACE(sizeof(int) * descriptors.size());
  auto* item = CMSG_FIRSTHDR(&header);
  item->cmsg_level = SOL_SOCKET;
  item->cmsg_type = SCM_RIGHTS;
  item->cmsg_len = CMSG_LEN(sizeof(int) * descriptors.size());
  std::memcpy(CMSG_DATA(item), descriptors.data(), sizeof(int) * descriptors.size());
  REQUIRE(::sendmsg(to.get(), &header, 0) == static_cast<ssize_t>(octets.size()));
}

bool has_ended(const FileDescriptor& pipe, int patience) {
  pollfd waiting{pipe.get(), POLLIN, 0};
  return ::poll(&waiting, 1, patience) > 0 && (waiting.revents & POLLHUP) != 0;
}

constexpr int kPatience = 60'000;

// A TCP socket whose last close waits for a peer that reads nothing, and that peer.
Pair lingering() {
  FileDescriptor listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* const name = reinterpret_cast<sockaddr*>(&address);
  const int little = 4096;
  REQUIRE(::setsockopt(listener.get(), SOL_SOCKET, SO_RCVBUF, &little, sizeof little) == 0);
  REQUIRE(::bind(listener.get(), name, size) == 0);
  REQUIRE(::listen(listener.get(), 1) == 0);
  REQUIRE(::getsockname(listener.get(), name, &size) == 0);
  Pair pair;
  pair.one = FileDescriptor(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  REQUIRE(::setsockopt(pair.one.get(), SOL_SOCKET, SO_SNDBUF, &little, sizeof little) == 0);
  REQUIRE(::connect(pair.one.get(), name, size) == 0);
  pair.other = FileDescriptor(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  const std::string octets(65536, 'x');
  while (::send(pair.one.get(), octets.data(), octets.size(), MSG_DONTWAIT) > 0) {
  }
  const linger long_time{1, 600};
  REQUIRE(::setsockopt(pair.one.get(), SOL_SOCKET, SO_LINGER, &long_time, sizeof long_time) == 0);
  return pair;
}

}  // namespace

TEST_CASE("plain octets are read from a Unix socket as they come", "[base][passed]") {
  const auto pair = local_pair();
  std::array<char, 64> room{};
  CHECK(receive_plain(pair.one.get(), room.data(), room.size()) == -1);
  CHECK(errno == EAGAIN);
  REQUIRE(::send(pair.other.get(), "abc", 3, 0) == 3);
  REQUIRE(::send(pair.other.get(), "def", 3, 0) == 3);
  CHECK(receive_plain(pair.one.get(), room.data(), 2) == 2);
  CHECK(receive_plain(pair.one.get(), room.data() + 2, room.size() - 2) == 4);
  CHECK(std::string_view(room.data(), 6) == "abcdef");
  ::shutdown(pair.other.get(), SHUT_WR);
  CHECK(receive_plain(pair.one.get(), room.data(), room.size()) == 0);
}

TEST_CASE("a descriptor that is passed is refused, and never ours", "[base][passed]") {
  for (const bool comes_later : {false, true}) {
    auto pair = local_pair();
    auto pipe = new_pipe();
    if (comes_later)
      REQUIRE(::send(pair.other.get(), "ab", 2, 0) == 2);
    pass(pair.other, "c", std::vector<int>(253, pipe.other.get()));
    pipe.other.reset();
    std::array<char, 64> room{};
    for (int times = 0; times < 3; ++times) {
      CHECK(receive_plain(pair.one.get(), room.data(), room.size()) == -1);
      CHECK(errno == EPROTO);
    }
    // It is where it was, and is closed with the socket.
    CHECK_FALSE(has_ended(pipe.one, 0));
    close_local(std::move(pair.one), 5);
    CHECK(has_ended(pipe.one, kPatience));
    CHECK(has_ended(pair.other, kPatience));
  }
}

TEST_CASE("a socket that holds nothing is closed where it is", "[base][passed]") {
  auto pair = local_pair();
  close_local(std::move(pair.one), 6);
  CHECK(has_ended(pair.other, 0));
  CHECK(closing_of(6) == 0);
}

TEST_CASE("whose descriptors close slowly holds up nobody else's", "[base][passed]") {
  constexpr std::uint64_t kSlow = 7, kOther = 8;
  constexpr std::size_t kSlowOnes = 140;  // more than there are threads
  std::vector<FileDescriptor> peers;
  for (std::size_t i = 0; i < kSlowOnes; ++i) {
    auto pair = local_pair();
    auto slow = lingering();
    pass(pair.other, "x", {slow.one.get()});
    slow.one.reset();  // the last close is another's
    peers.push_back(std::move(slow.other));
    close_local(std::move(pair.one), kSlow);
  }
  CHECK(closing_of(kSlow) == kSlowOnes);
  for (int i = 0; i < 20; ++i) {
    auto pair = local_pair();
    auto pipe = new_pipe();
    pass(pair.other, "x", {pipe.other.get()});
    pipe.other.reset();
    close_local(std::move(pair.one), kOther);
    CHECK(has_ended(pipe.one, kPatience));
  }
  peers.clear();  // which ends all that lingers
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(kPatience);
  while (closing_of(kSlow) + closing_of(kOther) > 0 && std::chrono::steady_clock::now() < end)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  CHECK(closing_of(kSlow) == 0);
  CHECK(closing_of(kOther) == 0);
}
