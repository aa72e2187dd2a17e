// The resolver of the daemon: asks recursive servers over UDP, over TCP when an answer does not
// fit, and remembers what they said.
//
// Trust: answers are taken only from the asked address and port, on a socket with a random port
// that lives as long as it has questions in flight, with the random id and the question of a query
// in flight. Whatever is wrong with an answer makes it a temporary failure, never "no such name".
// The AD bit counts only with trust_ad.
//
// One query a question at a time (single flight). Questions beyond the limit in flight wait in
// line, at most until their total deadline, which is counted from the call. A burst is paced, so
// that it does not overrun the receive buffer of the server. While half of all are in flight, a
// further one is given up after a single short wait, and the line is served from both ends: many
// names that nobody answers for hold up no others. Their silence is remembered for longer than
// other failures, unless the servers have been silent altogether.
#pragma once

#include "base/net/loop.h"
#include "dns/counters.h"
#include "dns/name_server.h"
#include "dns/resolver.h"

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace postrider {
class Log;
class Random;
}  // namespace postrider

namespace postrider::dns {

struct ResolverSettings {
  std::vector<Server> servers;
  // Not empty: the servers are those of this file, followed when it changes; `servers` is ignored.
  std::string resolv_conf;
  // Without a value: only if all servers are on loopback, or the file says `options trust-ad`.
  std::optional<bool> trust_ad;

  std::vector<Duration> timeouts = {Duration(2000), Duration(3000), Duration(5000)};  // of a round
  Duration total{20000};                                                              // of a lookup
  Duration failure_ttl{5000};   // how long a failure is remembered (RFC 9520)
  Duration silence_ttl{30000};  // and that nobody answered for a name, though for others
  std::size_t most_in_flight = 1000;
  std::size_t most_waiting = 10000;
  std::size_t most_cached = 20000;             // entries
  std::size_t most_cached_bytes = 16U << 20U;  // about
};

// The system's servers, from /etc/resolv.conf.
ResolverSettings system_settings();

class StubResolver : public Resolver {
 public:
  // log and random must outlive the resolver.
  StubResolver(Loop& loop, ResolverSettings settings, Log& log, Random& random);
  // Waiters get temporary_failure before this returns. Lookups over TCP need the loop to run on for
  // one turn to release their sockets.
  ~StubResolver() override;

  Task<Answer<Mx>> mx(std::string name) override;
  Task<Answer<asio::ip::address>> a(std::string name) override;
  Task<Answer<asio::ip::address>> aaaa(std::string name) override;
  Task<Answer<std::string>> ptr(asio::ip::address address) override;
  Task<Answer<std::string>> txt(std::string name) override;
  Task<Answer<Tlsa>> tlsa(std::string name) override;
  Task<Answer<std::string>> cname(std::string name) override;

  // On the loop's thread. What is in flight ends under the old settings and is not remembered;
  // what was remembered is forgotten if servers or trust differ.
  void reconfigure(ResolverSettings settings);
  void set_servers(std::vector<Server> servers);
  void forget_all();
  void stop();  // as the destructor; later lookups fail at once

  const std::vector<Server>& servers() const;
  bool trusts_ad() const;
  const Counters& counters() const;

 private:
  class Core;
  std::shared_ptr<Core> core_;  // shared with the lookups in flight
};

}  // namespace postrider::dns
