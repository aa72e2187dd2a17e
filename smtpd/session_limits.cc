#include "smtpd/session_limits.h"

#include <algorithm>

namespace postrider::smtpd {

namespace {

constexpr std::size_t kMostAsked = 16;  // parties, to make room for one

template <class Counts, class Key>
void lower(Counts& counts, const Key& key) {
  const auto at = counts.find(key);
  if (at != counts.end() && --at->second == 0)
    counts.erase(at);
}

}  // namespace

bool SessionLimits::take(std::uint32_t limit) {
  auto open = open_.load(std::memory_order_relaxed);
  do {
    if (open >= limit)
      return false;
  } while (!open_.compare_exchange_weak(open, open + 1, std::memory_order_relaxed));
  return true;
}

std::size_t SessionLimits::first_octets(const Limits& limits) {
  const auto of_each = limits.content_memory / 2 / std::max<std::size_t>(limits.sessions, 1);
  return std::clamp(of_each, kLeastFirst, kMostFirst);
}

bool SessionLimits::take_tls(const Party& party, std::size_t octets, std::size_t budget) {
  const auto most = party.is_stranger ? budget - budget / 8 : budget;
  auto held = tls_.load(std::memory_order_relaxed);
  do {
    if (held + octets > most)
      return false;
  } while (!tls_.compare_exchange_weak(held, held + octets, std::memory_order_relaxed));
  return true;
}

// The sum is kept by the atomic alone.
bool SessionLimits::keep(const Party& party, std::size_t octets, std::size_t before,
                         std::size_t budget, Keeper* keeper, std::size_t first) {
  held_.fetch_add(octets - before, std::memory_order_relaxed);
  const auto more = std::max(octets, first) - first;
  const auto less = std::max(before, first) - first;
  if (more == 0 && less == 0)
    return true;
  const std::lock_guard lock(mutex_);
  of_large_ += (more > 0 ? octets : 0) - (less > 0 ? before : 0);
  if (more == 0 && !kept_by_.contains(party.name))
    return true;  // there was no memory to count it
  auto& share = share_of(party);
  count(share, keeper, more, less);
  if (share.octets == 0) {
    forget(party.name);
    return true;
  }
  const auto common = party.is_stranger ? budget / 2 : budget;
  const auto most = std::min(budget / 16, (std::max(of_large_, common) - of_large_) / 4);
  if (more == 0 || share.octets <= most)
    return true;
  // What is told to go is there for a moment yet: no more of it than an eighth.
  return share.octets <= budget / 16 && promised_ <= budget / 8 && make_room(share, more);
}

SessionLimits::Share& SessionLimits::share_of(const Party& party) {
  const auto [found, is_new] = kept_by_.try_emplace(party.name);
  auto& share = found->second;
  if (!is_new)
    return share;
  share.is_stranger = party.is_stranger;
  try {
    by_size(share).emplace(share.left(), &share);
  } catch (...) {
    kept_by_.erase(found);
    throw;
  }
  return share;
}

void SessionLimits::forget(const std::string& party) {
  const auto found = kept_by_.find(party);
  by_size(found->second).erase({found->second.left(), &found->second});
  kept_by_.erase(found);
}

// Its place by size is kept, without memory.
template <class Change>
void SessionLimits::change(Share& share, const Change& change) {
  auto& all = by_size(share);
  auto place = all.extract({share.left(), &share});
  change();
  place.value().first = share.left();
  all.insert(std::move(place));
}

void SessionLimits::count(Share& share, Keeper* keeper, std::size_t more, std::size_t less) {
  const auto [found, is_new] = share.sessions.try_emplace(keeper);
  auto& kept = found->second;
  if (is_new) {
    kept.since = ++number_;
    less = 0;  // else there was no memory to count it
  }
  change(share, [&] {
    share.octets += more - less;
    kept.octets += more - less;
    auto gone = kept.promised;
    if (kept.octets != 0)
      gone = std::min(gone, std::max(less, more) - more);
    kept.promised -= gone;
    share.promised -= gone;
    promised_ -= gone;
  });
  if (kept.octets == 0)
    share.sessions.erase(found);
}

// The largest first; some of them, for those that can let nothing go now are passed over.
std::vector<SessionLimits::Share*> SessionLimits::largest(bool of_strangers, const Share& asking) {
  std::vector<Share*> found;
  const auto& all = by_size_[of_strangers ? 1 : 0];
  for (auto at = all.rbegin(); at != all.rend() && found.size() < kMostAsked; ++at) {
    if (asking.octets > at->first / 2)
      break;
    if (at->second != &asking)
      found.push_back(at->second);
  }
  return found;
}

// How much it will let go; 0: nothing can be had of this one now.
std::size_t SessionLimits::tell_oldest(Share& from) {
  Keeper* told = nullptr;
  Kept* oldest = nullptr;
  for (auto& [keeper, kept] : from.sessions)
    if (keeper != nullptr && kept.promised == 0 &&
        (oldest == nullptr || kept.since < oldest->since) && keeper->can_let_go()) {
      told = keeper;
      oldest = &kept;
    }
  if (told == nullptr)
    return 0;
  change(from, [&] {
    oldest->promised = oldest->octets;
    from.promised += oldest->octets;
    promised_ += oldest->octets;
  });
  told->let_go();
  return oldest->octets;
}

// Whether so much will have gone.
bool SessionLimits::make_room(const Share& asking, std::size_t wanted) {
  std::size_t gone = 0;
  for (const bool of_strangers : {true, false}) {
    if (!of_strangers && asking.is_stranger)
      break;
    for (auto* const share : largest(of_strangers, asking)) {
      std::size_t fresh = 1;
      while (gone < wanted && fresh > 0 && asking.octets <= share->left() / 2) {
        fresh = tell_oldest(*share);
        gone += fresh;
      }
    }
  }
  return gone >= wanted;
}

// One customer of IPv6 has a /64 at least; the neighbourhood is a /24 or a /48.
IpAddress SessionLimits::client_key(const IpAddress& client) {
  return client.is_v6() ? client.masked(64) : client;
}

IpAddress SessionLimits::network_key(const IpAddress& client) {
  return client.masked(client.is_v6() ? 48 : 24);
}

bool SessionLimits::take_for(const IpAddress& client, const Limits& limits) {
  const std::lock_guard lock(mutex_);
  auto& of_client = by_client_[client_key(client)];
  auto& of_network = by_network_[network_key(client)];
  ++of_client;
  ++of_network;
  if (of_client <= limits.sessions_per_client && of_network <= limits.sessions_per_network)
    return true;
  lower(by_client_, client_key(client));
  lower(by_network_, network_key(client));
  return false;
}

bool SessionLimits::take_for_user(std::uint64_t party, std::uint32_t limit) {
  const std::lock_guard lock(mutex_);
  if (++by_user_[party] <= std::max(limit / 4, 1U))
    return true;
  lower(by_user_, party);
  return false;
}

void SessionLimits::give_back_for_user(std::uint64_t party) {
  const std::lock_guard lock(mutex_);
  lower(by_user_, party);
}

void SessionLimits::give_back_for(const IpAddress& client) {
  const std::lock_guard lock(mutex_);
  lower(by_client_, client_key(client));
  lower(by_network_, network_key(client));
}

}  // namespace postrider::smtpd
