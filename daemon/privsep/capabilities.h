// Linux capabilities of this thread, and the ways to lose them.
#pragma once

#include "base/result.h"

#include <cstdint>

namespace postrider::daemon {

// A set of CAP_... numbers as bits.
constexpr std::uint64_t capability(unsigned number) {
  return std::uint64_t{1} << number;
}
std::uint64_t effective_capabilities();
// From now on these are permitted and effective, none is inherited by other programs, and what is
// not in `ever` cannot be had again (as far as we have CAP_SETPCAP, without which it could not
// anyway).
Result<void> keep_only(std::uint64_t capabilities, std::uint64_t ever);

// What is not in `ever` cannot be had again, for this thread and those it starts, as far as we have
// CAP_SETPCAP.
void drop_for_ever_but(std::uint64_t ever);

}  // namespace postrider::daemon
