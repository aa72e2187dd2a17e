#include "bench/connection_loop.h"

#include <algorithm>
#include <arpa/inet.h>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

namespace postrider::bench {

namespace {
constexpr int kMostReady = 256;
}

struct Epoll::Ready {
  epoll_event events[kMostReady];
};

sockaddr_in parse_address(std::string_view text) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  const auto colon = text.find(':');
  const std::string host(text.substr(0, colon));
  std::uint16_t port = 0;
  if (colon != std::string_view::npos)
    std::from_chars(text.data() + colon + 1, text.data() + text.size(), port);
  if (port == 0 || ::inet_pton(AF_INET, host.c_str(), &address.sin_addr) != 1) {
    std::fprintf(stderr, "expected an address like 127.0.0.1:2525\n");
    std::exit(64);
  }
  address.sin_port = htons(port);
  return address;
}

std::int64_t now_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1'000'000'000LL + now.tv_nsec;
}

Latencies median_and_p99_ms(std::vector<std::uint32_t> microseconds) {
  if (microseconds.empty())
    return {};
  std::sort(microseconds.begin(), microseconds.end());
  const auto at = [&](double part) {
    const auto last = static_cast<double>(microseconds.size() - 1);
    return microseconds[static_cast<std::size_t>(part * last)] / 1000.0;
  };
  return {at(0.5), at(0.99)};
}

double own_cpu_seconds() {
  rusage used{};
  ::getrusage(RUSAGE_SELF, &used);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  return seconds(used.ru_utime) + seconds(used.ru_stime);
}

Epoll::Epoll() : fd_(::epoll_create1(EPOLL_CLOEXEC)), ready_(new Ready) {}

Epoll::~Epoll() {
  ::close(fd_);
  delete ready_;
}

void Epoll::add(int fd, std::uint32_t events, void* subject) {
  epoll_event event{};
  event.events = events;
  event.data.ptr = subject;
  ::epoll_ctl(fd_, EPOLL_CTL_ADD, fd, &event);
}

void Epoll::change(int fd, std::uint32_t events, void* subject) {
  epoll_event event{};
  event.events = events;
  event.data.ptr = subject;
  ::epoll_ctl(fd_, EPOLL_CTL_MOD, fd, &event);
}

int Epoll::poll(int limit_ms) {
  return ::epoll_wait(fd_, ready_->events, kMostReady, limit_ms);
}

void* Epoll::subject(int i) const {
  return ready_->events[i].data.ptr;
}

std::uint32_t Epoll::events(int i) const {
  return ready_->events[i].events;
}

bool send_some(int fd, std::string_view bytes, std::size_t& sent) {
  while (sent < bytes.size()) {
    const auto n = ::send(fd, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return errno == EAGAIN || errno == EWOULDBLOCK;
    sent += static_cast<std::size_t>(n);
  }
  return true;
}

}  // namespace postrider::bench
