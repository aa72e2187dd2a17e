#include "delivery/router.h"

#include "base/memory_only.h"
#include "mail/address.h"

#include <algorithm>

namespace postrider::delivery {

namespace {

constexpr unsigned kAskers = 2;

const char* mark_of(mail::TlsWish wish) {
  return wish == mail::TlsWish::required ? "!" : wish == mail::TlsWish::optional ? "?" : "";
}

}  // namespace

Router::Router(DispatchContext& context, ResolverOf resolver_of, const mail::Directory& directory)
    : context_(context),
      resolver_of_(std::move(resolver_of)),
      directory_(directory),
      tables_(kAskers) {}

bool Router::look_up(const mail::Recipient& recipient, Known& known, bool stale) const {
  auto domain = mail::domain_of(recipient.address);
  if (domain.empty() || !recipient.leaf.empty())
    return true;
  const MemoryOnly memory(stale);
  auto found = known.local.find(domain);
  if (found == known.local.end()) {
    const bool is_local = directory_.is_local_domain(domain);
    if (memory.was_not_enough())
      return false;
    found = known.local.emplace(std::move(domain), is_local).first;
  }
  const auto& settings = *context_.settings;
  if (found->second || !settings.route_map || known.ways.contains(recipient.address))
    return true;
  auto way = settings.route_map->find(recipient.address, settings.map_separator, settings.routes);
  if (memory.was_not_enough())
    return false;
  known.ways.emplace(recipient.address, std::move(way));
  return true;
}

Task<Router::Known> Router::ask_tables(std::vector<std::string> addresses) {
  std::function<Known()> job = [&directory = directory_, settings = context_.settings,
                                addresses = std::move(addresses)] {
    Known known;
    for (const auto& address : addresses) {
      const auto domain = mail::domain_of(address);
      if (domain.empty())
        continue;
      const auto found = known.local.find(domain);
      const bool is_local =
          found != known.local.end()
              ? found->second
              : known.local.emplace(domain, directory.is_local_domain(domain)).first->second;
      if (!is_local && settings->route_map && !known.ways.contains(address))
        known.ways.emplace(
            address, settings->route_map->find(address, settings->map_separator, settings->routes));
    }
    return known;
  };
  auto known = co_await tables_.run<Known>(context_.home, std::move(job));
  co_return known;
}

Task<bool> Router::ask_whether_local(std::string domain) {
  std::function<bool()> job = [&directory = directory_, domain = std::move(domain)] {
    return directory.is_local_domain(domain);
  };
  co_return co_await tables_.run<bool>(context_.home, std::move(job));
}

Task<RouteDecision> Router::decide(std::string address) {
  const mail::Recipient recipient{std::move(address), {}, {}};
  Known known;
  if (!look_up(recipient, known))
    known = co_await ask_tables({recipient.address});
  co_return decide(recipient, nullptr, mail::TlsWish::unspecified, known);
}

std::optional<RouteDecision> Router::rerouted(const std::string& next_hop, mail::TlsWish wish) {
  RouteDecision way;
  way.kind = RouteDecision::Kind::fixed;
  way.domain = next_hop;  // as the queue calls it
  way.tls = wish;
  way.key = "chosen" + std::string(mark_of(wish)) + ":" + next_hop;
  for (const auto& route : context_.settings->routes)
    if (route.next_hop.describe() == next_hop) {
      way.route = &route;
      return way;
    }
  auto& chosen = chosen_[next_hop];
  if (!chosen) {
    const auto hop = parse_next_hop(next_hop);
    if (!hop || (hop->kind != NextHop::Kind::smtp && hop->kind != NextHop::Kind::smtps &&
                 hop->kind != NextHop::Kind::lmtp)) {
      chosen_.erase(next_hop);
      return std::nullopt;
    }
    chosen = std::make_unique<Route>();
    chosen->next_hop = *hop;
  }
  way.route = chosen.get();
  return way;
}

RouteDecision Router::decide(const mail::Recipient& recipient, const std::string* sender,
                             mail::TlsWish wish, const Known& known) const {
  RouteDecision way;
  way.tls = wish;
  const char* aside = mark_of(wish);
  way.domain = mail::domain_of(recipient.address);
  const auto local = known.local.find(way.domain);
  const bool is_local = local != known.local.end() && local->second;
  if (way.domain.empty() || !recipient.leaf.empty() || is_local) {
    // Aliases come before an LMTP server.
    const bool is_found = !context_.settings->local.book || recipient.leaf.starts_with("mailbox:");
    const bool by_lmtp = context_.settings->mailbox_route.has_value() && is_found;
    way.kind = by_lmtp ? RouteDecision::Kind::fixed : RouteDecision::Kind::local;
    way.route = by_lmtp ? &*context_.settings->mailbox_route : nullptr;
    way.key = by_lmtp ? "lmtp" : "local";
    return way;
  }
  choose_route(recipient, sender, known, way);
  const auto kind = way.route == nullptr ? NextHop::Kind::mx : way.route->next_hop.kind;
  switch (kind) {
    case NextHop::Kind::mx:
      way.kind = RouteDecision::Kind::mx;
      way.key =
          "mx" + std::string(aside) + ":" + way.domain + way.label + connection_tag(way.route);
      if (way.route != nullptr && !way.label.empty() && !way.mapped)
        way.key += " " + std::to_string(way.route - context_.settings->routes.data());
      return way;
    case NextHop::Kind::error:
      way.kind = RouteDecision::Kind::error;
      break;
    case NextHop::Kind::discard:
      way.kind = RouteDecision::Kind::discard;
      break;
    default:
      way.kind = RouteDecision::Kind::fixed;
      break;
  }
  way.key = "route" + std::string(aside) + ":" +
            (way.mapped ? way.route->next_hop.describe()
                        : std::to_string(way.route - context_.settings->routes.data()));
  return way;
}

// A table comes before the routes of the configuration.
void Router::choose_route(const mail::Recipient& recipient, const std::string* sender,
                          const Known& known, RouteDecision& way) const {
  const auto& settings = *context_.settings;
  if (sender != nullptr)
    way.sender = *sender;
  if (settings.route_map)
    way.label = " by map";
  else if (depends_on_sender(settings.routes, way.domain))
    way.label = " by sender";
  const auto mapped = known.ways.find(recipient.address);
  if (mapped != known.ways.end() && mapped->second) {
    way.mapped = mapped->second;
    way.route = way.mapped.get();
    return;
  }
  way.route = sender == nullptr ? find_route(settings.routes, way.domain)
                                : find_route(settings.routes, way.domain, *sender);
}

Task<std::vector<FoundHost>> Router::look_up(std::vector<Host> hosts) {
  std::vector<FoundHost> found;
  auto& asked = resolver();
  const auto families = context_.settings->families;
  for (auto& host : hosts) {
    FoundHost one;
    one.host = host;
    if (host.is_address) {
      boost::system::error_code failed;
      const auto address = asio::ip::make_address(host.name, failed);
      if (!failed)
        one.addresses.push_back(address);
      found.push_back(std::move(one));
      continue;
    }
    if (families != Families::ipv4) {
      const auto answer = co_await asked.aaaa(host.name);
      add_addresses(one, answer, context_.random);
    }
    if (families != Families::ipv6) {
      const auto answer = co_await asked.a(host.name);
      add_addresses(one, answer, context_.random);
    }
    found.push_back(std::move(one));
  }
  co_return found;
}

Task<std::vector<FoundHost>> Router::look_up_usable(std::vector<Host> hosts, std::uint16_t port,
                                                    bool by_mx) {
  const auto order = lookup_order(std::move(hosts), context_.random);
  std::vector<FoundHost> found;
  for (std::size_t i = 0; i < order.size() && !has_usable(found) && !is_doubtful(found);) {
    const auto end = std::min(i + kHostsAtOnce, order.size());
    auto more =
        co_await look_up(std::vector<Host>(order.begin() + static_cast<std::ptrdiff_t>(i),
                                           order.begin() + static_cast<std::ptrdiff_t>(end)));
    find_ourselves(more, context_.settings->own, port, by_mx);
    std::move(more.begin(), more.end(), std::back_inserter(found));
    i = end;
  }
  co_return found;
}

}  // namespace postrider::delivery
