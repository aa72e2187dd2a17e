// From an address to a way: this machine, a route's host, or the MX hosts of its domain; and from
// names of hosts to their addresses.
#pragma once

#include "base/net/blocking_pool.h"
#include "delivery/dispatch_context.h"
#include "delivery/dispatcher.h"
#include "delivery/routing/hosts.h"
#include "mail/directory.h"

#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

namespace postrider::delivery {

// The way of a recipient, up to the point where DNS is needed.
struct RouteDecision {
  enum class Kind : std::uint8_t { local, mx, fixed, error, discard };
  Kind kind = Kind::mx;
  std::string domain;
  const Route* route = nullptr;         // in the settings or in `mapped`; null: none matched
  std::shared_ptr<const Route> mapped;  // by a table
  std::string sender;                   // whose mail it is
  // " by sender" or " by map": other mail of the domain may go another way; empty: all goes this.
  std::string label;
  mail::TlsWish tls = mail::TlsWish::unspecified;  // of the message
  std::string key;                                 // equal for recipients that can travel together
};

class Router {
 public:
  // What tables said.
  struct Known {
    std::unordered_map<std::string, bool> local;  // domains: whether mail for them ends here
    // Addresses that are not local, where there is a map; null: it does not know them.
    std::unordered_map<std::string, std::shared_ptr<const Route>> ways;
  };

  Router(DispatchContext& context, ResolverOf resolver_of, const mail::Directory& directory);

  // False: a table must be asked first. stale: what has been known for long will do.
  bool look_up(const mail::Recipient& recipient, Known& known, bool stale = false) const;
  Task<Known> ask_tables(std::vector<std::string> addresses);
  Task<bool> ask_whether_local(std::string domain);
  // Requires: look_up() or ask_tables() with this recipient. sender: null: nobody that a route
  // names.
  RouteDecision decide(const mail::Recipient& recipient, const std::string* sender,
                       mail::TlsWish wish, const Known& known) const;
  Task<RouteDecision> decide(std::string address);
  // The way to a host that an administrator chose (queue::Lease::Recipient::next_hop): by a route
  // of the settings that leads there, if there is one. nullopt: it is not a host.
  std::optional<RouteDecision> rerouted(const std::string& next_hop, mail::TlsWish wish);

  // Addresses of both families, as far as they are in use.
  Task<std::vector<FoundHost>> look_up(std::vector<Host> hosts);
  // Goes on behind hosts that have no address or are ourselves, for only the whole list can say
  // that there is no host; but not behind a lookup that failed, which is retried as a whole.
  Task<std::vector<FoundHost>> look_up_usable(std::vector<Host> hosts, std::uint16_t port,
                                              bool by_mx);
  dns::Resolver& resolver() { return resolver_of_(context_.home); }

 private:
  void choose_route(const mail::Recipient& recipient, const std::string* sender, const Known& known,
                    RouteDecision& way) const;

  DispatchContext& context_;
  ResolverOf resolver_of_;
  const mail::Directory& directory_;
  BlockingPool tables_;  // asks which domains are local, and for routes
  std::unordered_map<std::string, std::unique_ptr<Route>> chosen_;  // hosts of administrators
};

}  // namespace postrider::delivery
