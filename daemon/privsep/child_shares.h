// How many children the parent has at one time. No user takes all: neither with deliveries under
// way, nor with children that SIGKILL does not end (a file system of the user's own holds them).
#pragma once

#include "base/time.h"

#include <cstddef>

namespace postrider::daemon {

constexpr std::size_t kMostChildren = 500;
constexpr std::size_t kMostOfUser = 250;  // local.deliveries is 200 at most
constexpr std::size_t kMostStuck = 10;    // of one user
constexpr std::size_t kManyStuck = 250;   // of all; then each user may have one
constexpr Duration kStuckAfter{5000};     // that nobody has wanted a child

struct ChildCount {
  std::size_t all = 0;    // the stuck too
  std::size_t stuck = 0;  // what was killed, and is still there
};

// Whether one more may be started for a user who has these.
constexpr bool may_start(const ChildCount& everybodys, const ChildCount& users) {
  const auto most_stuck = everybodys.stuck < kManyStuck ? kMostStuck : std::size_t{1};
  return everybodys.all < kMostChildren && users.all < kMostOfUser && users.stuck < most_stuck;
}

}  // namespace postrider::daemon
