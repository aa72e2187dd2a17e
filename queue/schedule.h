// When to try again: pure, from the configured steps.
#pragma once

#include "base/random.h"
#include "base/time.h"

#include <vector>

namespace postrider::queue {

struct RetrySchedule {
  std::vector<Duration> steps;  // the last repeats; at least one
};

// The wait before attempt number `attempts` + 1 after `attempts` failures (>= 1), jittered by up
// to an eighth either way so that messages that failed together do not come back together.
Duration retry_wait(const RetrySchedule& schedule, unsigned attempts, Random& random);

}  // namespace postrider::queue
