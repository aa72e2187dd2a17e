#include "smtpd/unfinished_tls.h"

#include <utility>

namespace postrider::smtpd {

bool UnfinishedTls::note(Waiter& waiter, const Party& party, std::size_t octets,
                         std::size_t budget) {
  const std::lock_guard lock(mutex_);
  if (octets <= kFree) {
    if (const auto found = all_.find(&waiter); found != all_.end())
      forget(found->second);
    return true;
  }
  if (!all_.contains(&waiter))
    add(waiter, party);
  auto& kept = all_.at(&waiter);
  if (kept.was_told)
    return false;
  resize(kept, octets);
  make_room(kept, budget);
  // What is told to go is there for a moment yet: no more of it than an eighth.
  return !kept.was_told && held() <= budget + budget / 8;
}

// All or nothing, whatever there is no memory for.
void UnfinishedTls::add(Waiter& waiter, const Party& party) {
  Kept fresh;
  fresh.waiter = &waiter;
  fresh.party = party;
  fresh.since = ++number_;
  auto& kept = all_.emplace(&waiter, std::move(fresh)).first->second;
  try {
    by_kind_[kept.party.is_stranger ? 1 : 0].by_age.emplace(kept.since, &kept);
    by_party_[kept.party.name].by_age.emplace(kept.since, &kept);
  } catch (...) {
    forget(kept);
    throw;
  }
}

void UnfinishedTls::forget(const Kept& kept) {
  held_.fetch_sub(kept.octets, std::memory_order_relaxed);
  leave(kept);
  all_.erase(kept.waiter);
}

// What is told to go is no part of a share any more.
void UnfinishedTls::leave(const Kept& kept) {
  auto& of_kind = by_kind_[kept.party.is_stranger ? 1 : 0];
  if (of_kind.by_age.erase(kept.since) > 0)
    of_kind.octets -= kept.octets;
  const auto found = by_party_.find(kept.party.name);
  if (found == by_party_.end())
    return;
  if (found->second.by_age.erase(kept.since) > 0)
    found->second.octets -= kept.octets;
  if (found->second.by_age.empty())
    by_party_.erase(found);
}

void UnfinishedTls::resize(Kept& kept, std::size_t octets) {
  const auto before = std::exchange(kept.octets, octets);
  held_.fetch_add(octets - before, std::memory_order_relaxed);
  by_kind_[kept.party.is_stranger ? 1 : 0].octets += octets - before;
  by_party_.at(kept.party.name).octets += octets - before;
}

void UnfinishedTls::tell(Kept& kept) {
  leave(kept);
  kept.was_told = true;
  kept.waiter->give_way();
}

void UnfinishedTls::make_room(const Kept& asking, std::size_t budget) {
  const auto of_kind = asking.party.is_stranger ? budget / 2 : budget;
  while (!asking.was_told && by_party_.at(asking.party.name).octets > of_kind / 2)
    tell(*by_party_.at(asking.party.name).by_age.begin()->second);
  auto& [ours, strangers] = by_kind_;
  while (strangers.octets > budget / 2)
    tell(*strangers.by_age.begin()->second);
  while (ours.octets + strangers.octets > budget) {
    const bool is_stranger =
        ours.by_age.empty() ||
        (!strangers.by_age.empty() && strangers.by_age.begin()->first < ours.by_age.begin()->first);
    tell(*(is_stranger ? strangers : ours).by_age.begin()->second);
  }
}

}  // namespace postrider::smtpd
