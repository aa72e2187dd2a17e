// How many sessions there are, in all and by client address (attacks.md X03), and how much they
// keep in memory. Shared by the loops, since SO_REUSEPORT spreads one client over all of them. The
// mutex is met only by strangers, once at the beginning and once at the end of a session; clients
// of relay_from have no limit by address.
#pragma once

#include "base/network.h"
#include "smtpd/server_settings.h"

#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>
#include <unordered_map>

namespace postrider::smtpd {

class SessionLimits {
 public:
  // In all. False: none is free.
  bool take(std::uint32_t limit);
  void give_back() { open_.fetch_sub(1, std::memory_order_relaxed); }
  std::uint32_t open() const { return open_.load(std::memory_order_relaxed); }

  // What one session keeps in memory of what its client sent: `octets` instead of `before`. False:
  // with the party's other sessions that is more than its share, and the session is to let go of
  // it. A share is a sixteenth of `budget`, and less where little is left: a quarter of that.
  // Strangers share one half of it only. The first octets of a session count in the sum alone, and
  // nobody is refused them.
  struct Party {
    std::string name;  // empty: none yet
    bool is_stranger = true;
  };
  static constexpr std::size_t kAlwaysKept = 16U << 10U;
  bool keep(const Party& party, std::size_t octets, std::size_t before, std::size_t budget);
  std::size_t held() const { return held_.load(std::memory_order_relaxed); }

  // By address. False: this client, or its network, has its share.
  bool take_for(const IpAddress& client, const Limits& limits);
  void give_back_for(const IpAddress& client);
  // The address, or the /64 that it is one of.
  static IpAddress client_key(const IpAddress& client);

 private:
  struct Hash {
    std::size_t operator()(const IpAddress& address) const { return address.hash(); }
  };
  using Counts = std::unordered_map<IpAddress, std::uint32_t, Hash>;
  static IpAddress network_key(const IpAddress& client);

  std::atomic<std::uint32_t> open_{0};
  std::atomic<std::size_t> held_{0};
  std::mutex mutex_;
  Counts by_client_;
  Counts by_network_;
  std::unordered_map<std::string, std::size_t> kept_by_;  // beyond what is always kept
};

}  // namespace postrider::smtpd
