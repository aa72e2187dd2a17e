#include "smtpd/session_limits.h"

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
