#include "smtpd/session_limits.h"

#include <algorithm>

namespace postrider::smtpd {

namespace {

template <class Counts>
void lower(Counts& counts, const IpAddress& key) {
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

bool SessionLimits::keep(const Party& party, std::size_t octets, std::size_t before,
                         std::size_t budget) {
  const auto held = held_.fetch_add(octets - before, std::memory_order_relaxed) + octets - before;
  const auto more = std::max(octets, kAlwaysKept) - kAlwaysKept;
  const auto less = std::max(before, kAlwaysKept) - kAlwaysKept;
  if (more == 0 && less == 0)
    return true;
  const std::lock_guard lock(mutex_);
  auto kept = kept_by_.find(party.name);
  if (kept == kept_by_.end() && more == 0)
    return true;  // there was no memory to count it
  if (kept == kept_by_.end())
    kept = kept_by_.emplace(party.name, 0).first;
  kept->second += more - less;
  const auto common = party.is_stranger ? budget / 2 : budget;
  const auto share = std::min(budget / 16, (std::max(held, common) - held) / 4);
  const bool is_within = more == 0 || kept->second <= share;
  if (kept->second == 0)
    kept_by_.erase(kept);
  return is_within;
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

void SessionLimits::give_back_for(const IpAddress& client) {
  const std::lock_guard lock(mutex_);
  lower(by_client_, client_key(client));
  lower(by_network_, network_key(client));
}

}  // namespace postrider::smtpd
