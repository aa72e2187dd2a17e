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

bool Router::look_up_local(const mail::Recipient& recipient, LocalDomains& local,
                           bool stale) const {
  auto domain = mail::domain_of(recipient.address);
  if (domain.empty() || !recipient.leaf.empty() || local.contains(domain))
    return true;
  const MemoryOnly memory(stale);
  const bool is_local = directory_.is_local_domain(domain);
  if (memory.was_not_enough())
    return false;
  local.emplace(std::move(domain), is_local);
  return true;
}

Task<Router::LocalDomains> Router::ask_tables(std::vector<std::string> domains) {
  std::function<LocalDomains()> job = [&directory = directory_, domains = std::move(domains)] {
    LocalDomains local;
    for (const auto& domain : domains)
      if (!domain.empty() && !local.contains(domain))
        local.emplace(domain, directory.is_local_domain(domain));
    return local;
  };
  auto local = co_await tables_.run<LocalDomains>(context_.home, std::move(job));
  co_return local;
}

Task<RouteDecision> Router::decide(std::string address) {
  const mail::Recipient recipient{std::move(address), {}, {}};
  LocalDomains local;
  if (!look_up_local(recipient, local))
    local = co_await ask_tables({mail::domain_of(recipient.address)});
  co_return decide(recipient, mail::TlsWish::unspecified, local);
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

RouteDecision Router::decide(const mail::Recipient& recipient, mail::TlsWish wish,
                             const LocalDomains& local) const {
  RouteDecision way;
  way.tls = wish;
  const char* aside = mark_of(wish);
  way.domain = mail::domain_of(recipient.address);
  const auto known = local.find(way.domain);
  const bool is_local = known != local.end() && known->second;
  if (way.domain.empty() || !recipient.leaf.empty() || is_local) {
    // Aliases come before an LMTP server.
    const bool is_found = !context_.settings->local.book || recipient.leaf.starts_with("mailbox:");
    const bool by_lmtp = context_.settings->mailbox_route.has_value() && is_found;
    way.kind = by_lmtp ? RouteDecision::Kind::fixed : RouteDecision::Kind::local;
    way.route = by_lmtp ? &*context_.settings->mailbox_route : nullptr;
    way.key = by_lmtp ? "lmtp" : "local";
    return way;
  }
  way.route = find_route(context_.settings->routes, way.domain);
  const auto kind = way.route == nullptr ? NextHop::Kind::mx : way.route->next_hop.kind;
  switch (kind) {
    case NextHop::Kind::mx:
      way.kind = RouteDecision::Kind::mx;
      way.key = "mx" + std::string(aside) + ":" + way.domain;
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
            std::to_string(way.route - context_.settings->routes.data());
  return way;
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
