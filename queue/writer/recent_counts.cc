#include "queue/writer/recent_counts.h"

namespace postrider::queue {

namespace {

void add_counts(Queue::Counters& all, const Queue::Counters& some) {
  all.accepted += some.accepted;
  all.delivered += some.delivered;
  all.bounced += some.bounced;
  all.removed += some.removed;
  all.deferrals += some.deferrals;
  all.untried += some.untried;
  all.commits += some.commits;
}

}  // namespace

std::int64_t RecentCounts::slot_of(SteadyTime now) {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(now.time_since_epoch());
  return seconds.count() / kSeconds;
}

void RecentCounts::add(SteadyTime now, const Queue::Counters& counted) {
  const auto number = slot_of(now);
  const std::lock_guard lock(mutex_);
  auto& slot = slots_[static_cast<std::size_t>(number % kSlots)];
  if (slot.number != number)
    slot = {number, {}};
  add_counts(slot.counted, counted);
}

Queue::Recent RecentCounts::at(SteadyTime now) const {
  const auto number = slot_of(now);
  Queue::Recent recent;
  const std::lock_guard lock(mutex_);
  for (const auto& slot : slots_) {
    if (slot.number < 0 || slot.number > number || slot.number <= number - kSlots)
      continue;
    add_counts(recent.hour, slot.counted);
    if (slot.number > number - 60 / kSeconds)
      add_counts(recent.minute, slot.counted);
  }
  return recent;
}

}  // namespace postrider::queue
