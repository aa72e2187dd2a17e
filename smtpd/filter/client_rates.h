// What a client did in the last hour: messages, recipients, and commands that were refused. An IPv6
// client is its /64. Thread-safe; bounded: who did something longest ago is forgotten first.
#pragma once

#include "base/network.h"
#include "base/time.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <mutex>

namespace postrider::smtpd::filter {

class ClientRates {
 public:
  static constexpr std::size_t kMost = 50'000;
  enum Item : std::uint8_t { messages, recipients, failures };
  static constexpr std::size_t kItems = 3;

  void note(const IpAddress& client, Item item, SteadyTime now);
  // In the last hour, which goes on in steps of five minutes.
  std::uint32_t count(const IpAddress& client, Item item, SteadyTime now);
  std::size_t size() const;

 private:
  static constexpr std::size_t kSlots = 13;  // the one that fills, and an hour
  struct Client {
    std::array<std::array<std::uint32_t, kSlots>, kItems> counts{};
    std::int64_t last = 0;  // the number of the newest slot
    std::list<IpAddress>::iterator place;
  };
  static IpAddress key_of(const IpAddress& client);
  static void move_to(Client& client, SteadyTime now);

  mutable std::mutex mutex_;
  std::map<IpAddress, Client> clients_;
  std::list<IpAddress> order_;  // the one seen last at the end
};

}  // namespace postrider::smtpd::filter
