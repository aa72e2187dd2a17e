// The queue's own time: the wall clock without its jumps. Waits and lifetimes are kept in it, so a
// clock set a year ahead neither expires the whole queue nor makes it wait a year when it is set
// back (attacks.md M18). Time while the daemon was down counts up to a day, a jump while it runs
// up to an hour; going backwards counts as standing still.
#pragma once

#include "base/time.h"

#include <atomic>

namespace postrider::queue {

// Observed by one thread; converted by any.
class QueueTime {
 public:
  static constexpr Duration kMostDown = std::chrono::hours(24);
  static constexpr Duration kMostJump = std::chrono::hours(1);
  static constexpr Duration kSmall = std::chrono::minutes(1);  // less is slewing, not jumping

  // At start: the stored shift and the wall time when the queue was last seen (0: never).
  void resume(Duration shift, TimePoint last_seen, TimePoint wall, SteadyTime steady);
  // True if the clock has jumped: the shift is to be stored.
  bool observe(TimePoint wall, SteadyTime steady);

  TimePoint now() const { return to_queue(wall_); }  // as of the last observation
  TimePoint wall() const { return wall_; }
  Duration shift() const { return Duration(shift_.load(std::memory_order_relaxed)); }
  TimePoint to_queue(TimePoint wall) const { return wall - shift(); }
  TimePoint to_wall(TimePoint queue) const { return queue + shift(); }

 private:
  std::atomic<Duration::rep> shift_{0};  // wall clock minus queue time
  TimePoint wall_;
  TimePoint base_wall_;  // of the last jump, or the start
  SteadyTime base_steady_;
};

}  // namespace postrider::queue
