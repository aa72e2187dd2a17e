// The sending side. Takes leases from the queue, groups their recipients by route, destination and
// site, carries them over reused connections, and answers each lease with one Record.
//
//   Lease --route--> destination (next-hop domain) --MX--> site (set of hosts) --> courier
//     ^---------------------------------- Record <-------------------------------------'
//
// One loop, the first, owns all scheduling; couriers (connections) live on any loop. They talk by
// posted messages, in batches; there is no mutex. A site knows its health: while it is blocked, its
// leases go back untried, and one probe opens it again, at growing concurrency.
#pragma once

#include "base/log.h"
#include "base/net/loop.h"
#include "delivery/delivery_settings.h"
#include "delivery/tls/sts_source.h"
#include "dns/resolver.h"
#include "mail/directory.h"
#include "mail/outcome.h"
#include "queue/queue.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace postrider::delivery {

class QueuePort;
class DeliveryAgent;
class DoubleBounces;

// From here on people are told of recipients whom a site only puts off; fewer are the usual
// greylisting.
inline constexpr std::uint64_t kManyDeferred = 20;

struct SiteStatus {
  std::string name;
  std::string state;  // open, probing, blocked
  TimePoint blocked_until;
  std::uint32_t failures = 0;
  TimePoint since;
  mail::Outcome last;  // why it is in trouble
  std::string alarm;   // what an administrator must put right; empty: nothing
  std::uint32_t connections = 0, idle = 0, limit = 0;
  std::uint32_t waiting = 0;  // jobs that wait for a connection
  double rate = 0;            // messages a second; 0: no limit is known
  std::string limits;         // those that hold now, and which observations set them
  // Recipients whom it has only put off since it last took one, if these are many; then since when,
  // and what it said. deferred_ones: who, unless they are very many; some may have left the queue.
  std::uint64_t only_deferred = 0;
  std::vector<std::pair<mail::MessageId, std::uint32_t>> deferred_ones;
  TimePoint only_deferred_since;
  mail::Outcome last_deferral;
};

struct DeliveryTimings;

struct Status {
  static constexpr std::size_t kBusiest = 10;
  std::vector<SiteStatus> in_trouble;  // blocked or probing
  std::vector<SiteStatus> busiest;     // those with most connections and jobs, the first first
  std::uint32_t sites_open = 0, sites_probing = 0, sites_blocked = 0;
  std::uint32_t sites = 0, connections = 0, idle = 0;
  std::uint32_t leases = 0;                                // in hand
  std::uint64_t delivered = 0, deferred = 0, bounced = 0;  // recipients, since start
  std::uint64_t connections_opened = 0, connections_failed = 0, messages_on_reused = 0;
  std::shared_ptr<const DeliveryTimings> timings;  // delivery/delivery_timings.h
  std::vector<SiteStatus> deferring;               // can be reached, and only put off what they get
};

// What would happen to mail for an address, and why.
struct Explanation {
  struct Host {
    std::string name;
    std::uint16_t preference = 0;
    std::vector<std::string> addresses;
    std::string tls;   // "dane (TLSA records)": what is demanded of it
    std::string note;  // "IPv6: no data; refused connections until ..."
  };
  std::vector<std::string> steps;     // where aliases lead: "list@us -> ann (/etc/aliases:12)"
  std::vector<std::string> ends;      // where mail of this machine ends: "ann@us: maildir /..."
  std::vector<std::string> problems;  // with files on the way
  std::string domain;
  std::string route;        // "*  -> smtp://relay.example.net:587", "mx", "local"
  std::string dns;          // "3 MX records, TTL 1h, not authenticated", "no MX: the domain itself"
  std::vector<Host> hosts;  // in the order in which they would be tried
  SiteStatus site;
  std::string conclusion;  // one sentence: what happens now
};

// Both may be empty.
struct TlsHooks {
  StsSource sts;         // asked on the first loop
  TlsObserver observer;  // called on any loop
};

// The resolver of a loop; used on that loop's thread only.
using ResolverOf = std::function<dns::Resolver&(Loop& loop)>;

class Dispatcher : public queue::Consumer {
 public:
  // All references outlive the dispatcher. loops: at least one; the first one schedules.
  Dispatcher(std::vector<Loop*> loops, queue::Queue& queue, ResolverOf resolver_of,
             const Clock& clock, Log& log, const mail::Directory& directory,
             std::shared_ptr<const DeliverySettings> settings);
  // The same over any custody: for tests.
  Dispatcher(std::vector<Loop*> loops, std::unique_ptr<QueuePort> custody, ResolverOf resolver_of,
             const Clock& clock, Log& log, const mail::Directory& directory,
             std::shared_ptr<const DeliverySettings> settings);
  // After drain() has called back, or after the loops have ended.
  ~Dispatcher() override;

  // Before the loops run: where policies come from, and who hears of handshakes.
  void use(TlsHooks hooks);
  // Before the loops run: knows which sites were blocked when we stopped.
  void restore(std::vector<queue::SiteState> sites);
  // Before the loops run: who performs local deliveries; by default this process.
  void set_performer(std::shared_ptr<DeliveryAgent> performer);
  // Before the loops run: what is known of notices that could not be delivered; used on the first
  // loop.
  void set_double_bounces(std::shared_ptr<DoubleBounces> shared);

  // The rest may be called on any thread. Callbacks run on the first loop.
  void take(std::vector<queue::Lease> leases) override;
  void revoke(std::vector<queue::Revocation> wanted, UnderWay answer) override;
  void ask(std::vector<queue::Revocation> wanted, UnderWay answer) override;
  void expire(std::vector<queue::Overdue> late) override;
  void configure(std::shared_ptr<const DeliverySettings> settings);  // from now on, for new work
  // What waits goes back untried; open transactions may end within the grace period, then
  // connections are closed. Every lease has been answered when it calls back. Call once.
  void drain(std::function<void()> on_done, Duration grace);
  void status(std::function<void(Status)> answer);
  void sites(std::function<void(std::vector<SiteStatus>)> answer);  // all that are known
  // An address or a domain.
  void explain(std::string address, std::function<void(Explanation)> answer);
  // What mail for each of these addresses, or hosts to which it was rerouted, waits for now, in a
  // sentence; empty: for nothing known, or not for as long as `least`.
  void reasons(std::vector<std::string> addresses,
               std::function<void(std::vector<std::string>)> answer,
               Duration least = std::chrono::seconds(5));
  // Forgets that sites are blocked: `postrider queue retry`. Empty: all of them.
  void unblock(std::string domain_or_site);

  class Core;

 private:
  std::shared_ptr<Core> core_;  // shared with its coroutines, which may end after us
};

}  // namespace postrider::delivery
