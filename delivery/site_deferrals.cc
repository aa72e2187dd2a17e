#include "delivery/site_deferrals.h"

#include "delivery/dispatcher.h"

namespace postrider::delivery {

void SiteDeferrals::note(std::uint64_t site, Recipient recipient, const mail::Outcome& outcome,
                         TimePoint now) {
  if (site == 0)
    return;
  if (outcome.verdict == mail::Verdict::delivered) {
    sites_.erase(site);
    return;
  }
  if (outcome.verdict != mail::Verdict::retry) {
    if (const auto found = sites_.find(site); found != sites_.end())
      found->second.named.erase(recipient);
    return;
  }
  if (sites_.size() >= kMost && !sites_.contains(site))
    sites_.clear();
  auto& deferred = sites_[site];
  if (deferred.recipients() == 0)
    deferred.since = now;
  if (deferred.named.size() < kMostNamed)
    deferred.named.insert(recipient);
  else if (!deferred.named.contains(recipient))
    ++deferred.others;
  deferred.last = outcome;
}

const SiteDeferrals::Deferred* SiteDeferrals::find(std::uint64_t site) const {
  const auto found = sites_.find(site);
  return found == sites_.end() || found->second.recipients() < kManyDeferred ? nullptr
                                                                             : &found->second;
}

}  // namespace postrider::delivery
