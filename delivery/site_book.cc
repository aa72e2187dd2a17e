#include "delivery/site_book.h"

#include "base/assert.h"
#include "delivery/delivery_log.h"
#include "queue/schedule.h"

#include <algorithm>

namespace postrider::delivery {

using mail::Outcome;
using mail::Verdict;

namespace {

constexpr auto kForgetAfter = std::chrono::minutes(10);

}  // namespace

Site& SiteBook::named(const std::string& name) {
  const auto known = by_name_.find(name);
  if (known != by_name_.end())
    return *known->second;
  auto fresh = std::make_unique<Site>();
  fresh->handle = ++last_;
  fresh->name = name;
  by_handle_.emplace(fresh->handle, fresh.get());
  return *by_name_.emplace(name, std::move(fresh)).first->second;
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
  for (const auto& state : sites)
    named(state.site).health = SiteHealth(state);
}

void SiteBook::on_reload() {
  for (auto& [name, site] : by_name_) {
    site->found_until = {};
    if (!site->alarm.empty())
      open_again(*site);  // perhaps it has been put right
  }
}

void SiteBook::unblock(const std::string& wanted) {
  for (auto& [name, site] : by_name_) {
    if (!wanted.empty() && name != wanted)
      continue;
    site->found_until = {};
    site->bad.clear();
    if (site->health.blocked_until() != TimePoint{})
      open_again(*site);
  }
}

void SiteBook::forget_unused() {
  const auto now = context_.steady();
  std::erase_if(by_name_, [&](const auto& entry) {
    const auto& site = *entry.second;
    const bool is_unused = site.ready.empty() && site.links.empty() && !site.is_looking_up &&
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
  const auto wait =
      queue::retry_wait(context_.settings->retry, site.health.failures() + 1, context_.random);
  auto kept = why;
  kept.verdict = Verdict::retry;
  kept.status.klass = 4;
  site.health.on_unreachable(kept, context_.clock.now(), wait);
  site.is_proven = site.is_patient = site.is_slow = false;
  site.found_until = {};
  maillog::site_blocked(context_.log, site.name, kept, site.health.blocked_until(),
                        site.health.failures());
  context_.queue->set_site(site.health.stored(site.name));
  put_back_ready(site, kept);
}

void SiteBook::open_again(Site& site) {
  site.health.open_again();
  site.alarm.clear();
  maillog::site_open(context_.log, site.name);
  context_.queue->set_site(site.health.stored(site.name));
}

void SiteBook::refuse_ready(Site& site, const Outcome& why) {
  const auto ready = std::exchange(site.ready, {});
  for (const auto& job : ready) {
    leases_.settle_all(job, why);
    leases_.close(job.lease);
  }
}

void SiteBook::put_back_ready(Site& site, const Outcome& why) {
  auto ready = std::exchange(site.ready, {});
  for (const auto& job : ready) {
    JobEnd end;
    end.job.lease = job.lease;
    end.job.handed_over = context_.steady();
    for (const auto index : job.recipients)
      if (why.status && !site.is_aside)
        leases_.log_attempt(end, {index, why});
    give_back(site, job);
  }
}

void SiteBook::park(Site& site, const Job& job) {
  log_parked(site, job);
  give_back(site, job);
}

// Untried. Where the queue does not know the site of this mail, it would give it out again at once:
// then the mail waits by its own schedule.
void SiteBook::give_back(Site& site, const Job& job) {
  if (site.is_aside && !context_.is_draining && site.health.blocked_until() != TimePoint{})
    leases_.settle_all(job, site.health.why());
  else
    leases_.put_back(job);
  leases_.close(job.lease);
}

// Once for a message: later probes of the site are not its own.
void SiteBook::log_parked(const Site& site, const Job& job) const {
  if (context_.is_draining || site.is_aside ||
      leases_.lease(job.lease).reason != queue::Lease::Reason::fresh)
    return;
  for (const auto index : job.recipients)
    maillog::deferred(context_.log, *job.message, job.message->envelope.recipients[index],
                      site.health.why());
}

}  // namespace postrider::delivery
