// What the queue counted in the last minute and the last hour.
#pragma once

#include "queue/queue.h"

#include <array>
#include <mutex>

namespace postrider::queue {

class RecentCounts {
 public:
  void add(SteadyTime now, const Queue::Counters& counted);  // one thread
  // Any thread: in the minute and the hour before now, in steps of ten seconds.
  Queue::Recent at(SteadyTime now) const;

 private:
  static constexpr std::int64_t kSeconds = 10;  // of a slot
  static constexpr std::int64_t kSlots = 3600 / kSeconds;
  struct Slot {
    std::int64_t number = -1;
    Queue::Counters counted;
  };
  static std::int64_t slot_of(SteadyTime now);

  mutable std::mutex mutex_;
  std::array<Slot, kSlots> slots_;
};

}  // namespace postrider::queue
