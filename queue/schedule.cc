#include "queue/schedule.h"

#include "base/assert.h"

#include <algorithm>

namespace postrider::queue {

Duration retry_wait(const RetrySchedule& schedule, unsigned attempts, Random& random) {
  POSTRIDER_ASSERT(!schedule.steps.empty());
  const std::size_t last = schedule.steps.size() - 1;
  const Duration step =
      schedule.steps[std::min<std::size_t>(attempts > 0 ? attempts - 1 : 0, last)];
  const auto spread = step.count() / 8;
  if (spread <= 0)
    return std::max(step, Duration(1));
  const auto offset =
      static_cast<std::int64_t>(random.below(2 * static_cast<std::uint64_t>(spread) + 1));
  return step + Duration(offset - spread);
}

}  // namespace postrider::queue
