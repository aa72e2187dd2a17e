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
  static constexpr Duration kAskedEvery = std::chrono::seconds(1);

  RoomWatch(Spool& spool, const Clock& clock) : spool_(spool), clock_(clock) {}

  // At most every so often, or after ask() saw a change. needed: as QueueSettings::room_needed.
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
  // Any thread: the same, but a queue without work looks at its disk as well, at most once in
  // kAskedEvery.
  Admission ask();
  // ask() saw what the queue thread has not seen yet: it is to be woken.
  bool is_check_wanted() const { return is_check_wanted_; }

 private:
  Spool& spool_;
  const Clock& clock_;
  SteadyTime checked_;
  bool has_room_ = true;  // by statvfs
  bool is_full_ = false;  // by SQLite
  std::atomic<Admission> admission_{Admission::open};
  std::atomic<std::uint64_t> needed_{0};  // of the last check
  std::atomic<SteadyTime> asked_{SteadyTime::min()};
  std::atomic<bool> is_check_wanted_{false};
};

}  // namespace postrider::queue
