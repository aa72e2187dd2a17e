// Deadlines without a timer object per operation: one coarse wheel per loop, one node per
// connection. Setting a later deadline is one store.
#pragma once

#include "base/net/task.h"
#include "base/time.h"

#include <boost/asio/basic_waitable_timer.hpp>

#include <array>
#include <functional>

namespace postrider {

class DeadlineWheel;

// Calls its function on the loop's thread when the time has passed, at most kTick late and never
// early. Not thread-safe; lives and dies on its loop.
class Deadline {
 public:
  Deadline(DeadlineWheel& wheel, std::function<void()> expired);
  ~Deadline();
  Deadline(const Deadline&) = delete;
  Deadline& operator=(const Deadline&) = delete;
  void set(Duration from_now);
  void clear() { armed_ = false; }
  bool is_set() const { return armed_; }

 private:
  friend class DeadlineWheel;
  void unlink();

  DeadlineWheel& wheel_;
  std::function<void()> expired_;
  SteadyTime due_;
  SteadyTime filed_until_;  // the time of the slot that it is linked in
  std::size_t slot_ = 0;
  Deadline* previous_ = nullptr;
  Deadline* next_ = nullptr;
  bool armed_ = false;
};

class DeadlineWheel {
 public:
  static constexpr Duration kTick{100};
  explicit DeadlineWheel(asio::io_context& context);
  ~DeadlineWheel();
  void stop();  // no further ticks; lets the loop run empty

 private:
  friend class Deadline;
  static constexpr std::size_t kSlots = 1024;
  struct Slot {
    Deadline* first = nullptr;
  };
  void file(Deadline& deadline);
  void tick();
  void call_expired();
  void schedule_tick();

  using Timer = asio::basic_waitable_timer<std::chrono::steady_clock,
                                           asio::wait_traits<std::chrono::steady_clock>, Executor>;
  std::array<Slot, kSlots> slots_{};
  std::size_t current_ = 0;
  std::size_t linked_ = 0;
  SteadyTime current_time_;
  Timer timer_;
  bool ticking_ = false;
  bool stopped_ = false;
};

}  // namespace postrider
