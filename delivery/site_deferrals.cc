#include "delivery/site_deferrals.h"

namespace postrider::delivery {

void SiteDeferrals::note(std::uint64_t site, const mail::Outcome& outcome, TimePoint now) {
  if (site == 0)
    return;
  if (outcome.verdict == mail::Verdict::delivered) {
    sites_.erase(site);
    return;
  }
  if (outcome.verdict != mail::Verdict::retry)
    return;
  if (sites_.size() >= kMost && !sites_.contains(site))
    sites_.clear();
  auto& deferred = sites_[site];
  if (deferred.recipients++ == 0)
    deferred.since = now;
  deferred.last = outcome;
}

const SiteDeferrals::Deferred* SiteDeferrals::find(std::uint64_t site) const {
  const auto found = sites_.find(site);
  return found == sites_.end() || found->second.recipients < kMany ? nullptr : &found->second;
}

}  // namespace postrider::delivery
