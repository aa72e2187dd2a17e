#include "delivery/retry_times.h"

#include "delivery/refusals.h"
#include "delivery/scheduler/retry_hint.h"
#include "queue/schedule.h"

#include <algorithm>

namespace postrider::delivery {

using mail::Outcome;
using queue::Lease;

namespace {

std::optional<Duration> hint_of(const Outcome& outcome) {
  return outcome.reply.is_temporary() ? scheduler::find_hint(outcome.reply.text) : std::nullopt;
}

Duration wait_by_reason(DispatchContext& context, mail::MessageId id,
                        const Lease::Recipient& recipient, const Outcome& outcome,
                        const scheduler::ReplyMeaning& meaning, std::uint64_t site) {
  const auto tries = recipient.attempts + 1;
  const auto& by_reason = context.settings->retry_by_reason;
  if (!by_reason)
    return queue::retry_wait(context.settings->retry, tries, context.random);
  scheduler::RetrySchedule::Reason reason;
  reason.klass = meaning.klass;
  reason.tries = tries;
  reason.row_wait = meaning.wait;
  reason.hint = hint_of(outcome);
  // One that was obeyed and led to a refusal is obeyed once more.
  if (recipient.last && hint_of(*recipient.last))
    reason.hints_obeyed = recipient.attempts;
  return by_reason->wait(reason, static_cast<std::uint64_t>(id.value), site);
}

}  // namespace

TimePoint RetryTimes::next(DispatchContext& context, mail::MessageId id,
                           const Lease::Recipient& recipient, const Outcome& outcome,
                           std::uint64_t site, std::optional<Duration> within) {
  const auto now = context.clock.now();
  const auto attempts = recipient.attempts;
  const auto meaning = meaning_of(outcome, attempts == 0);
  const auto wait = wait_by_reason(context, id, recipient, outcome, meaning, site);
  if (within)
    return now + std::min<Duration>(wait, *within * (attempts + 1));
  for (auto& known : drawn_)
    if (known.site == site && known.klass == meaning.klass && known.attempts == attempts) {
      if (known.until < now + wait / 2)
        known.until = now + wait;
      return known.until;
    }
  drawn_.push_back({site, meaning.klass, attempts, now + wait});
  return now + wait;
}

}  // namespace postrider::delivery
