// The log of what strangers make us say by connecting and being refused (attacks.md X15): each kind
// of event has a rate, and what goes beyond is counted and reported, so that a flood fills no disk.
// What tells of an attack on logins or of refused mail is logged apart for each client's network, as
// long as that has few such lines: who goes slowly is not hidden by the flood of another.
// Messages and our own clients are always logged. Lives on its loop.
#pragma once

#include "base/log.h"
#include "base/net/deadline.h"
#include "base/network.h"

#include <cstdint>
#include <list>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>

namespace postrider::smtpd {

class LimitedLog final : public Log {
 public:
  static constexpr std::uint64_t kBurst = 2000;  // lines of one kind at once
  static constexpr std::uint64_t kRate = 100;    // and a second, in the long run
  // Lines of one kind that a network has for itself, and all networks together.
  static constexpr std::uint64_t kOwnBurst = 100, kOwnRate = 1;
  static constexpr std::uint64_t kOwnBurstOfAll = 5000, kOwnRateOfAll = 50;
  static constexpr std::size_t kMostNetworks = 4096;  // of one kind that are remembered
  static constexpr Duration kReport{10000};

  LimitedLog(Log& log, const Clock& clock, DeadlineWheel& wheel);
  bool enabled(Level level) const override { return log_.enabled(level); }
  void write(LogEvent event) override;
  // Says what was left out: "log_limited event=connected suppressed=1234".
  void report();

 private:
  class Room {
   public:
    Room(std::uint64_t burst, std::uint64_t rate) : burst_(burst), rate_(rate), room_(burst) {}
    bool take(SteadyTime now);
    void give_back() { ++room_; }

   private:
    std::uint64_t burst_, rate_, room_;
    SteadyTime filled_;
  };
  struct Network {
    std::string name;
    Room room{kOwnBurst, kOwnRate};
  };
  struct Kind {
    Room room{kBurst, kRate};
    Room of_networks{kOwnBurstOfAll, kOwnRateOfAll};
    std::list<Network> networks;  // who was last heard of is last
    std::unordered_map<std::string_view, std::list<Network>::iterator> by_name;
    std::uint64_t suppressed = 0;
  };
  static bool has_own_room(Kind& kind, std::string_view client, SteadyTime now);

  Log& log_;
  const Clock& clock_;
  std::map<std::string_view, Kind> kinds_;  // by the names of events, which are literals
  Deadline report_;
};

}  // namespace postrider::smtpd
