#include "delivery/site_book.h"

#include "base/assert.h"
#include "base/file.h"
#include "delivery/delivery_log.h"
#include "delivery/refusals.h"
#include "queue/schedule.h"

#include <algorithm>

namespace postrider::delivery {

using mail::Outcome;
using mail::Verdict;

namespace {

constexpr std::size_t kMostDomains =
    1000;  // of a site; for those beyond, rules for a domain may not be found
constexpr auto kForgetAfter = std::chrono::minutes(10);
constexpr Duration kFirstProbe = std::chrono::seconds(15);
constexpr Duration kCrowdedProbe = std::chrono::seconds(2);  // alone: our closing was seen late
constexpr Duration kLastProbe = std::chrono::minutes(15);

Outcome as_deferral(Outcome why) {
  why.verdict = Verdict::retry;
  why.status.klass = 4;
  return why;
}

}  // namespace

Site& SiteBook::named(const std::string& name) {
  const auto known = by_name_.find(name);
  if (known != by_name_.end())
    return *known->second;
  auto fresh = std::make_unique<Site>();
  fresh->handle = ++last_;
  fresh->name = name;
  apply_rules(*fresh, {});
  if (const auto* found = memory_.find(name))
    (void)fresh->pace.restore(found->state, context_.clock.now() - found->at);
  by_handle_.emplace(fresh->handle, fresh.get());
  return *by_name_.emplace(name, std::move(fresh)).first->second;
}

void SiteBook::apply_rules(Site& site, const std::string& domain) const {
  const auto& settings = *context_.settings;
  if (!domain.empty() && site.domains.size() < kMostDomains)
    site.domains.insert(domain);
  const auto* rule = find_site_rule(settings.site_rules, domain, site.hosts);
  for (const auto& served : site.domains)
    if (const auto* other = find_site_rule(settings.site_rules, served, site.hosts);
        other != nullptr && (rule == nullptr || other < rule))
      rule = other;
  scheduler::SiteBounds bounds{.connections = 0};
  site.families.reset();
  site.rule_sources.clear();
  site.rule_helo.clear();
  if (rule != nullptr) {
    bounds = rule->bounds;
    site.rule_sources = rule->sources;
    site.rule_helo = rule->helo;
    if (rule->families != Families::both)
      site.families = rule->families;
  }
  if (bounds.connections == 0)
    bounds.connections = settings.site_connections;
  if (bounds != site.pace.bounds())
    site.pace.set_bounds(bounds);
}

Site* SiteBook::find(const std::string& name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : found->second.get();
}

Site* SiteBook::of_handle(std::uint64_t handle) const {
  const auto found = by_handle_.find(handle);
  return found == by_handle_.end() ? nullptr : found->second;
}

void SiteBook::restore(const std::vector<queue::SiteState>& sites) {
  if (const auto& file = context_.settings->site_memory; !file.empty())
    if (const auto text = read_file(file, SiteMemory::kMostFile))
      memory_.read(*text, context_.clock.now());
  for (const auto& state : sites)
    named(state.site).health = SiteHealth(state);
}

std::optional<std::string> SiteBook::take_memory() {
  const auto now = context_.clock.now();
  for (const auto& [name, site] : by_name_)
    // What is blocked begins with nothing, and had something before.
    if (site->health.blocked_until() == TimePoint{} && site->used != SteadyTime{})
      if (auto state = site->pace.store(); !state.empty())
        memory_.note(name, std::move(state), now - site->unused_for(context_.steady()));
  if (!memory_.take_change())
    return std::nullopt;
  return memory_.write(now);
}

void SiteBook::on_reload() {
  for (auto& [name, site] : by_name_) {
    site->found_until = {};
    apply_rules(*site, {});
    // Perhaps it has been put right.
    if (!site->alarm.empty() && site->health.blocked_until() != TimePoint{})
      open_again(*site);
    site->alarm.clear();
    end_fault(*site);
  }
}

// What this machine could not do is tried at once.
void SiteBook::end_fault(Site& site) {
  if (site.fault && site.fault->is_set())
    site.fault->set(Duration{0});
}

void SiteBook::unblock(const std::string& wanted) {
  for (auto& [name, site] : by_name_) {
    if (!wanted.empty() && name != wanted)
      continue;
    site->found_until = {};
    site->bad.clear();
    end_fault(*site);
    if (site->health.blocked_until() != TimePoint{})
      open_again(*site);
  }
}

void SiteBook::forget_unused() {
  const auto now = context_.steady();
  std::erase_if(by_name_, [&](const auto& entry) {
    const auto& site = *entry.second;
    const bool is_unused = site.ready.all() == 0 && site.links.empty() && site.refused.empty() &&
                           site.others.empty() && !site.is_looking_up &&
                           site.used + kForgetAfter < now &&
                           site.health.blocked_until() == TimePoint{};
    if (is_unused)
      by_handle_.erase(site.handle);
    return is_unused;
  });
}

bool SiteBook::is_blocked(const Site& site) const {
  return site.health.state(context_.clock.now()) == SiteHealth::State::blocked;
}

void SiteBook::block(Site& site, const Outcome& why) {
  if (context_.is_draining)
    return;
  site.health.on_unreachable(as_deferral(why), context_.clock.now(), wait_for_probe(site, why));
  site.is_proven = site.is_patient = site.is_slow = false;
  site.found_until = {};
  on_blocked(site);
}

// A twentieth of the outage so far, so that it becomes little longer by waiting for the probe.
Duration SiteBook::wait_for_probe(const Site& site, const Outcome& why) {
  const auto& settings = *context_.settings;
  const auto probes = site.health.failures() + 1;
  if (!settings.probes_by_outage)
    return queue::retry_wait(settings.retry, probes, context_.random);
  const bool is_crowded =
      why.reply.code != 0 && meaning_of(why, false).klass == scheduler::ReplyClass::connections;
  const Duration first = is_crowded ? kCrowdedProbe : kFirstProbe;
  const auto outage = probes > 1 ? context_.clock.now() - site.health.since() : Duration{0};
  return queue::retry_wait(
      {{std::clamp<Duration>(outage / 20, first * std::min(probes, 4U), kLastProbe)}}, 1,
      context_.random);
}

void SiteBook::stop(Site& site, const Outcome& why, Duration wait) {
  if (context_.is_draining)
    return;
  site.health.on_stopped(as_deferral(why), context_.clock.now(), wait);
  on_blocked(site);
}

void SiteBook::on_blocked(Site& site) {
  const auto& why = site.health.why();
  maillog::site_blocked(context_.log, site.name, why, site.health.blocked_until(),
                        site.health.failures());
  context_.queue->set_site(site.health.stored(site.name));
  put_back_ready(site, why);
}

void SiteBook::open_again(Site& site) {
  site.health.open_again();
  site.pace.restart();
  site.alarm.clear();
  maillog::site_open(context_.log, site.name);
  context_.queue->set_site(site.health.stored(site.name));
}

void SiteBook::refuse_ready(Site& site, const Outcome& why) {
  const auto ready = site.ready.take_all();
  for (const auto& job : ready) {
    leases_.settle_all(job, why);
    leases_.close(job.lease);
  }
}

void SiteBook::put_back_ready(Site& site, const Outcome& why) {
  const auto ready = site.ready.take_all();
  const bool is_told = why.status && !site.is_aside;
  for (const auto& job : ready)
    give_back(site, job, is_told ? &why : nullptr, true);
}

void SiteBook::park(Site& site, const Job& job) {
  give_back(site, job, is_to_be_told(site, job) ? &site.health.why() : nullptr, false);
}

// Untried; why: what the log says of it. Where the queue does not know the site of this mail, it
// would give it out again at once: then the mail waits by its own schedule.
void SiteBook::give_back(Site& site, const Job& job, const Outcome* why, bool tried) {
  if (site.is_aside && !context_.is_draining && site.health.blocked_until() != TimePoint{})
    leases_.settle_all(job, site.health.why());
  else if (why != nullptr)
    leases_.put_back_deferred(job, *why, tried);
  else
    leases_.put_back(job);
  leases_.close(job.lease);
}

// Once for a message: later probes of the site are not its own.
bool SiteBook::is_to_be_told(const Site& site, const Job& job) const {
  return !context_.is_draining && !site.is_aside &&
         leases_.lease(job.lease).reason == queue::Lease::Reason::fresh;
}

}  // namespace postrider::delivery
