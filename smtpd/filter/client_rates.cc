#include "smtpd/filter/client_rates.h"

#include <algorithm>
#include <numeric>

namespace postrider::smtpd::filter {

namespace {

constexpr auto kSlot = std::chrono::minutes(5);

std::int64_t slot_of(SteadyTime when) {
  return when.time_since_epoch() / kSlot;
}

}  // namespace

IpAddress ClientRates::key_of(const IpAddress& client) {
  return client.is_v6() ? client.masked(64) : client;
}

void ClientRates::move_to(Client& client, SteadyTime now) {
  const auto slot = slot_of(now);
  const auto steps = std::min<std::int64_t>(slot - client.last, kSlots);
  for (auto& counts : client.counts)
    for (std::int64_t i = 1; i <= steps; ++i)
      counts[static_cast<std::size_t>((client.last + i) % static_cast<std::int64_t>(kSlots))] = 0;
  client.last = std::max(client.last, slot);
}

void ClientRates::note(const IpAddress& client, Item item, SteadyTime now) {
  const auto key = key_of(client);
  const std::lock_guard lock(mutex_);
  auto found = clients_.find(key);
  if (found == clients_.end()) {
    while (clients_.size() >= kMost) {
      clients_.erase(order_.front());
      order_.pop_front();
    }
    found = clients_.emplace(key, Client()).first;
    found->second.last = slot_of(now);
    found->second.place = order_.insert(order_.end(), key);
  } else {
    order_.splice(order_.end(), order_, found->second.place);
    move_to(found->second, now);
  }
  auto& counts = found->second.counts[item];
  ++counts[static_cast<std::size_t>(found->second.last % static_cast<std::int64_t>(kSlots))];
}

std::uint32_t ClientRates::count(const IpAddress& client, Item item, SteadyTime now) {
  const std::lock_guard lock(mutex_);
  const auto found = clients_.find(key_of(client));
  if (found == clients_.end())
    return 0;
  move_to(found->second, now);
  const auto& counts = found->second.counts[item];
  return std::accumulate(counts.begin(), counts.end(), std::uint32_t{0});
}

std::size_t ClientRates::size() const {
  const std::lock_guard lock(mutex_);
  return clients_.size();
}

}  // namespace postrider::smtpd::filter
