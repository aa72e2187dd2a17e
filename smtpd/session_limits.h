// How many sessions there are, in all and by client address (attacks.md X03). Shared by the loops,
// since SO_REUSEPORT spreads one client over all of them. The mutex is met only by strangers, once
// at the beginning and once at the end of a session; clients of relay_from have no limit by
// address.
#pragma once

#include "base/network.h"
#include "smtpd/server_settings.h"

#include <atomic>
#include <cstdint>
#include <mutex>
#include <unordered_map>

namespace postrider::smtpd {

class SessionLimits {
 public:
  // In all. False: none is free.
  bool take(std::uint32_t limit);
  void give_back() { open_.fetch_sub(1, std::memory_order_relaxed); }
  std::uint32_t open() const { return open_.load(std::memory_order_relaxed); }

  // Octets of content that sessions hold in memory: `octets` instead of `before`.
  void hold(std::size_t octets, std::size_t before) {
    held_.fetch_add(octets - before, std::memory_order_relaxed);
  }
  std::size_t held() const { return held_.load(std::memory_order_relaxed); }

  // By address. False: this client, or its network, has its share.
  bool take_for(const IpAddress& client, const Limits& limits);
  void give_back_for(const IpAddress& client);

 private:
  struct Hash {
    std::size_t operator()(const IpAddress& address) const { return address.hash(); }
  };
  using Counts = std::unordered_map<IpAddress, std::uint32_t, Hash>;
  static IpAddress client_key(const IpAddress& client);
  static IpAddress network_key(const IpAddress& client);

  std::atomic<std::uint32_t> open_{0};
  std::atomic<std::size_t> held_{0};
  std::mutex mutex_;
  Counts by_client_;
  Counts by_network_;
};

}  // namespace postrider::smtpd
