#include "base/network.h"
#include "base/quoted.h"
#include "base/text.h"
#include "daemon/config/config_checks.h"
#include "daemon/config/listened.h"
#include "delivery/routing/route.h"
#include "delivery/scheduler/operator_words.h"

#include <algorithm>
#include <string>
#include <vector>

namespace postrider::daemon {

namespace {

// What may be meant, and mostly is not.
class Doubts {
 public:
  explicit Doubts(const Config& config) : config_(config) {}

  void connections() {
    constexpr std::uint64_t kFew = 8;  // fewer cannot be shared out: see delivery::ConnectionShares
    if (const auto most = config_.delivery.connections; most > 0 && most < kFew)
      add("delivery.connections",
          std::to_string(most) + (most == 1 ? " is" : " are") +
              " few, hosts that are silent can hold up all other mail; at least " +
              std::to_string(kFew) + " is sensible, or 0");
  }

  // RFC 5321, 2.3.5: the name is a fully qualified one. Many hosts refuse another.
  void hostname() {
    const auto& name = config_.hostname;
    if (equals_ignoring_case(name, "localhost") || name.find('.') == std::string::npos ||
        ends_with_ignoring_case(name, ".localdomain"))
      add("hostname",
          quote_value(name) +
              " is not a name on the Internet, and many hosts refuse mail from one that "
              "calls itself so; say the name that the DNS has for this machine's address");
  }

  void listeners() {
    for (std::size_t i = 0; i < config_.listeners.size(); ++i) {
      shared_port(i);
      open_submission(i);
      filter_loops(i);
    }
  }

  void routes() {
    for (std::size_t i = 0; i < config_.routes.size(); ++i) {
      const auto hop = delivery::parse_next_hop(config_.routes[i].next_hop);
      if (!hop)
        continue;  // reported as such
      const auto key = "route[" + std::to_string(i) + "].next_hop";
      loops(key, *hop);
      tls_of_port(key, *hop);
    }
  }

  void sites() {
    std::vector<std::string> seen;
    for (std::size_t i = 0; i < config_.sites.size(); ++i) {
      const auto key = "site[" + std::to_string(i) + "].match";
      if (config_.sites[i].match.empty())
        add(key, "is empty, so that this [[site]] is of no mail");
      for (const auto& text : config_.sites[i].match) {
        auto pattern = ascii_lower(text);
        if (std::find(seen.begin(), seen.end(), pattern) != seen.end())
          add(key,
              quote_value(text) + " stands in an earlier [[site]], which is the one that counts");
        else
          seen.push_back(std::move(pattern));
        if (text.find('.') == text.npos && !text.starts_with("mx:") &&
            scheduler::hosts_of_provider(text).empty())
          add(key, quote_value(text) +
                       " is no provider that is known here, and counts as a domain; known are " +
                       scheduler::provider_names());
      }
    }
  }

  // Whoever may connect as a proxy says who the client is.
  void proxies() {
    const auto is_here = [](const std::string& text) {
      const auto network = Network::parse(text);
      return network && (network->contains(*IpAddress::parse("127.0.0.1")) ||
                         network->contains(*IpAddress::parse("::1")));
    };
    const auto& accept = config_.accept;
    if (!accept.relay_from.empty() && has_proxied_listener() &&
        std::any_of(accept.proxy_from.begin(), accept.proxy_from.end(), is_here))
      add("accept.proxy_from",
          "holds this machine: each of its users can name a client of accept.relay_from and "
          "send without the limits of sendmail; let the proxy speak to a listener at a socket "
          "(unix:), or leave accept.relay_from out");
  }

  std::vector<Problem> found;

 private:
  bool has_proxied_listener() const {
    return std::any_of(config_.listeners.begin(), config_.listeners.end(),
                       [](const auto& listener) { return listener.proxy_protocol; });
  }

  using Kind = delivery::NextHop::Kind;

  void add(std::string key, std::string text) {
    found.push_back({0, std::move(key), std::move(text)});
  }

  // All addresses and one of them, at one port: the second does not get it.
  void shared_port(std::size_t index) {
    const auto place = listener_place(config_.listeners[index].address);
    if (!place || place->port == 0)
      return;
    for (std::size_t other = 0; other < config_.listeners.size(); ++other) {
      const auto all = listener_place(config_.listeners[other].address);
      if (other == index || !all || all->port != place->port || !all->is_any() || place->is_any() ||
          (all->address.is_v4() && !place->address.is_v4()))
        continue;
      return add("listener[" + std::to_string(index) + "].address",
                 quote_value(config_.listeners[index].address) + " is one of the addresses of \"" +
                     escaped(config_.listeners[other].address) +
                     "\", and the system gives a port once: the start will fail");
    }
  }

  void open_submission(std::size_t index) {
    const auto& listener = config_.listeners[index];
    if (listener.role != Role::submission || config_.auth.is_used() ||
        listener.address.starts_with("unix:"))
      return;
    if (listener.tls == ListenerTls::off)
      add("listener[" + std::to_string(index) + "].role",
          "\"submission\" without TLS and without any source of logins: programs that log in "
          "cannot use it; give tls and auth.users, auth.dovecot or auth.pam");
  }

  // What a listener sends on, and gets again.
  void filter_loops(std::size_t index) {
    const auto hop = delivery::parse_next_hop(config_.listeners[index].next_hop);
    if (!hop || config_.listeners[index].next_hop.empty())
      return;
    const auto* ours = own_listener(*hop);
    if (ours == nullptr)
      return;
    const auto key = "listener[" + std::to_string(index) + "].next_hop";
    if (ours->next_hop.empty())
      add(key, "leads to our own listener " + quote_value(ours->address) +
                   " and past any filter; name the port of the filter");
    else
      add(key, "leads to our own listener " + quote_value(ours->address) +
                   ", which sends its mail on, too: it would wait here, since it leads back; "
                   "name the port of the filter, and let it give mail back to a listener "
                   "without next_hop");
  }

  // The first that a next hop leads to; null: none.
  const ListenerConfig* own_listener(const delivery::NextHop& hop) const {
    const bool is_us = hop.is_on_this_machine() || equals_ignoring_case(hop.host, config_.hostname);
    const auto address = IpAddress::parse(hop.host);
    for (const auto& listener : config_.listeners) {
      const auto place = listener_place(listener.address);
      if (!place || place->port != hop.port)
        continue;
      if ((is_us && (place->is_any() || !address || place->address == *address)) ||
          (address && place->address == *address))
        return &listener;
    }
    return nullptr;
  }

  void loops(const std::string& key, const delivery::NextHop& hop) {
    if (hop.kind != Kind::smtp && hop.kind != Kind::smtps)
      return;
    if (const auto* listener = own_listener(hop))
      add(key, "leads to our own listener " + quote_value(listener->address) +
                   ": its mail would wait here until it goes back; name the host that is to "
                   "take it, or leave the route out, and mail goes by MX");
  }

  void tls_of_port(const std::string& key, const delivery::NextHop& hop) {
    if (hop.kind == Kind::smtps && (hop.port == 587 || hop.port == 25))
      add(key, "speaks TLS from the first byte to port " + std::to_string(hop.port) +
                   ", where hosts begin in clear; smtp:// is for that port, and uses STARTTLS");
    else if (hop.kind == Kind::smtp && hop.port == 465)
      add(key, "begins in clear at port 465, where hosts await TLS; smtps:// is for that port");
  }

  const Config& config_;
};

}  // namespace

std::vector<Problem> warnings_about(const Config& config) {
  Doubts doubts(config);
  doubts.connections();
  doubts.hostname();
  doubts.listeners();
  doubts.routes();
  doubts.sites();
  doubts.proxies();
  return std::move(doubts.found);
}

}  // namespace postrider::daemon
