#include "delivery/destinations.h"

#include "delivery/job/job_outcome.h"
#include "delivery/local/addresses/left_out_entries.h"
#include "delivery/local/local_delivery.h"
#include "mail/address.h"

#include <algorithm>
#include <set>

namespace postrider::delivery {

using mail::Outcome;
using mail::Stage;
using mail::Verdict;

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

bool is_host(NextHop::Kind kind) {
  return kind != NextHop::Kind::mx && kind != NextHop::Kind::error &&
         kind != NextHop::Kind::discard;
}

// Whether a site of that name is a route's host.
bool is_fixed_name(const std::string& site) {
  return site.find("://") != std::string::npos;
}

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
  return name + site_tag(destination.tls, names) + destination.label;
}

void use_route(Site& site, const Route* route) {
  site.sources = route == nullptr ? std::vector<IpAddress>() : route->sources;
  site.helo = route == nullptr ? std::string() : route->helo;
}

bool is_aside(const Destination& destination) {
  return destination.tls.message != mail::TlsWish::unspecified || !destination.label.empty();
}

TlsSources fixed_tls(const Route& route, mail::TlsWish wish) {
  const auto& hop = route.next_hop;
  if (hop.kind == NextHop::Kind::lmtp_socket)
    return TlsDemands::sources_of(nullptr, hop.host, false, mail::TlsWish::unspecified);
  auto tls = TlsDemands::sources_of(&route, hop.host, false, wish);
  tls.implicit = hop.kind == NextHop::Kind::smtps;
  return tls;
}

}  // namespace

Destinations::Destinations(DispatchContext& context, LeaseBook& leases, SiteBook& sites,
                           Router& router, TlsDemands& tls, Connections& connections)
    : context_(context),
      leases_(leases),
      sites_(sites),
      router_(router),
      tls_(tls),
      connections_(connections),
      routing_(routing()) {}

std::string Destinations::fixed_site_name(const Route& route, mail::TlsWish wish,
                                          const std::string& label) {
  const auto& hop = route.next_hop;
  auto name = hop.describe() + site_tag(fixed_tls(route, wish), {hop.host}) + label +
              connection_tag(&route);
  if (route.secrets)
    name += " as " + route.secrets->user();
  else if (!route.trouble.empty())
    name += " with " + route.credentials;
  return name;
}

Site& Destinations::fixed_site(const Route& route, mail::TlsWish wish, const std::string& label) {
  const auto& hop = route.next_hop;
  auto tls = fixed_tls(route, wish);
  auto& site = sites_.named(fixed_site_name(route, wish, label));
  site.tls = std::move(tls);
  site.secrets = route.secrets;
  use_route(site, &route);
  site.is_aside = wish != mail::TlsWish::unspecified || !label.empty();
  const bool is_lmtp = hop.kind == NextHop::Kind::lmtp || hop.kind == NextHop::Kind::lmtp_socket;
  site.kind = hop.kind == NextHop::Kind::lmtp_socket ? Site::Kind::socket : Site::Kind::fixed;
  site.dialect = is_lmtp ? Dialect::lmtp : Dialect::smtp;
  site.port = hop.port;
  site.unavailable = route.trouble;
  if (!site.unavailable.empty())
    site.alarm = site.unavailable;
  if (site.hosts.empty()) {
    site.hosts.push_back({0, hop.host, is_address(hop.host)});
    sites_.apply_rules(site, {});
  }
  return site;
}

void Destinations::send_to_host(const RouteDecision& way, Job job) {
  auto& site = fixed_site(*way.route, way.tls, way.label);
  if (!context_.settings->site_rules.empty() && !site.domains.contains(way.domain))
    sites_.apply_rules(site, way.domain);
  if (!site.is_aside)
    assign(way.domain, site.name);
  connections_.send(site, std::move(job));
}

void Destinations::send_to_lmtp(const std::string& server, Job job) {
  const auto hop = lmtp_next_hop(server);
  if (!hop) {
    leases_.settle_all(job,
                       decide(Verdict::retry, Stage::local, {4, 3, 5}, hop.error().describe()));
    leases_.close(job.lease);
  } else if (context_.is_draining) {
    leases_.put_back(job);
    leases_.close(job.lease);
  } else {
    Route to_server;
    to_server.next_hop = *hop;
    connections_.send(fixed_site(to_server, mail::TlsWish::unspecified), std::move(job));
  }
}

const Destination* Destinations::find(const RouteDecision& way) const {
  const auto found = by_key_.find(way.key);
  return found == by_key_.end() ? nullptr : found->second.get();
}

Destination& Destinations::destination_of(const RouteDecision& way) {
  const auto known = by_key_.find(way.key);
  if (known != by_key_.end())
    return *known->second;
  forget_unused();  // which walks over all that are there
  auto fresh = std::make_unique<Destination>();
  fresh->key = way.key;
  fresh->domain = way.domain;
  fresh->label = way.label;
  fresh->tls = TlsDemands::sources_of(way.route, way.domain, true, way.tls);
  return *by_key_.emplace(way.key, std::move(fresh)).first->second;
}

void Destinations::send_by_mx(const RouteDecision& way, Job job) {
  auto& destination = destination_of(way);
  destination.sender = way.sender;
  destination.mapped = way.mapped;
  auto* known = destination.site.empty() ? nullptr : sites_.find(destination.site);
  if (known != nullptr && known->kind != Site::Kind::dns &&
      destination.known_until > context_.steady()) {
    connections_.send(*known, std::move(job));
    return;
  }
  auto* trouble = sites_.find(dns_site_name(destination.domain));
  if (trouble != nullptr && sites_.is_blocked(*trouble)) {
    if (!is_aside(destination))
      assign(destination.domain, trouble->name);
    sites_.park(*trouble, job);
    return;
  }
  destination.waiting.push_back(std::move(job));
  if (std::exchange(destination.is_resolving, true))
    return;
  try {
    context_.home.spawn(resolve(context_.alive(), destination.key), context_.log, "MX lookup");
  } catch (...) {
    destination.is_resolving = false;
    throw;
  }
}

const Route* Destinations::route_of(const Destination& destination) const {
  if (destination.mapped)
    return destination.mapped.get();
  return find_route(context_.settings->routes, destination.domain, destination.sender);
}

Task<void> Destinations::resolve(std::shared_ptr<void> alive, std::string key) {
  auto& destination = *by_key_.at(key);  // not forgotten while it is resolved
  MailHosts hosts;
  Duration ttl = kMostKnown;
  std::optional<mail::Outcome> broken;
  try {
    co_await look_up(destination, hosts, ttl);
  } catch (const std::exception& error) {  // its mail shall not wait for ever
    broken = went_wrong_here(mail::Stage::route, error);
  }
  destination.is_resolving = false;
  if (broken) {
    for (const auto& job : std::exchange(destination.waiting, {})) {
      leases_.settle_all(job, *broken);
      leases_.close(job.lease);
    }
    co_return;
  }
  destination.known_until = context_.steady() + ttl;
  resolved(destination, hosts);
}

Task<void> Destinations::look_up(Destination& destination, MailHosts& hosts, Duration& ttl) {
  destination.tls = TlsDemands::sources_of(route_of(destination), destination.domain, true,
                                           destination.tls.message);
  if (auto literal = literal_host(destination.domain)) {
    hosts.hosts.push_back(*std::move(literal));
  } else {
    const auto answer = co_await router_.resolver().mx(destination.domain);
    hosts = choose_hosts(destination.domain, answer, context_.settings->own);
    doubt(hosts.outcome, *context_.settings);
    ttl = std::clamp(answer.ttl, kLeastKnown, kMostKnown);
    destination.tls.mx_secure = hosts.secure;
    if (!hosts.outcome)
      (void)co_await tls_.find_policy(destination.tls, destination.domain, true);
  }
}

void Destinations::resolved(Destination& destination, const MailHosts& hosts) {
  auto waiting = std::exchange(destination.waiting, {});
  if (hosts.outcome && hosts.outcome->verdict == Verdict::bounce) {
    destination.known_until = {};
    for (const auto& job : waiting) {
      leases_.settle_all(job, *hosts.outcome);
      leases_.close(job.lease);
    }
    return;
  }
  if (hosts.outcome) {
    auto& trouble = sites_.named(dns_site_name(destination.domain));
    trouble.kind = Site::Kind::dns;
    destination.site = trouble.name;
    if (!is_aside(destination))
      assign(destination.domain, trouble.name);
    for (auto& job : waiting)
      trouble.ready.add(std::move(job));
    sites_.block(trouble, *hosts.outcome);
    return;
  }
  if (auto* trouble = sites_.find(dns_site_name(destination.domain));
      trouble != nullptr && trouble->health.blocked_until() != TimePoint{})
    sites_.open_again(*trouble);
  const auto* route = route_of(destination);
  auto& site = sites_.named(mx_site_name(destination, hosts.hosts, context_.settings->port) +
                            connection_tag(route));
  site.tls = destination.tls;
  use_route(site, route);
  site.is_aside = is_aside(destination);
  site.kind = Site::Kind::mx;
  site.port = context_.settings->port;
  site.hosts = some_of(hosts.hosts, context_.random);
  sites_.apply_rules(site, destination.domain);
  destination.site = site.name;
  if (!site.is_aside)
    assign(destination.domain, site.name);
  for (auto& job : waiting)
    connections_.send(site, std::move(job));
}

void Destinations::assign(const std::string& domain, const std::string& site) {
  // A relay for everything sees many domains; what is forgotten here is only said again.
  if (assigned_.size() >= kMostAssigned)
    assigned_.clear();
  auto& known = assigned_[domain];
  if (known == site)
    return;
  known = site;
  context_.queue->assign_site(domain, site);
}

void Destinations::restore() {
  leave_old_sites();
}

void Destinations::on_reload() {
  for (auto& [key, destination] : by_key_)
    destination->known_until = {};
  follow_routes();
}

// What decides by which way mail goes, as far as the configuration says it.
std::string Destinations::routing() const {
  const auto& settings = *context_.settings;
  std::string all = settings.route_map ? "map\n" : "";
  for (const auto& route : settings.routes) {
    all += route.domain;
    for (const auto& sender : route.senders)
      all += " " + sender;
    const auto& hop = route.next_hop;
    all += " " +
           (is_host(hop.kind) ? fixed_site_name(route, mail::TlsWish::unspecified, {})
                              : hop.describe() + connection_tag(&route)) +
           "\n";
  }
  return all;
}

void Destinations::follow_routes() {
  auto now = routing();
  if (routing_ == now || context_.is_draining)
    return;
  const auto before = std::exchange(routing_, std::move(now));
  const auto& settings = *context_.settings;
  const bool is_by_more = settings.route_map || before.starts_with("map\n") ||
                          std::any_of(settings.routes.begin(), settings.routes.end(),
                                      [](const Route& route) { return !route.senders.empty(); });
  std::vector<std::pair<std::string, std::string>> moved;  // domains, and their new sites
  for (const auto& [domain, site] : assigned_) {
    if (is_fixed_name(domain))
      continue;  // an administrator chose the host
    const auto* route = find_route(settings.routes, domain);
    const bool is_fixed = route != nullptr && is_host(route->next_hop.kind) && !is_by_more;
    auto wanted =
        is_fixed ? fixed_site_name(*route, mail::TlsWish::unspecified, {}) : std::string();
    if (is_fixed ? wanted != site : is_fixed_name(site))
      moved.emplace_back(domain, std::move(wanted));
  }
  for (auto& [domain, site] : moved) {
    context_.queue->assign_site(domain, site);
    if (site.empty())
      assigned_.erase(domain);
    else
      assigned_[domain] = std::move(site);
  }
  leave_old_sites();
}

// No way leads there any more, so that nothing would ask whether they are well again.
void Destinations::leave_old_sites() {
  const auto& settings = *context_.settings;
  std::set<std::string> current;
  const auto add = [&current](const Route& route) {
    for (const auto wish :
         {mail::TlsWish::unspecified, mail::TlsWish::required, mail::TlsWish::optional})
      for (const char* label : {"", " by map", " by sender"})
        current.insert(fixed_site_name(route, wish, label));
  };
  for (const auto& route : settings.routes)
    if (is_host(route.next_hop.kind))
      add(route);
  if (settings.mailbox_route)
    add(*settings.mailbox_route);
  for (const auto& [name, site] : sites_.all()) {
    if (!is_fixed_name(name) || current.contains(name))
      continue;
    sites_.put_back_ready(*site, Outcome());
    if (site->health.blocked_until() != TimePoint{})
      sites_.open_again(*site);
  }
}

void Destinations::unblock(const std::string& domain_or_site) {
  const auto assigned = assigned_.find(domain_or_site);
  const auto wanted = assigned != assigned_.end() ? assigned->second : domain_or_site;
  // What is known of hosts and policies is asked again too: it may be why the mail waits.
  for (auto& [key, destination] : by_key_)
    if (wanted.empty() || destination->domain == domain_or_site || destination->site == wanted)
      destination->known_until = {};
  sites_.unblock(wanted);
}

void Destinations::reclaim(const LeaseBook::Wanted& wanted) {
  for (auto& [key, destination] : by_key_)
    leases_.reclaim(destination->waiting, wanted);
}

void Destinations::each_waiting(const std::function<void(const Job&)>& visit) const {
  for (const auto& [key, destination] : by_key_)
    for (const auto& job : destination->waiting)
      visit(job);
}

void Destinations::drain() {
  for (auto& [key, destination] : by_key_) {
    auto waiting = std::exchange(destination->waiting, {});
    for (const auto& job : waiting) {
      leases_.put_back(job);
      leases_.close(job.lease);
    }
  }
}

// Memory follows the sites in use, not all that ever were.
void Destinations::forget_unused() {
  if (by_key_.size() + sites_.all().size() < std::max(forget_at_, context_.settings->remembered))
    return;
  const auto now = context_.steady();
  std::erase_if(by_key_, [&](const auto& entry) {
    const auto& destination = *entry.second;
    const bool is_unused =
        destination.waiting.empty() && !destination.is_resolving && destination.known_until < now;
    if (is_unused)
      assigned_.erase(destination.domain);
    return is_unused;
  });
  sites_.forget_unused();
  forget_at_ = 2 * (by_key_.size() + sites_.all().size());
}

}  // namespace postrider::delivery
