// The least that a load generator and a sink need: one thread, one epoll, non-blocking sockets.
// Kept apart from the daemon's own network code, so that a fault there cannot flatter the figures.
#pragma once

#include <cstdint>
#include <netinet/in.h>
#include <string>
#include <string_view>
#include <vector>

struct ssl_ctx_st;
struct ssl_session_st;
struct ssl_st;

namespace postrider::bench {

// "127.0.0.1:2525"; ends the program with a sentence if it is anything else.
sockaddr_in parse_address(std::string_view text);
std::int64_t now_ns();

// Both in milliseconds; zero without values.
struct Latencies {
  double median, p99;
};
Latencies median_and_p99_ms(std::vector<std::uint32_t> microseconds);

// What this process has used so far.
double own_cpu_seconds();

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

// TLS on a non-blocking socket, for both ends; the socket is the caller's.
class Tls {
 public:
  // For all sessions of the program. version: "1.2", "1.3" or empty for what is agreed on. The
  // server makes a certificate of its own. Ends the program with a sentence if OpenSSL refuses.
  static ssl_ctx_st* client_context(const std::string& version);
  static ssl_ctx_st* server_context();

  Tls() = default;
  ~Tls();
  Tls(const Tls&) = delete;
  Tls& operator=(const Tls&) = delete;

  enum class Step : std::uint8_t { done, wait_read, wait_write, broken };
  void begin(ssl_ctx_st* context, int fd, bool as_server);
  bool is_on() const { return ssl_ != nullptr; }
  bool is_open() const { return open_; }
  Step handshake();
  // Of a client: the next handshake takes up this one's session, if the server agrees. With TLS 1.3
  // only after something was received.
  void keep_session();
  bool is_resumed() const;
  Step receive(char* room, std::size_t size, std::size_t& got);
  // As send_some().
  bool send_some(std::string_view bytes, std::size_t& sent);
  void end();

 private:
  Step judge(int result);

  ssl_st* ssl_ = nullptr;
  ssl_session_st* kept_ = nullptr;
  bool open_ = false;
};

}  // namespace postrider::bench
