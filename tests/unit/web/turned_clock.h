// Stands at one time of day; its steady time goes on when a test says so.
#pragma once

#include "base/time.h"

namespace postrider::web {

class TurnedClock : public Clock {
 public:
  TimePoint now() const override { return TimePoint(std::chrono::seconds(1000)); }
  SteadyTime steady() const override { return now_; }
  void advance(Duration by) { now_ += by; }

 private:
  SteadyTime now_{std::chrono::hours(1)};
};

}  // namespace postrider::web
