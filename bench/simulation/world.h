// Scripted sites for the scheduler: what a site does with connections and messages, over a hand
// clock. The same seed gives the same world.
#pragma once

#include "delivery/scheduler/site_scheduler.h"

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace postrider::simulation {

enum class RateKind : std::uint8_t { none, sliding, fixed, bucket };
enum class HintKind : std::uint8_t { none, right, wrong };

struct Behaviour {
  std::string kind;
  std::uint64_t seed = 0;
  double latency = 1;  // seconds, the median
  double cv = 0.6;
  double knee = 0;           // connections up to which the latency stays; 0: any number
  unsigned limit = 0;        // connections of a source; 0: any number
  unsigned later_limit = 0;  // from the middle third on to its end
  bool per_host = false;
  double close_lag = 0;  // seconds until the site sees that a connection is closed
  RateKind rate_kind = RateKind::none;
  unsigned rate_count = 0;  // messages in the window
  double rate_window = 60;
  bool refusals_count = false;
  HintKind hint = HintKind::none;
  double greylisting = 0;  // seconds
  double down_from = 0, down_to = 0;
  unsigned hosts = 1;
  bool first_host_is_dead = false;
  bool refuses_ipv6 = false;
  double breaks = 0;  // of conversations with a message
  unsigned per_connection = 0;
  unsigned sources = 1;
  std::vector<double> restarts;  // of the scheduler, with what it stored

  bool is_rate_limited() const { return rate_kind != RateKind::none; }
  bool is_steady() const { return later_limit == 0 && down_to == 0 && restarts.empty(); }
  double most_rate() const;  // messages a second that the site takes from a source
};

// Site `index` of a world: kinds in turn, the rest by the seed.
Behaviour make_site(std::uint64_t seed, unsigned index, double horizon);
std::vector<std::string> kinds();

struct Fixed {  // what an operator could have written
  unsigned connections = 20;
  double rate = 0;
};

struct Sample {
  double time = 0;
  double limit = 0, rate = 0, taken = 0;  // taken: a second, since the last sample
};

struct Result {
  std::uint64_t taken = 0;                         // messages, all the time
  std::uint64_t taken_late = 0;                    // behind the time to settle
  std::uint64_t tries_late = 0, refused_late = 0;  // for rate or connections, behind the first hour
  std::uint64_t rate_refused_late = 0;
  double worst_turn = 0;  // messages taken while one of a small sender waited for its first try
  unsigned small_waiting = 0;  // of small senders, still waiting at the end for very long
  double oscillation = 1;
  std::vector<Sample> samples;
};

struct Plan {
  double horizon = 7200;
  double settle = 600;  // seconds that do not count
  bool has_samples = false;
};

Result run_scheduler(const Behaviour& behaviour, const Plan& plan);
Result run_fixed(const Behaviour& behaviour, const Fixed& fixed, const Plan& plan);
// The highest throughput of those with less than 2 % refused.
std::pair<Fixed, Result> best_fixed(const Behaviour& behaviour, const Plan& plan);

}  // namespace postrider::simulation
