// A remote SMTP or LMTP server for tests, on loopback, each connection in a thread of its own. It
// does as it is told: answers what it likes, drops where it likes, and keeps what it was given.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace postrider::delivery {

struct Behaviour {
  std::string ehlo = "250-mx.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE\r\n";
  // The reply to a command line that begins with the key, the longest key first; "" is the
  // greeting, "." the end of the content. Without one: 220, 250 or 354.
  std::map<std::string, std::string> replies;
  // Closes instead of answering the command line that begins with this; "greeting" at once.
  std::string drop_at;
  // Closes after this many octets of content.
  std::size_t drop_in_content = static_cast<std::size_t>(-1);
  // Closes after having sent this many octets of replies.
  std::size_t drop_after_sent = static_cast<std::size_t>(-1);
  // How long the reply to the end of the content takes.
  std::chrono::milliseconds end_takes{0};
  // Swallows chunks and says that it does not know the command.
  std::string refuses_chunks{};  // the reply
  // Closes after that many messages on a connection.
  std::size_t messages_per_connection = static_cast<std::size_t>(-1);
  // Beyond so many connections at one time: refuses them by this greeting.
  std::size_t most_connections = static_cast<std::size_t>(-1);
  std::string over_connections = "421 4.7.0 too many concurrent connections\r\n";
  // Instead of closing then: the reply to each MAIL from there on.
  std::string over_limit;
};

struct Taken {
  std::string mail;                // "FROM:<...> ..."
  std::vector<std::string> rcpts;  // accepted ones
  std::string content;             // dots taken out
};

class FakeMx {
 public:
  // address: of IPv4, or the path of a socket to make.
  explicit FakeMx(Behaviour behaviour = {}, const std::string& address = "127.0.0.1",
                  std::uint16_t port = 0);
  ~FakeMx();
  std::uint16_t port() const { return port_; }
  void behave(Behaviour behaviour);
  std::vector<Taken> taken() const;
  std::size_t connections() const;
  std::size_t connections_refused() const;
  std::size_t connections_open() const;
  std::size_t quits() const;
  std::size_t times(const std::string& verb) const;  // that a command was heard
  std::size_t contents() const;                      // that were heard to their end
  void stop();                                       // refuses connections from now on
  // Whether it waits: for what its peers send next, or until `end_takes` is over.
  bool is_at_rest() const;

 private:
  struct Conversation;
  void listen_at(const std::string& address, std::uint16_t port);
  void listen_at_path(const std::string& path);
  void accept_loop();
  bool is_full(const Behaviour& how);
  void serve(int socket);

  int listener_ = -1;
  std::uint16_t port_ = 0;
  mutable std::mutex mutex_;
  Behaviour behaviour_;
  std::vector<Taken> taken_;
  std::size_t connections_ = 0;
  std::size_t quits_ = 0;
  std::size_t contents_ = 0;
  std::size_t refused_ = 0;
  std::map<std::string, std::size_t> heard_;
  std::vector<int> open_;
  std::atomic<int> working_{0};  // conversations that wait for nothing
  std::vector<std::thread> threads_;
  std::thread acceptor_;
};

}  // namespace postrider::delivery
