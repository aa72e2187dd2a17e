// Time comes in as an argument: pure code takes a TimePoint, composition holds a Clock.
#pragma once

#include <chrono>

namespace postrider {

using Duration = std::chrono::milliseconds;
using TimePoint = std::chrono::sys_time<std::chrono::milliseconds>;  // wall clock, UTC
using SteadyTime = std::chrono::steady_clock::time_point;            // never jumps

// Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual TimePoint now() const = 0;      // for what people see and what is stored
  virtual SteadyTime steady() const = 0;  // for waits
};

class SystemClock : public Clock {
 public:
  TimePoint now() const override {
    return std::chrono::time_point_cast<Duration>(std::chrono::system_clock::now());
  }
  SteadyTime steady() const override { return std::chrono::steady_clock::now(); }
};

}  // namespace postrider
