// Whether new mail can be taken: room on the disk, and a store that works.
#pragma once

#include "base/time.h"
#include "queue/queue.h"
#include "queue/spool.h"

#include <atomic>

namespace postrider::queue {

class RoomWatch {
 public:
  static constexpr Duration kEvery = std::chrono::milliseconds(250);

  RoomWatch(Spool& spool, const Clock& clock) : spool_(spool), clock_(clock) {}

  // At most every so often. needed: as QueueSettings::room_needed.
  void check(std::uint64_t needed, bool is_open);
  void check_at_once(std::uint64_t needed, bool is_open);
  // SQLite found the disk full: the reserve is given up, and until something could be written again
  // nothing is taken.
  void found_full();
  bool has_written();  // true: it was full before
  bool is_full() const { return is_full_; }
  bool has_room() const { return has_room_ && !is_full_; }

  // Stopping is for good.
  void set(Admission admission);
  Admission admission() const { return admission_.load(std::memory_order_relaxed); }  // any thread

 private:
  Spool& spool_;
  const Clock& clock_;
  SteadyTime checked_;
  bool has_room_ = true;  // by statvfs
  bool is_full_ = false;  // by SQLite
  std::atomic<Admission> admission_{Admission::open};
};

}  // namespace postrider::queue
