// One question to one server, one reply: over UDP, or over TCP.
#pragma once

#include "base/net/loop.h"
#include "base/net/signal.h"
#include "dns/name_server.h"
#include "dns/packet_codec.h"

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace postrider {
class Random;
class Stream;
}  // namespace postrider

namespace postrider::dns {

struct Counters;

struct Reply {
  enum class End : std::uint8_t { answered, timed_out, unreachable, stopped };
  End end = End::stopped;
  std::string packet;  // of answered; header and question match the query
  bool cut = false;    // the datagram was larger than what we said fits
  // Datagrams with another id or question came meanwhile: somebody may be guessing.
  bool saw_strays = false;
  std::string trouble;  // of unreachable
};

// Connected sockets with ports chosen at random by the kernel. A socket lives as long as it has
// queries in flight, and takes at most kMostQueries; so no datagram can wait in it for a query to
// come, and a port is not worth guessing for long (attack D10).
class UdpExchange {
 public:
  static constexpr std::size_t kMostSockets = 4;  // that take new queries, for each server
  static constexpr std::size_t kMostQueries = 2000;

  UdpExchange(Loop& loop, Random& random, Counters& counters);
  ~UdpExchange();

  Task<Reply> ask(Server server, Question question, bool edns, Duration limit);
  void stop();  // all that are in flight end as stopped before this returns

 private:
  class Socket;
  struct Query;
  Result<std::shared_ptr<Socket>> pick(const Server& server);
  std::uint16_t pick_id(const Socket& socket);
  void drop(const Socket& socket);
  static void finish(Query& query, Reply::End end);

  Loop& loop_;
  Random& random_;
  Counters& counters_;
  std::vector<std::shared_ptr<Socket>> sockets_;
};

// A connection a query: only answers that do not fit come this way.
class TcpExchange {
 public:
  TcpExchange(Loop& loop, Random& random, Counters& counters);
  ~TcpExchange();

  // The limit covers connecting, sending and receiving.
  Task<Reply> ask(Server server, Question question, bool edns, Duration limit);
  void stop();  // those in flight end as stopped when the loop runs on

 private:
  struct Open;  // the connections, shared with the coroutines that use them
  Loop& loop_;
  Random& random_;
  Counters& counters_;
  std::shared_ptr<Open> open_;
};

}  // namespace postrider::dns
