#include "delivery/address_places.h"

#include <algorithm>

namespace postrider::delivery {

namespace {

constexpr unsigned kMostForAddress = 20;
constexpr std::size_t kMostSlots = 4096;

}  // namespace

bool AddressPlaces::reserve(const Site& site, CourierOrder& order, SteadyTime now) {
  if (addresses_.size() > kMostSlots)
    std::erase_if(addresses_, [](const auto& entry) {
      return entry.second.slot.use_count() == 1 && entry.second.slot->is_unused();
    });
  auto& candidates = order.candidates;
  for (auto& candidate : candidates) {
    auto& slot = addresses_[candidate.address].slot;
    if (!slot)
      slot =
          std::make_shared<AddressSlot>(std::max(kMostForAddress, site.pace.bounds().connections));
    candidate.slot = slot;
  }
  for (auto candidate = candidates.begin(); candidate != candidates.end(); ++candidate)
    if (auto hold = AddressSlot::take(candidate->slot)) {
      order.hold.emplace(std::move(hold));
      std::rotate(candidates.begin(), candidate, candidate + 1);
      return true;
    }
  if (site.links.empty())
    for (const auto& candidate : candidates)
      addresses_[candidate.address].refused = now;
  return candidates.empty();
}

bool AddressPlaces::was_refused_since(const std::string& address, SteadyTime since) const {
  const auto found = addresses_.find(address);
  return found != addresses_.end() && found->second.refused >= since;
}

}  // namespace postrider::delivery
