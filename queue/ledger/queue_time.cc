#include "queue/ledger/queue_time.h"

#include <algorithm>

namespace postrider::queue {

void QueueTime::resume(Duration shift, TimePoint last_seen, TimePoint wall, SteadyTime steady) {
  wall_ = base_wall_ = wall;
  base_steady_ = steady;
  if (last_seen != TimePoint()) {
    const Duration gap = wall - last_seen;
    shift += gap - std::clamp(gap, Duration(0), kMostDown);
  }
  shift_ = shift.count();
}

bool QueueTime::observe(TimePoint wall, SteadyTime steady) {
  const auto passed = std::chrono::duration_cast<Duration>(steady - base_steady_);
  const Duration jump = wall - (base_wall_ + passed);
  wall_ = wall;
  if (jump > -kSmall && jump < kSmall)
    return false;
  base_wall_ = wall;
  base_steady_ = steady;
  const Duration left_out = jump - std::clamp(jump, Duration(0), kMostJump);
  shift_ += left_out.count();
  return left_out != Duration(0);
}

}  // namespace postrider::queue
