// How the queue does, for metrics. Any thread.
#pragma once

#include "base/histogram.h"

#include <atomic>
#include <cstdint>

namespace postrider::queue {

// The write-ahead log of the database.
struct LogFigures {
  std::atomic<std::uint64_t> pages{0};    // that the latest transaction left in it
  std::atomic<std::uint64_t> written{0};  // pages, by all transactions
  Histogram checkpoint{kShortTimes};      // of each: its time
  // Checkpoints behind which the log had to go on growing: a reader held on to it, or it failed.
  std::atomic<std::uint64_t> unfinished{0};
};

struct QueueTimings {
  Histogram accept{kShortTimes};  // of each message that was taken: until it was on stable storage
  Histogram commit{kShortTimes};  // of each transaction: its commit and sync
  Histogram batch{kCounts};       // messages taken and results recorded by one transaction
  LogFigures log;
};

}  // namespace postrider::queue
