// The receiving side as the daemon sees it: listeners on every loop, connections, one policy.
//
//   Server server(loops, custody, clock, log, settings);
//   server.offer_tls(...)  certificates, before listeners that need them; again when they change
//   server.listen(...)     binds, as root if need be
//   server.start()         accepts; before or after the loops run
//   server.configure(...)  a reload; sessions under way keep what they began with
//   server.relisten(...)   a reload of the listeners
//   server.drain(...)      SIGTERM: stops accepting, 421 to the idle, lets transactions finish
//
// All functions but drain's callback are called from one thread that is not a loop, or before the
// loops run. The loops must have stopped when the server is destroyed.
#pragma once

#include "base/log.h"
#include "base/net/loop.h"
#include "base/result.h"
#include "smtpd/message_store.h"
#include "smtpd/server_settings.h"

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace postrider::dns {
class Resolver;
}

namespace postrider::smtpd {

class Server {
 public:
  // custody: usually a QueueCustody (smtpd/message_store.h). All references outlive the server.
  Server(std::vector<Loop*> loops, MessageStore& custody, const Clock& clock, Log& log,
         std::shared_ptr<const ServerSettings> settings);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // One for each loop, in their order, for what filters ask; they outlive the server. Before
  // start(). Without it no filter can ask.
  void ask_questions_of(const std::vector<dns::Resolver*>& resolvers);
  // From now on, where we lack the right to bind.
  void bind_elsewhere(BindElsewhere elsewhere);
  // Before start().
  void limit_users(std::function<std::optional<std::uint64_t>(std::uint32_t uid)> party_of);
  // Later sessions get these certificates, on every listener; sessions under way keep theirs, and
  // tickets stay good. After an error nothing has changed.
  Result<void> offer_tls(TlsOffer offer);
  // Binds all of them or none. The error names the address.
  Result<void> listen(const std::vector<ListenerSettings>& listeners);
  void start();
  // A reload: binds and starts what is new, closes what is gone; connections stay. After an error
  // nothing has changed. A listener is the same if address, role, tls and proxy_protocol are.
  Result<void> relisten(const std::vector<ListenerSettings>& listeners);
  // Where it listens, with the port that a ":0" became; in the order of listen().
  std::vector<std::string> addresses() const;

  void configure(std::shared_ptr<const ServerSettings> settings);

  // done runs once, on one of the loops, when no connection is left: at once, or when the last
  // transaction has ended, or shortly after `grace`, when what is left has been closed.
  void drain(Duration grace, std::function<void()> done);

  struct Counters {  // since start; open: now
    std::uint64_t connections = 0, open = 0, messages = 0, recipients = 0, bytes = 0;
    std::uint64_t rejected = 0;                  // refused commands and messages
    std::map<int, std::uint64_t> rejected_with;  // the same by the reply's code
    // The same by the subject of its enhanced code (RFC 3463 section 3): other, address, ...
    std::array<std::uint64_t, 8> rejected_about = {};
    std::uint64_t turned_away = 0;  // connections beyond a limit
    std::uint64_t tls_1_3 = 0, tls_1_2 = 0, tls_older = 0, tls_failed = 0;  // handshakes
    std::size_t held = 0;            // octets of content in memory, now
    std::size_t unfinished_tls = 0;  // the same of handshakes and records, without their end
    bool stressed = false;
    // Addresses, on threads of their own and in line for them, now. Outlived by a session that did
    // not wait for its answer; such a thread may still run when the server ends.
    std::size_t looking_up = 0, waiting_to_look_up = 0;
    // Of filters, to the DNS: under way and in line now, and asked since start.
    std::size_t asking = 0, waiting_to_ask = 0;
    std::uint64_t asked = 0;
  };
  Counters counters() const;  // any thread

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace postrider::smtpd
