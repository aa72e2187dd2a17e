// When the recipients of a lease that are deferred are tried again.
#pragma once

#include "delivery/dispatch_context.h"
#include "delivery/scheduler/reply_class.h"
#include "queue/queue.h"

#include <cstdint>
#include <optional>
#include <vector>

namespace postrider::delivery {

// Of one lease. A time is drawn once for a site and reason: who is deferred together comes back
// together.
class RetryTimes {
 public:
  // By the schedule of the outcome's reason; within: where that would be longer.
  TimePoint next(DispatchContext& context, mail::MessageId id,
                 const queue::Lease::Recipient& recipient, const mail::Outcome& outcome,
                 std::uint64_t site, std::optional<Duration> within);

 private:
  struct Drawn {
    std::uint64_t site = 0;
    scheduler::ReplyClass klass = scheduler::ReplyClass::busy;
    std::uint32_t attempts = 0;
    TimePoint until;
  };
  std::vector<Drawn> drawn_;
};

}  // namespace postrider::delivery
