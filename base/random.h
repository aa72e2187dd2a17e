// Randomness comes in as an argument, so that tests can fix it.
#pragma once

#include <cstdint>

namespace postrider {

class Random {
 public:
  virtual ~Random() = default;
  virtual std::uint64_t next() = 0;  // 64 unpredictable bits
  // Uniform in [0, bound); bound > 0.
  std::uint64_t below(std::uint64_t bound);
};

// The kernel's generator, read in blocks. One object a thread.
class SystemRandom : public Random {
 public:
  std::uint64_t next() override;

 private:
  std::uint64_t block_[32] = {};
  unsigned left_ = 0;
};

}  // namespace postrider
