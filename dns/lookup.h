// One lookup over the network: which server is asked when, by which way, and until when.
//
// The servers are asked in turn, in rounds with growing timeouts. A server that failed (SERVFAIL,
// REFUSED, nonsense, nobody there) is not asked again in this lookup; one that was silent is, in
// the next round. A name that does not exist is an answer, not a failure.
#pragma once

#include "dns/answer_cache.h"
#include "dns/counters.h"
#include "dns/dns_exchange.h"

#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

namespace postrider {
class Log;
}

namespace postrider::dns {

// What a lookup goes by from its start to its end, whatever is reconfigured meanwhile.
struct Plan {
  std::vector<Server> servers;
  bool trust_ad = false;
  std::vector<Duration> timeouts;
  Duration failure_ttl{0};
  Duration silence_ttl{0};
  // The server that answered when another was silent; asked first for a while.
  std::size_t preferred = 0;
  SteadyTime preferred_until;
  // Servers that answer only without EDNS, and until when that is taken for granted.
  std::vector<std::pair<Server, SteadyTime>> without_edns;
  SteadyTime complained;  // when the log last heard of a silent server
};

struct Network {
  Network(Loop& loop, Log& log_, Random& random)
      : udp(loop, random, counters), tcp(loop, random, counters), log(log_) {}
  void stop() {
    stopped = true;
    udp.stop();
    tcp.stop();
  }

  Counters counters;
  UdpExchange udp;
  TcpExchange tcp;
  Log& log;  // not to be used when stopped
  bool stopped = false;
  SteadyTime heard;  // when a server last answered anything
};

// Ends by `deadline`, with expiry set.
Task<std::shared_ptr<const Found>> look_up(std::shared_ptr<Network> network,
                                           std::shared_ptr<Plan> plan, Question question,
                                           SteadyTime deadline);

// A failure that was not found out by asking; not to be remembered.
std::shared_ptr<const Found> failed_lookup(const Question& question, std::string_view reason);

}  // namespace postrider::dns
