// Mail that its sender asked not to send before a time of his (RFC 4865) goes by the wall clock,
// which is what he had in mind; all other waits go by the queue's own time. When the clock has
// jumped, or the daemon was down for days, its rows are set to that time again.
#pragma once

#include "queue/ledger/queue_state.h"

namespace postrider::queue {

class Releasing {
 public:
  Releasing(QueueState& state, NextLook& look) : state_(state), look_(look) {}

  // The queue's time is no longer the same distance from the clock's.
  void clock_jumped() { is_wanted_ = true; }
  bool is_busy() const { return is_wanted_; }
  // In a transaction; then what became of that.
  Result<void> go_on();
  void committed() { is_wanted_ = is_wanted_ && !std::exchange(is_done_, false); }
  void start_over() { is_done_ = false; }

 private:
  QueueState& state_;
  NextLook& look_;
  bool is_wanted_ = false;
  bool is_done_ = false;
};

}  // namespace postrider::queue
