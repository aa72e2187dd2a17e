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

// What a message met under an earlier version, which kept no tally, counts as one reason.
queue::RetryTally tally_with(const Lease::Recipient& recipient, scheduler::ReplyClass klass) {
  auto tally = recipient.tally;
  const auto reason = static_cast<std::uint8_t>(static_cast<unsigned>(klass) + 1);
  if (tally.reason == 0)
    tally.in_a_row = recipient.attempts;
  else if (tally.reason != reason)
    tally.in_a_row = 0;
  tally.reason = reason;
  ++tally.in_a_row;
  return tally;
}

Duration wait_by_reason(DispatchContext& context, mail::MessageId id,
                        const Lease::Recipient& recipient, const Outcome& outcome,
                        const scheduler::ReplyMeaning& meaning, std::uint64_t site,
                        queue::RetryTally& tally) {
  const auto& by_reason = context.settings->retry_by_reason;
  if (!by_reason)
    return queue::retry_wait(context.settings->retry, recipient.attempts + 1, context.random);
  scheduler::RetrySchedule::Reason reason;
  reason.klass = meaning.klass;
  reason.tries = tally.in_a_row;
  reason.all_tries = recipient.attempts + 1;
  reason.row_wait = meaning.wait;
  reason.hint = hint_of(outcome);
  reason.hints_obeyed = tally.hints_obeyed;
  if (scheduler::RetrySchedule::obeys_hint(reason))
    ++tally.hints_obeyed;
  return by_reason->wait(reason, static_cast<std::uint64_t>(id.value), site);
}

}  // namespace

RetryTimes::Next RetryTimes::next(DispatchContext& context, mail::MessageId id,
                                  const Lease::Recipient& recipient, const Outcome& outcome,
                                  std::uint64_t site, std::optional<Duration> within) {
  const auto now = context.clock.now();
  const auto meaning = meaning_of(outcome, recipient.attempts == 0);
  Next next;
  next.tally = tally_with(recipient, meaning.klass);
  const auto wait = wait_by_reason(context, id, recipient, outcome, meaning, site, next.tally);
  next.at = within ? now + std::min<Duration>(wait, *within * (recipient.attempts + 1))
                   : together(site, meaning.klass, next.tally.in_a_row, now, wait);
  return next;
}

TimePoint RetryTimes::together(std::uint64_t site, scheduler::ReplyClass klass,
                               std::uint32_t in_a_row, TimePoint now, Duration wait) {
  for (auto& known : drawn_)
    if (known.site == site && known.klass == klass && known.in_a_row == in_a_row) {
      if (known.until < now + wait / 2)
        known.until = now + wait;
      return known.until;
    }
  drawn_.push_back({site, klass, in_a_row, now + wait});
  return now + wait;
}

}  // namespace postrider::delivery
