// What administrators pause and resume. Paused mail is not handed out; what delivery has in hand
// is asked back, and what of that has begun ends as it ends.
#pragma once

#include "queue/ledger/queue_state.h"

namespace postrider::queue {

class Pausing {
 public:
  Pausing(QueueState& state, NextLook& look) : state_(state), look_(look) {}

  // When the store has been opened: from what is there.
  Result<void> load();
  // Its name is canonical. Replaces one of the same name; Errc::too_long: there are too many.
  Result<void> pause(const Pause& pause, Effects& effects);
  // Of::all: everything that is paused. Returns how many ended.
  Result<std::size_t> resume(const Pause& pause, Effects& effects);
  // Those whose time is over.
  Result<void> end_due(Effects& effects);
  // What delivery has in hand of what is paused, notices aside.
  std::vector<Revocation> in_hand(const Pause& pause) const;

 private:
  Result<void> end(const PauseRow& row, const LogEvent& event, Effects& effects);
  void remember(Effects& effects);

  QueueState& state_;
  NextLook& look_;
};

}  // namespace postrider::queue
