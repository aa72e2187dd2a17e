#include "delivery/local_shares.h"

#include <algorithm>

namespace postrider::delivery {

const Share* LocalShares::enter(const std::vector<Share>& shares, std::vector<std::string>& held) {
  const auto holds = [&](const Share& share) {
    return std::find(held.begin(), held.end(), share.name) != held.end();
  };
  const std::lock_guard lock(mutex_);
  for (const auto& share : shares) {
    const auto found = running_.find(share.name);
    if (found != running_.end() && found->second >= share.most && !holds(share))
      return &share;
  }
  for (const auto& share : shares) {
    if (holds(share))
      continue;
    ++running_[share.name];
    held.push_back(share.name);
  }
  return nullptr;
}

void LocalShares::leave(std::vector<std::string>& held) {
  const std::lock_guard lock(mutex_);
  for (const auto& name : held) {
    const auto found = running_.find(name);
    if (found != running_.end() && --found->second == 0)
      running_.erase(found);
  }
  held.clear();
}

}  // namespace postrider::delivery
