// How long things took, or how large they were, counted in buckets whose bounds are fixed: what a
// histogram of OpenMetrics is made of.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace postrider {

// Upper bounds of buckets, rising; one more is above them all. In seconds, or in what is counted.
inline constexpr std::array<double, 16> kShortTimes = {.0005, .001, .002, .005, .01, .02, .05, .1,
                                                       .2,    .5,   1,    2,    5,   10,  30,  60};
inline constexpr std::array<double, 16> kLongTimes = {.005, .01, .02, .05, .1,  .2,   .5,    1,
                                                      2,    5,   10,  60,  300, 3600, 14400, 86400};
inline constexpr std::array<double, 12> kCounts = {1,  2,   4,   8,   16,   32,
                                                   64, 128, 256, 512, 1024, 2048};

// Thread-safe, without a lock: figures() may miss what is added at the same moment.
class Histogram {
 public:
  static constexpr std::size_t kMostBounds = 16;

  // bounds: at most kMostBounds, and outlives this.
  explicit Histogram(std::span<const double> bounds)
      : bounds_(bounds.first(std::min(bounds.size(), kMostBounds))) {}

  // What is negative (a clock that was set back) counts as zero.
  void add(double value) {
    value = std::max(value, 0.0);
    const auto bucket = std::lower_bound(bounds_.begin(), bounds_.end(), value) - bounds_.begin();
    counts_[static_cast<std::size_t>(bucket)].fetch_add(1, std::memory_order_relaxed);
    sum_.fetch_add(static_cast<std::uint64_t>(std::min(value, kMostValue) * kParts),
                   std::memory_order_relaxed);
  }
  template <class Rep, class Period>
  void add(std::chrono::duration<Rep, Period> time) {
    add(std::chrono::duration<double>(time).count());
  }

  struct Figures {
    std::span<const double> bounds;
    std::vector<std::uint64_t> counts;  // of each bucket alone; one more than bounds
    double sum = 0;
  };
  Figures figures() const {
    Figures figures{bounds_, {}, 0};
    for (std::size_t i = 0; i <= bounds_.size(); ++i)
      figures.counts.push_back(counts_[i].load(std::memory_order_relaxed));
    figures.sum = static_cast<double>(sum_.load(std::memory_order_relaxed)) / kParts;
    return figures;
  }

 private:
  static constexpr double kParts = 1e6;
  static constexpr double kMostValue = 1e9;  // more at once would fill the sum
  const std::span<const double> bounds_;
  std::array<std::atomic<std::uint64_t>, kMostBounds + 1> counts_{};
  std::atomic<std::uint64_t> sum_{0};
};

}  // namespace postrider
