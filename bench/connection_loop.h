// The least that a load generator and a sink need: one thread, one epoll, non-blocking sockets.
// Kept apart from the daemon's own network code, so that a fault there cannot flatter the figures.
#pragma once

#include <cstdint>
#include <netinet/in.h>
#include <string>
#include <string_view>

namespace postrider::bench {

// "127.0.0.1:2525"; ends the program with a sentence if it is anything else.
sockaddr_in parse_address(std::string_view text);
std::int64_t now_ns();

class Epoll {
 public:
  Epoll();
  ~Epoll();
  void add(int fd, std::uint32_t events, void* subject);
  void change(int fd, std::uint32_t events, void* subject);
  // Calls visit(void* subject, uint32_t events) for each; waits at most limit_ms.
  template <class Visit>
  void wait(int limit_ms, Visit visit) {
    const int ready = poll(limit_ms);
    for (int i = 0; i < ready; ++i)
      visit(subject(i), events(i));
  }

 private:
  int poll(int limit_ms);
  void* subject(int i) const;
  std::uint32_t events(int i) const;
  int fd_;
  struct Ready;
  Ready* ready_;
};

// Sends what fits; false when the connection is broken.
bool send_some(int fd, std::string_view bytes, std::size_t& sent);

}  // namespace postrider::bench
