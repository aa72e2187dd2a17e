// Memory that many share, counted and not allocated. Thread-safe.
#pragma once

#include <atomic>
#include <cstdint>

namespace postrider::delivery {

// For all conversions of content at one time, sources and results together.
constexpr std::uint64_t kMostConverting = 192U << 20U;

class MemoryBudget {
 public:
  explicit MemoryBudget(std::uint64_t octets) : left_(octets) {}
  // False: not now. What was taken must be given back.
  bool take(std::uint64_t octets) {
    auto left = left_.load();
    do {
      if (left < octets)
        return false;
    } while (!left_.compare_exchange_weak(left, left - octets));
    return true;
  }
  void give(std::uint64_t octets) { left_ += octets; }
  std::uint64_t left() const { return left_.load(); }

 private:
  std::atomic<std::uint64_t> left_;
};

}  // namespace postrider::delivery
