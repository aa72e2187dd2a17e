#include "base/random.h"

#include "base/assert.h"

#include <sys/random.h>

namespace postrider {

std::uint64_t Random::below(std::uint64_t bound) {
  POSTRIDER_ASSERT(bound > 0);
  // Refuses the incomplete last interval, so every value is equally likely.
  const std::uint64_t refused_above = UINT64_MAX - UINT64_MAX % bound;
  for (;;) {
    const std::uint64_t value = next();
    if (value < refused_above)
      return value % bound;
  }
}

std::uint64_t SystemRandom::next() {
  if (left_ == 0) {
    // At most 256 bytes are never cut short and never interrupted (getrandom(2)).
    POSTRIDER_ASSERT(::getrandom(block_, sizeof block_, 0) == sizeof block_);
    left_ = 32;
  }
  return block_[--left_];
}

}  // namespace postrider
