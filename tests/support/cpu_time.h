// How long something takes the processor, whatever else the machine is doing.
#pragma once

#include <ctime>

namespace postrider::test {

/// Seconds of CPU that `work` takes on this thread. To compare growth, not speed.
template <class Work>
double cpu_seconds(Work work) {
  const auto now = [] {
    timespec at{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &at);
    return static_cast<double>(at.tv_sec) + static_cast<double>(at.tv_nsec) / 1e9;
  };
  const auto begin = now();
  work();
  return now() - begin;
}

}  // namespace postrider::test
