// What the administrator asks: how are the sites, and what would happen to mail for an address.
#include "base/text.h"
#include "delivery/core.h"
#include "delivery/local/addresses/preview.h"
#include "mail/envelope.h"

#include <algorithm>

namespace postrider::delivery {

using Core = Dispatcher::Core;

namespace {

const char* word(SiteHealth::State state) {
  switch (state) {
    case SiteHealth::State::open:
      return "open";
    case SiteHealth::State::probing:
      return "probing";
    case SiteHealth::State::blocked:
      return "blocked";
  }
  return "open";
}

// From here on it is told what mail waits for that is being tried.
constexpr Duration kUnusual = std::chrono::seconds(5);

std::string describe_mx(const dns::Answer<dns::Mx>& answer, const std::string& domain) {
  switch (answer.status) {
    case dns::Status::records:
      return std::to_string(answer.records.size()) +
             (answer.records.size() == 1 ? " MX record" : " MX records") + ", " +
             (answer.secure ? "authenticated" : "not authenticated");
    case dns::Status::no_data:
      return "no MX record: " + domain + " itself";
    case dns::Status::no_such_name:
      return "no such domain";
    case dns::Status::temporary_failure:
      return "lookup failed: " + answer.reason;
  }
  return {};
}

Explanation::Host explain_host(const FoundHost& found) {
  Explanation::Host host;
  host.name = found.host.name;
  host.preference = found.host.preference;
  for (const auto& address : found.addresses)
    host.addresses.push_back(address.to_string());
  if (found.tls)
    host.tls = found.tls->describe();
  host.note = found.is_ourselves ? "this is us" : found.trouble;
  if (host.note.empty() && host.addresses.empty())
    host.note = "no address";
  return host;
}

std::string conclude(const mail::Outcome& outcome) {
  const bool bounces = outcome.verdict == mail::Verdict::bounce;
  return (bounces ? "is bounced: " : "waits: ") + outcome.text;
}

std::string conclude(const SiteStatus& site) {
  if (site.state == "blocked")
    return "waits until " + format_rfc3339(site.blocked_until) + ": " + site.last.reason();
  if (site.state == "probing")
    return "one connection is tried, for the site failed before: " + site.last.reason();
  return "is delivered at once to " + site.name;
}

}  // namespace

SiteStatus Core::status_of(const Site& site) const {
  const auto now = clock_.now();
  SiteStatus status;
  status.name = site.name;
  status.state = word(site.health.state(now));
  status.blocked_until = site.health.blocked_until();
  status.failures = site.health.failures();
  status.since = site.health.since();
  status.last = site.health.why();
  status.alarm = site.alarm;
  status.connections = static_cast<std::uint32_t>(site.links.size());
  status.idle = static_cast<std::uint32_t>(site.idle.size());
  status.limit = site.health.limit(now, settings_->site_connections);
  status.waiting = static_cast<std::uint32_t>(site.ready.size());
  return status;
}

Status Core::status() const {
  Status status = counters_;
  status.sites = static_cast<std::uint32_t>(sites_.size());
  status.connections = static_cast<std::uint32_t>(links_);
  status.leases = static_cast<std::uint32_t>(in_hand_.size());
  const auto now = clock_.now();
  for (const auto& [name, site] : sites_) {
    status.idle += static_cast<std::uint32_t>(site->idle.size());
    if (site->health.state(now) != SiteHealth::State::open || !site->alarm.empty())
      status.in_trouble.push_back(status_of(*site));
  }
  std::sort(status.in_trouble.begin(), status.in_trouble.end(),
            [](const SiteStatus& a, const SiteStatus& b) { return a.name < b.name; });
  return status;
}

// What mail waits for that is in hand, before anything has failed. Nothing as long as all goes as
// usual.
std::string Core::reason_of(const std::string& address) const {
  const mail::Recipient recipient{address, {}, {}};
  LocalDomains local;
  if (!look_up_local(recipient, local, true))
    return {};
  const auto way = find_way(recipient, mail::TlsWish::unspecified, local);
  std::string name;
  if (way.kind == RouteDecision::Kind::fixed) {
    name = fixed_site_name(*way.route, fixed_tls(*way.route, way.tls));
  } else if (way.kind == RouteDecision::Kind::mx) {
    const auto destination = destinations_.find(way.key);
    if (destination == destinations_.end())
      return {};
    if (waited(destination->second->waiting) >= kUnusual)
      return "the mail hosts of " + way.domain + " are being looked up";
    name = destination->second->site;
  }
  const auto known = sites_.find(name);
  return known == sites_.end() ? std::string() : reason_of(*known->second);
}

// How long the first of them has been in hand.
Duration Core::waited(const std::deque<Job>& jobs) const {
  if (jobs.empty())
    return {};
  return std::chrono::duration_cast<Duration>(steady() - in_hand_.at(jobs.front().lease)->taken);
}

std::string Core::reason_of(const Site& site) const {
  if (site.health.state(clock_.now()) != SiteHealth::State::open)
    return site.health.why().reason();
  Duration busy{}, connecting{};
  for (const auto& link : site.links) {
    auto& longest = link->was_ready ? busy : connecting;
    if (link->was_ready && link->in_hand == 0)
      continue;
    const auto since = link->was_ready ? link->busy_since : link->since;
    longest = std::max(longest, std::chrono::duration_cast<Duration>(steady() - since));
  }
  const auto for_seconds = [](Duration time) {
    return " for " + std::to_string(time / std::chrono::seconds(1)) + " s";
  };
  if (busy >= kUnusual)
    return "a message is under way to " + site.name + for_seconds(busy);
  if (connecting >= kUnusual)
    return site.name + " has not answered yet, a connection is being tried" +
           for_seconds(connecting);
  if (waited(site.ready) < kUnusual)
    return {};
  if (site.is_looking_up)
    return "the addresses of " + site.name + " are being looked up";
  return "it waits for its turn: " + std::to_string(site.ready.size()) +
         " wait for connections to " + site.name + ", and " + std::to_string(site.links.size()) +
         " of these are in use";
}

void Core::start_explain(std::string address, std::function<void(Explanation)> answer) {
  home().spawn(explain(shared_from_this(), std::move(address), std::move(answer)), log_, "explain");
}

// Up to the hosts; false: the conclusion is drawn already.
Task<bool> Core::explain_way(const RouteDecision& way, Explanation& explanation,
                             Prospect& prospect) {
  prospect.port = settings_->port;
  switch (way.kind) {
    case RouteDecision::Kind::local:
      prospect.site = "local";
      co_return true;
    case RouteDecision::Kind::discard:
      explanation.conclusion = "is thrown away by the route";
      co_return false;
    case RouteDecision::Kind::error:
      explanation.conclusion =
          "is refused by the route: " + way.route->next_hop.status + " " + way.route->next_hop.text;
      co_return false;
    case RouteDecision::Kind::fixed: {
      const auto& route = *way.route;
      const auto& site = fixed_site(route, way.tls);
      prospect.site = site.name;
      prospect.tls = site.tls;
      prospect.port = site.port;
      if (site.kind == Site::Kind::fixed)
        prospect.hosts = site.hosts;
      explanation.dns = "no MX lookup: the route names the host";
      if (!site.unavailable.empty())
        explanation.conclusion = "waits: " + site.unavailable;
      co_return true;
    }
    case RouteDecision::Kind::mx:
      break;
  }
  const bool goes_on = co_await explain_mx(way.domain, explanation, prospect);
  co_return goes_on;
}

Task<bool> Core::explain_mx(const std::string& domain, Explanation& explanation,
                            Prospect& prospect) {
  prospect.by_mx = true;
  prospect.tls =
      sources_of(find_route(settings_->routes, domain), domain, true, mail::TlsWish::unspecified);
  if (const auto literal = literal_host(domain)) {
    prospect.hosts.push_back(*literal);
    prospect.site = domain;
    explanation.dns = "an address: no lookup";
    co_return true;
  }
  auto& resolver = resolver_of_(home());
  const auto mx = co_await resolver.mx(domain);
  explanation.dns = describe_mx(mx, domain);
  auto chosen = choose_hosts(domain, mx, settings_->own);
  if (chosen.outcome) {
    explanation.conclusion = conclude(*chosen.outcome);
    co_return false;
  }
  prospect.hosts = std::move(chosen.hosts);
  prospect.tls.mx_secure = chosen.secure;
  if (hooks_.sts && prospect.tls.route == TlsMode::opportunistic) {
    auto sts = co_await find_sts(domain);
    prospect.tls.sts = std::move(sts.policy);
    if (!sts.detail.empty())
      explanation.dns += "; MTA-STS: " + sts.detail;
  }
  std::vector<std::string> names;
  for (const auto& host : prospect.hosts)
    names.push_back(host.name);
  prospect.site = site_name(prospect.hosts, prospect.port) + site_tag(prospect.tls, names);
  co_return true;
}

// Where aliases lead. False: all of it to another machine; `address` is that address from here on.
Task<bool> Core::explain_local(std::string& address, Explanation& explanation) {
  std::function<Preview()> look = [settings = settings_, performer = performer_, address] {
    return preview(*settings->local.book, *settings->local.users, *performer,
                   settings->local.mailbox, settings->local.minimum_uid, address);
  };
  auto found = co_await pool_->run<Preview>(home(), std::move(look));
  explanation.steps = std::move(found.steps);
  explanation.ends = std::move(found.ends);
  explanation.problems = std::move(found.problems);
  explanation.conclusion = std::move(found.conclusion);
  explanation.domain = mail::domain_of(address);
  explanation.route = "local";
  if (found.onward.empty())
    co_return true;
  address = std::move(found.onward);
  co_return false;
}

Task<void> Core::explain(std::shared_ptr<Core> self, std::string address,
                         std::function<void(Explanation)> answer) {
  const auto book = settings_->local.book;
  bool is_name = book && address.find_first_of("@.[") == address.npos;
  if (is_name) {
    const auto domain = ascii_lower(address);
    const auto asked = co_await ask_tables({domain});
    is_name = !asked.at(domain);
  }
  if (is_name)
    address += "@" + book->home();
  else if (address.find('@') == address.npos)
    address = "postmaster@" + address;
  Explanation explanation;
  auto way = co_await ask_way(address);
  if (way.kind == RouteDecision::Kind::local && book) {
    const bool is_ours = co_await explain_local(address, explanation);
    if (is_ours) {
      answer(std::move(explanation));
      co_return;
    }
    way = co_await ask_way(address);
  }
  explanation.domain = way.domain;
  explanation.route = way.kind == RouteDecision::Kind::local ? "local"
                      : way.route == nullptr
                          ? "mx"
                          : way.route->domain + " -> " + way.route->next_hop.describe();
  Prospect prospect;
  const bool goes_on = co_await explain_way(way, explanation, prospect);
  if (!goes_on) {
    answer(std::move(explanation));
    co_return;
  }
  auto found = co_await look_up(prospect.hosts);
  find_ourselves(found, settings_->own, prospect.port, prospect.by_mx);
  co_await demand_tls(found, prospect.tls, prospect.port);
  for (const auto& host : found)
    explanation.hosts.push_back(explain_host(host));
  const bool has_hosts = !found.empty();
  const auto usable = usable_hosts(std::move(found), prospect.site, prospect.by_mx);
  const auto known = sites_.find(prospect.site);
  explanation.site.name = prospect.site;
  explanation.site.state = "open";
  if (known != sites_.end())
    explanation.site = status_of(*known->second);
  if (has_hosts && usable.outcome && explanation.conclusion.empty())
    explanation.conclusion = conclude(*usable.outcome);
  const auto waits =
      known != sites_.end() && !known->second->ready.empty() ? reason_of(*known->second) : "";
  if (explanation.conclusion.empty() && explanation.site.state == "open" && !waits.empty())
    explanation.conclusion = "waits: " + waits;
  if (explanation.conclusion.empty())
    explanation.conclusion = conclude(explanation.site);
  answer(std::move(explanation));
}

}  // namespace postrider::delivery
