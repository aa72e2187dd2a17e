// From an address to a site: routes, then MX.
#include "base/memory_only.h"
#include "base/text.h"
#include "delivery/core.h"
#include "delivery/job/job_outcome.h"
#include "delivery/local/addresses/left_out_entries.h"
#include "mail/address.h"

#include <algorithm>

namespace postrider::delivery {

using mail::Outcome;
using mail::Stage;
using mail::Verdict;
using Core = Dispatcher::Core;

namespace {

// That nobody takes mail for a domain is not known while it may be one of ours.
void doubt(std::optional<Outcome>& outcome, const DeliverySettings& settings) {
  if (!outcome || outcome->verdict != Verdict::bounce || !settings.local.book ||
      !lacks_domains(*settings.local.book))
    return;
  outcome->verdict = Verdict::retry;
  outcome->status.klass = 4;
  outcome->text += "; and a table of virtual domains cannot be read";
}

// How long an MX answer is used without asking the resolver (which has a cache of its own).
constexpr Duration kLeastKnown = std::chrono::seconds(30);
constexpr Duration kMostKnown = std::chrono::hours(1);
constexpr std::size_t kMostAssigned = 65'536;

std::string dns_site_name(const std::string& domain) {
  return "dns:" + domain;
}

bool is_address(const std::string& text) {
  boost::system::error_code failed;
  (void)asio::ip::make_address(text, failed);
  return !failed;
}

std::string mx_site_name(const Destination& destination, const std::vector<Host>& hosts,
                         std::uint16_t port) {
  std::vector<std::string> names;
  for (const auto& host : hosts)
    names.push_back(host.is_address ? std::string() : host.name);
  const auto name = hosts.front().is_address ? destination.domain : site_name(hosts, port);
  return name + site_tag(destination.tls, names);
}

}  // namespace

// False: a table must be asked first. stale: what has been known for long will do.
bool Core::look_up_local(const mail::Recipient& recipient, LocalDomains& local, bool stale) const {
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

Task<Core::LocalDomains> Core::ask_tables(std::vector<std::string> domains) {
  std::function<LocalDomains()> job = [&directory = directory_, domains = std::move(domains)] {
    LocalDomains local;
    for (const auto& domain : domains)
      if (!domain.empty() && !local.contains(domain))
        local.emplace(domain, directory.is_local_domain(domain));
    return local;
  };
  auto local = co_await tables_->run<LocalDomains>(home(), std::move(job));
  co_return local;
}

Task<Core::RouteDecision> Core::ask_way(std::string address) {
  const mail::Recipient recipient{std::move(address), {}, {}};
  LocalDomains local;
  if (!look_up_local(recipient, local))
    local = co_await ask_tables({mail::domain_of(recipient.address)});
  co_return find_way(recipient, mail::TlsWish::unspecified, local);
}

Core::RouteDecision Core::find_way(const mail::Recipient& recipient, mail::TlsWish wish,
                                   const LocalDomains& local) const {
  RouteDecision way;
  way.tls = wish;
  const char* aside = wish == mail::TlsWish::required   ? "!"
                      : wish == mail::TlsWish::optional ? "?"
                                                        : "";
  way.domain = mail::domain_of(recipient.address);
  const auto known = local.find(way.domain);
  const bool is_local = known != local.end() && known->second;
  if (way.domain.empty() || !recipient.leaf.empty() || is_local) {
    // Aliases come before an LMTP server.
    const bool is_found = !settings_->local.book || recipient.leaf.starts_with("mailbox:");
    const bool by_lmtp = settings_->mailbox_route.has_value() && is_found;
    way.kind = by_lmtp ? RouteDecision::Kind::fixed : RouteDecision::Kind::local;
    way.route = by_lmtp ? &*settings_->mailbox_route : nullptr;
    way.key = by_lmtp ? "lmtp" : "local";
    return way;
  }
  way.route = find_route(settings_->routes, way.domain);
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
  way.key =
      "route" + std::string(aside) + ":" + std::to_string(way.route - settings_->routes.data());
  return way;
}

TlsSources Core::fixed_tls(const Route& route, mail::TlsWish wish) {
  const auto& hop = route.next_hop;
  if (hop.kind == NextHop::Kind::lmtp_socket)
    return sources_of(nullptr, hop.host, false, mail::TlsWish::unspecified);
  auto tls = sources_of(&route, hop.host, false, wish);
  tls.implicit = hop.kind == NextHop::Kind::smtps;
  return tls;
}

std::string Core::fixed_site_name(const Route& route, const TlsSources& tls) {
  const auto& hop = route.next_hop;
  auto name = hop.describe() + site_tag(tls, {hop.host});
  if (route.secrets)
    name += " as " + route.secrets->user();
  else if (!route.trouble.empty())
    name += " with " + route.credentials;
  return name;
}

Site& Core::fixed_site(const Route& route, mail::TlsWish wish) {
  const auto& hop = route.next_hop;
  auto tls = fixed_tls(route, wish);
  auto& site = site_named(fixed_site_name(route, tls));
  site.tls = std::move(tls);
  site.secrets = route.secrets;
  site.is_aside = wish != mail::TlsWish::unspecified;
  const bool is_lmtp = hop.kind == NextHop::Kind::lmtp || hop.kind == NextHop::Kind::lmtp_socket;
  site.kind = hop.kind == NextHop::Kind::lmtp_socket ? Site::Kind::socket : Site::Kind::fixed;
  site.dialect = is_lmtp ? Dialect::lmtp : Dialect::smtp;
  site.port = hop.port;
  site.unavailable = route.trouble;
  if (!site.unavailable.empty())
    site.alarm = site.unavailable;
  if (site.hosts.empty())
    site.hosts.push_back({0, hop.host, is_address(hop.host)});
  return site;
}

Destination& Core::destination_of(const RouteDecision& way) {
  const auto known = destinations_.find(way.key);
  if (known != destinations_.end())
    return *known->second;
  forget_unused();  // which walks over all that are there
  auto fresh = std::make_unique<Destination>();
  fresh->key = way.key;
  fresh->domain = way.domain;
  fresh->tls = sources_of(way.route, way.domain, true, way.tls);
  return *destinations_.emplace(way.key, std::move(fresh)).first->second;
}

void Core::send_by_mx(const RouteDecision& way, Job job) {
  auto& destination = destination_of(way);
  const auto known = sites_.find(destination.site);
  const bool is_known = !destination.site.empty() && known != sites_.end();
  if (is_known && known->second->kind != Site::Kind::dns && destination.known_until > steady()) {
    add_job(*known->second, std::move(job));
    return;
  }
  const auto trouble = sites_.find(dns_site_name(destination.domain));
  if (trouble != sites_.end() &&
      trouble->second->health.state(clock_.now()) == SiteHealth::State::blocked) {
    if (way.tls == mail::TlsWish::unspecified)
      assign(destination.domain, trouble->first);
    log_parked(*trouble->second, job);
    give_back(*trouble->second, job);
    return;
  }
  destination.waiting.push_back(std::move(job));
  if (!std::exchange(destination.is_resolving, true))
    home().spawn(resolve(shared_from_this(), destination.key), log_, "MX lookup");
}

Task<void> Core::resolve(std::shared_ptr<Core> self, std::string key) {
  auto& destination = *destinations_.at(key);  // not forgotten while it is resolved
  MailHosts hosts;
  Duration ttl = kMostKnown;
  const auto* route = find_route(settings_->routes, destination.domain);
  destination.tls = sources_of(route, destination.domain, true, destination.tls.message);
  if (auto literal = literal_host(destination.domain)) {
    hosts.hosts.push_back(*std::move(literal));
  } else {
    auto& resolver = resolver_of_(home());
    const auto answer = co_await resolver.mx(destination.domain);
    hosts = choose_hosts(destination.domain, answer, settings_->own);
    doubt(hosts.outcome, *settings_);
    ttl = std::clamp(answer.ttl, kLeastKnown, kMostKnown);
    destination.tls.mx_secure = hosts.secure;
    if (hooks_.sts && !hosts.outcome && destination.tls.route == TlsMode::opportunistic) {
      auto sts = co_await find_sts(destination.domain);
      destination.tls.sts = std::move(sts.policy);
      if (sts.trouble != TlsResult::success)
        report_failure(destination.tls, destination.domain, nullptr, sts.trouble, sts.detail);
    }
  }
  destination.is_resolving = false;
  destination.known_until = steady() + ttl;
  resolved(destination, hosts);
}

void Core::resolved(Destination& destination, const MailHosts& hosts) {
  auto waiting = std::exchange(destination.waiting, {});
  if (hosts.outcome && hosts.outcome->verdict == Verdict::bounce) {
    destination.known_until = {};
    for (const auto& job : waiting) {
      settle_all(job, *hosts.outcome);
      close_if_done(job.lease);
    }
    return;
  }
  if (hosts.outcome) {
    auto& trouble = site_named(dns_site_name(destination.domain));
    trouble.kind = Site::Kind::dns;
    destination.site = trouble.name;
    if (destination.tls.message == mail::TlsWish::unspecified)
      assign(destination.domain, trouble.name);
    trouble.ready = std::move(waiting);
    block(trouble, *hosts.outcome);
    return;
  }
  if (const auto trouble = sites_.find(dns_site_name(destination.domain));
      trouble != sites_.end() && trouble->second->health.blocked_until() != TimePoint{})
    open_again(*trouble->second);
  auto& site = site_named(mx_site_name(destination, hosts.hosts, settings_->port));
  site.tls = destination.tls;
  site.is_aside = destination.tls.message != mail::TlsWish::unspecified;
  site.kind = Site::Kind::mx;
  site.port = settings_->port;
  site.hosts = hosts.hosts;
  destination.site = site.name;
  if (!site.is_aside)
    assign(destination.domain, site.name);
  for (auto& job : waiting)
    add_job(site, std::move(job));
}

// Asks for both families, as far as they are in use.
Task<std::vector<FoundHost>> Core::look_up(std::vector<Host> hosts) {
  std::vector<FoundHost> found;
  auto& resolver = resolver_of_(home());
  const auto families = settings_->families;
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
      const auto answer = co_await resolver.aaaa(host.name);
      add_addresses(one, answer, random_);
    }
    if (families != Families::ipv6) {
      const auto answer = co_await resolver.a(host.name);
      add_addresses(one, answer, random_);
    }
    found.push_back(std::move(one));
  }
  co_return found;
}

// Goes on behind hosts that have no address or are ourselves, for only the whole list can say that
// there is no host; but not behind a lookup that failed, which is retried as a whole.
Task<std::vector<FoundHost>> Core::look_up_usable(std::vector<Host> hosts, std::uint16_t port,
                                                  bool by_mx) {
  const auto order = lookup_order(std::move(hosts), random_);
  std::vector<FoundHost> found;
  for (std::size_t i = 0; i < order.size() && !has_usable(found) && !is_doubtful(found);) {
    const auto end = std::min(i + kHostsAtOnce, order.size());
    auto more =
        co_await look_up(std::vector<Host>(order.begin() + static_cast<std::ptrdiff_t>(i),
                                           order.begin() + static_cast<std::ptrdiff_t>(end)));
    find_ourselves(more, settings_->own, port, by_mx);
    std::move(more.begin(), more.end(), std::back_inserter(found));
    i = end;
  }
  co_return found;
}

void Core::assign(const std::string& domain, const std::string& site) {
  // A relay for everything sees many domains; what is forgotten here is only said again.
  if (assigned_.size() >= kMostAssigned)
    assigned_.clear();
  auto& known = assigned_[domain];
  if (known == site)
    return;
  known = site;
  custody_->assign_site(domain, site);
}

}  // namespace postrider::delivery
