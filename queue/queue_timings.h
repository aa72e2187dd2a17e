// How the queue does, for metrics. Any thread.
#pragma once

#include "base/histogram.h"

namespace postrider::queue {

struct QueueTimings {
  Histogram accept{kShortTimes};  // of each message that was taken: until it was on stable storage
  Histogram commit{kShortTimes};  // of each transaction: its commit and sync
  Histogram batch{kCounts};       // messages taken and results recorded by one transaction
};

}  // namespace postrider::queue
