#include "delivery/explainer.h"

#include "base/text.h"
#include "delivery/local/addresses/preview.h"
#include "delivery/scheduler/limit_words.h"
#include "mail/envelope.h"

#include <algorithm>
#include <unordered_map>
#include <utility>

namespace postrider::delivery {

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

std::string describe_route(const RouteDecision& way) {
  if (way.kind == RouteDecision::Kind::local)
    return "local";
  auto text = way.route == nullptr ? "mx" : way.route->next_hop.describe();
  if (way.mapped)
    text = "delivery.route_map -> " + text;
  else if (way.route != nullptr)
    text = way.route->domain + " -> " + text;
  text += connection_tag(way.route);
  return way.label == " by sender" ? text + "; mail of some senders goes another way" : text;
}

}  // namespace

Explainer::Explainer(DispatchContext& context, const LeaseBook& leases, const SiteBook& sites,
                     Router& router, TlsDemands& tls, Destinations& destinations,
                     const LocalMail& local, BlockingPool& pool)
    : context_(context),
      leases_(leases),
      sites_(sites),
      router_(router),
      tls_(tls),
      destinations_(destinations),
      local_(local),
      pool_(pool) {}

std::uint32_t Explainer::count_idle(const Site& site) {
  const auto idle_others = std::count_if(site.others.begin(), site.others.end(),
                                         [](const auto& link) { return link->is_idle(); });
  return static_cast<std::uint32_t>(site.idle.size()) + static_cast<std::uint32_t>(idle_others);
}

SiteStatus Explainer::status_of(const Site& site) const {
  const auto now = context_.clock.now();
  SiteStatus status;
  status.name = site.name;
  status.state = word(site.health.state(now));
  status.blocked_until = site.health.blocked_until();
  status.failures = site.health.failures();
  status.since = site.health.since();
  status.last = site.health.why();
  status.alarm = site.alarm;
  status.connections = static_cast<std::uint32_t>(site.links.size() + site.others.size());
  status.idle = count_idle(site);
  status.limit = site.health.limit(now, site.pace.limit());
  status.rate = site.pace.rates().rate();
  status.limits = site.pace.explain(context_.pace_time());
  status.waiting = static_cast<std::uint32_t>(site.ready.all());
  if (const auto* deferred = leases_.deferrals().find(site.handle)) {
    status.only_deferred = deferred->recipients();
    if (deferred->others == 0)
      for (const auto& one : deferred->named)
        status.deferred_ones.emplace_back(mail::MessageId{one.message}, one.index);
    status.only_deferred_since = deferred->since;
    status.last_deferral = deferred->last;
  }
  return status;
}

void Explainer::add_sites(Status& status) const {
  status.sites = static_cast<std::uint32_t>(sites_.all().size());
  const auto now = context_.clock.now();
  std::vector<std::pair<std::size_t, const Site*>> busy;
  for (const auto& [name, site] : sites_.all()) {
    status.idle += count_idle(*site);
    const auto state = site->health.state(now);
    ++(state == SiteHealth::State::open      ? status.sites_open
       : state == SiteHealth::State::probing ? status.sites_probing
                                             : status.sites_blocked);
    if (state != SiteHealth::State::open || !site->alarm.empty())
      status.in_trouble.push_back(status_of(*site));
    else if (leases_.deferrals().find(site->handle) != nullptr)
      status.deferring.push_back(status_of(*site));
    busy.emplace_back(site->links.size() + site->others.size() + site->ready.all(), &*site);
  }
  const auto shown = std::min(busy.size(), Status::kBusiest);
  std::partial_sort(busy.begin(), busy.begin() + static_cast<std::ptrdiff_t>(shown), busy.end(),
                    [](const auto& a, const auto& b) {
                      return a.first != b.first ? a.first > b.first
                                                : a.second->name < b.second->name;
                    });
  for (std::size_t i = 0; i < shown; ++i)
    status.busiest.push_back(status_of(*busy[i].second));
  for (auto* sites : {&status.in_trouble, &status.deferring})
    std::sort(sites->begin(), sites->end(),
              [](const SiteStatus& a, const SiteStatus& b) { return a.name < b.name; });
}

std::vector<SiteStatus> Explainer::all_sites() const {
  std::vector<SiteStatus> all;
  all.reserve(sites_.all().size());
  for (const auto& [name, site] : sites_.all())
    all.push_back(status_of(*site));
  std::sort(all.begin(), all.end(),
            [](const SiteStatus& a, const SiteStatus& b) { return a.name < b.name; });
  return all;
}

// A site's reason takes a look at all its mail in hand: once for all addresses that lead there.
std::vector<std::string> Explainer::reasons_of(const std::vector<std::string>& addresses,
                                               Duration least) const {
  std::unordered_map<const Site*, std::string> known;
  std::vector<std::string> reasons;
  reasons.reserve(addresses.size());
  for (const auto& address : addresses) {
    std::string reason;
    if (const auto* site = site_of(address, least, reason); site != nullptr) {
      const auto [at, is_new] = known.try_emplace(site);
      if (is_new)
        at->second = reason_of(*site, least);
      reason = at->second;
    }
    reasons.push_back(std::move(reason));
  }
  return reasons;
}

// nullptr: none is known yet, and the reason is what is.
const Site* Explainer::site_of(const std::string& address, Duration least,
                               std::string& reason) const {
  const mail::Recipient recipient{address, {}, {}};
  Router::Known known_ways;
  const auto hop = address.find("://") == address.npos
                       ? std::nullopt
                       : router_.rerouted(address, mail::TlsWish::unspecified);
  if (!hop && !router_.look_up(recipient, known_ways, true))
    return nullptr;
  const auto way =
      hop ? *hop : router_.decide(recipient, nullptr, mail::TlsWish::unspecified, known_ways);
  if (way.label == " by sender" && !way.mapped)
    return nullptr;  // whose mail it is, is not known here
  std::string name;
  if (way.kind == RouteDecision::Kind::fixed) {
    name = Destinations::fixed_site_name(*way.route, way.tls, way.label);
  } else if (way.kind == RouteDecision::Kind::mx) {
    const auto* destination = destinations_.find(way);
    if (destination == nullptr)
      return nullptr;
    if (!destination->waiting.empty() && waited(destination->waiting) >= least) {
      reason = "the mail hosts of " + way.domain + " are being looked up";
      return nullptr;
    }
    name = destination->site;
  }
  return sites_.find(name);
}

// How long the first of them has been in hand.
Duration Explainer::waited(const std::deque<Job>& jobs) const {
  return jobs.empty() ? Duration() : in_hand_for(jobs.front());
}

Duration Explainer::in_hand_for(const Job& job) const {
  return std::chrono::duration_cast<Duration>(context_.steady() - leases_.taken(job.lease));
}

std::string Explainer::reason_of(const Site& site, Duration least) const {
  if (site.health.state(context_.clock.now()) != SiteHealth::State::open)
    return site.health.why().reason();
  Duration busy{}, connecting{};
  for (const auto& link : site.links) {
    auto& longest = link->was_ready ? busy : connecting;
    if (link->was_ready && link->in_hand == 0)
      continue;
    const auto since = link->was_ready ? link->busy_since : link->since;
    longest = std::max(longest, std::chrono::duration_cast<Duration>(context_.steady() - since));
  }
  const auto for_seconds = [](Duration time) {
    return " for " + std::to_string(time / std::chrono::seconds(1)) + " s";
  };
  if (busy > Duration() && busy >= least)
    return "a message is under way to " + site.name + for_seconds(busy);
  if (connecting > Duration() && connecting >= least)
    return site.name + " has not answered yet, a connection is being tried" +
           for_seconds(connecting);
  Duration waiting{};
  site.ready.each([&](const Job& job) { waiting = std::max(waiting, in_hand_for(job)); });
  if (site.ready.all() == 0 || waiting < least)
    return {};
  if (!site.pace.may_send(0, context_.pace_time()))
    return site.name + " takes no more in that time: " +
           scheduler::explain_rate(site.pace.rates(), context_.pace_time());
  if (site.is_looking_up)
    return "the addresses of " + site.name + " are being looked up";
  return "it waits for its turn: " + std::to_string(site.ready.all()) +
         " wait for connections to " + site.name + ", and " + std::to_string(site.links.size()) +
         " of these are in use";
}

void Explainer::start(std::string address, std::function<void(Explanation)> answer) {
  context_.home.spawn(explain(context_.alive(), std::move(address), std::move(answer)),
                      context_.log, "explain");
}

// Up to the hosts; false: the conclusion is drawn already.
Task<bool> Explainer::explain_way(const RouteDecision& way, Explanation& explanation,
                                  Prospect& prospect) {
  prospect.port = context_.settings->port;
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
      const auto& site = destinations_.fixed_site(route, way.tls, way.label);
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
  const bool goes_on = co_await explain_mx(way, explanation, prospect);
  co_return goes_on;
}

Task<bool> Explainer::explain_mx(const RouteDecision& way, Explanation& explanation,
                                 Prospect& prospect) {
  const auto& domain = way.domain;
  const auto tag = way.label + connection_tag(way.route);
  prospect.by_mx = true;
  prospect.tls = TlsDemands::sources_of(way.route, domain, true, mail::TlsWish::unspecified);
  if (const auto literal = literal_host(domain)) {
    prospect.hosts.push_back(*literal);
    prospect.site = domain;
    explanation.dns = "an address: no lookup";
    co_return true;
  }
  const auto mx = co_await router_.resolver().mx(domain);
  explanation.dns = describe_mx(mx, domain);
  auto chosen = choose_hosts(domain, mx, context_.settings->own);
  if (chosen.outcome) {
    explanation.conclusion = conclude(*chosen.outcome);
    co_return false;
  }
  prospect.hosts = std::move(chosen.hosts);
  prospect.tls.mx_secure = chosen.secure;
  const auto trouble = co_await tls_.find_policy(prospect.tls, domain, false);
  if (!trouble.empty())
    explanation.dns += "; MTA-STS: " + trouble;
  std::vector<std::string> names;
  for (const auto& host : prospect.hosts)
    names.push_back(host.name);
  prospect.site = site_name(prospect.hosts, prospect.port) + site_tag(prospect.tls, names) + tag;
  prospect.hosts = some_of(std::move(prospect.hosts), context_.random);
  co_return true;
}

// Where aliases lead. False: all of it to another machine; `address` is that address from here on.
Task<bool> Explainer::explain_local(std::string& address, Explanation& explanation) {
  std::function<Preview()> look = [settings = context_.settings, performer = local_.performer(),
                                   address] {
    return preview(*settings->local.book, *settings->local.users, *performer,
                   settings->local.mailbox, settings->local.minimum_uid, address);
  };
  auto found = co_await pool_.run<Preview>(context_.home, std::move(look));
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

// A name without a domain is a user's here, unless it is one of our domains.
Task<void> Explainer::complete(std::string& address) {
  const auto book = context_.settings->local.book;
  bool is_name = book && address.find_first_of("@.[") == address.npos;
  if (is_name) {
    const auto domain = ascii_lower(address);
    const bool is_local = co_await router_.ask_whether_local(domain);
    is_name = !is_local;
  }
  if (is_name)
    address += "@" + book->home();
  else if (address.find('@') == address.npos)
    address = "postmaster@" + address;
}

Task<void> Explainer::explain(std::shared_ptr<void> alive, std::string address,
                              std::function<void(Explanation)> answer) {
  co_await complete(address);
  Explanation explanation;
  auto way = co_await router_.decide(address);
  if (way.kind == RouteDecision::Kind::local && context_.settings->local.book) {
    const bool is_ours = co_await explain_local(address, explanation);
    if (is_ours) {
      answer(std::move(explanation));
      co_return;
    }
    way = co_await router_.decide(address);
  }
  explanation.domain = way.domain;
  explanation.route = describe_route(way);
  Prospect prospect;
  const bool goes_on = co_await explain_way(way, explanation, prospect);
  if (goes_on)
    co_await explain_hosts(prospect, explanation);
  answer(std::move(explanation));
}

Task<void> Explainer::explain_hosts(const Prospect& prospect, Explanation& explanation) {
  auto found = co_await router_.look_up(prospect.hosts);
  find_ourselves(found, context_.settings->own, prospect.port, prospect.by_mx);
  co_await tls_.demand(found, prospect.tls, prospect.port);
  for (const auto& host : found)
    explanation.hosts.push_back(explain_host(host));
  const bool has_hosts = !found.empty();
  const auto usable = usable_hosts(std::move(found), prospect.site, prospect.by_mx);
  const auto* known = sites_.find(prospect.site);
  explanation.site.name = prospect.site;
  explanation.site.state = "open";
  if (known != nullptr)
    explanation.site = status_of(*known);
  if (has_hosts && usable.outcome && explanation.conclusion.empty())
    explanation.conclusion = conclude(*usable.outcome);
  const auto waits = known != nullptr && known->ready.all() > 0 ? reason_of(*known) : "";
  if (explanation.conclusion.empty() && explanation.site.state == "open" && !waits.empty())
    explanation.conclusion = "waits: " + waits;
  if (explanation.conclusion.empty())
    explanation.conclusion = conclude(explanation.site);
}

}  // namespace postrider::delivery
