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
  struct Next {
    TimePoint at;
    queue::RetryTally tally;  // with this deferral
  };
  // By the schedule of the outcome's reason, whose steps count the deferrals for it that came one
  // behind the other; within: where that would be longer.
  Next next(DispatchContext& context, mail::MessageId id, const queue::Lease::Recipient& recipient,
            const mail::Outcome& outcome, std::uint64_t site, std::optional<Duration> within);

 private:
  struct Drawn {
    std::uint64_t site = 0;
    scheduler::ReplyClass klass = scheduler::ReplyClass::busy;
    std::uint32_t in_a_row = 0;
    TimePoint until;
  };
  TimePoint together(std::uint64_t site, scheduler::ReplyClass klass, std::uint32_t in_a_row,
                     TimePoint now, Duration wait);
  std::vector<Drawn> drawn_;
};

}  // namespace postrider::delivery
