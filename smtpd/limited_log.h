// The log of what strangers make us say by connecting and being refused (attacks.md X15): each kind
// of event has a rate, and what goes beyond is counted and reported, so that a flood fills no disk.
// What tells of an attack on logins or of refused mail is logged apart for each client's network, as
// long as that has few such lines: who goes slowly is not hidden by the flood of another. Nor by
// that of a thousand others, each of which goes slowly: the first lines of a network have precedence,
// from sums of their own.
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
  // Of these the first ones, which a network has again so long after each; and the sums of the
  // first and of the few after them: what programs that ban look for, and some more.
  static constexpr std::uint64_t kFirst = 5, kFew = 20;
  static constexpr Duration kFewAgain{60'000};
  static constexpr std::uint64_t kFewBurstOfAll = 20'000, kFewRateOfAll = 20;
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
    // rate: lines a second.
    Room(std::uint64_t burst, std::uint64_t rate) : Room(burst, Duration(1000) / rate) {}
    Room(std::uint64_t burst, Duration each) : burst_(burst), room_(burst), each_(each) {}
    std::uint64_t left(SteadyTime now);
    bool take(SteadyTime now);
    void give_back() { ++room_; }

   private:
    std::uint64_t burst_, room_;
    Duration each_;
    SteadyTime filled_;
  };
  struct Network {
    std::string name;
    Room few{kFew, kFewAgain};
    Room room{kOwnBurst, kOwnRate};
  };
  struct Kind {
    Room room{kBurst, kRate};
    Room of_first{kFewBurstOfAll, kFewRateOfAll};
    Room of_few{kFewBurstOfAll, kFewRateOfAll};
    Room of_networks{kOwnBurstOfAll, kOwnRateOfAll};
    std::list<Network> networks;  // who was last heard of is last
    std::unordered_map<std::string_view, std::list<Network>::iterator> by_name;
    std::uint64_t suppressed = 0;
  };
  static bool has_precedence(Kind& kind, Network& network, SteadyTime now);
  static bool has_own_room(Kind& kind, std::string_view client, SteadyTime now);

  Log& log_;
  const Clock& clock_;
  std::map<std::string_view, Kind> kinds_;  // by the names of events, which are literals
  Deadline report_;
};

}  // namespace postrider::smtpd
