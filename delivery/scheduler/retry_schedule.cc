#include "delivery/scheduler/retry_schedule.h"

#include "delivery/scheduler/retry_hint.h"

#include <algorithm>

namespace postrider::scheduler {

namespace {

using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;
using Steps = std::vector<Duration>;

constexpr unsigned kHintsObeyed = 2;

// Greylisters wait 300 s as a rule and forget within 4 h to 2 days: at least four tries in 4 h.
Steps greylisted_steps() {
  return {seconds(305), minutes(10), minutes(20), minutes(40), hours(1), hours(2), hours(4)};
}
Steps limit_steps() {  // held by the site as a rule; alone when it has no limit that is known
  return {minutes(5), minutes(10), minutes(20), minutes(40), hours(1)};
}
Steps outage_steps() {
  return {minutes(1), minutes(5), minutes(15), minutes(30), hours(1), hours(2), hours(4)};
}
Steps opinion_steps() {
  return {minutes(30), hours(1), hours(2), hours(4), hours(8)};
}

Steps default_steps(ReplyClass klass) {
  switch (klass) {
    case ReplyClass::greylisted:
      return greylisted_steps();
    case ReplyClass::rate:
    case ReplyClass::connections:
    case ReplyClass::session_spent:
    case ReplyClass::recipients:
      return limit_steps();
    case ReplyClass::recipient_rate:
      return {minutes(15), minutes(30), hours(1), hours(2)};
    case ReplyClass::mailbox_full:
      return {hours(1), hours(4), hours(12), hours(24)};
    case ReplyClass::policy:
    case ReplyClass::reputation:
    case ReplyClass::authentication:
      return opinion_steps();
    case ReplyClass::dns:
      return {minutes(5), minutes(15), minutes(30), hours(1), hours(2)};
    case ReplyClass::tls:
      return {minutes(5), minutes(30), hours(2), hours(4)};
    case ReplyClass::our_fault:
    case ReplyClass::protocol:
      return {minutes(15), hours(1), hours(4)};
    case ReplyClass::no_mailbox:
    case ReplyClass::too_big:
      return {hours(1), hours(2), hours(4)};
    case ReplyClass::network:
    case ReplyClass::busy:
      break;
  }
  return outage_steps();
}

std::uint64_t mixed(std::uint64_t a, std::uint64_t b) {
  std::uint64_t x = a * 0x9E3779B97F4A7C15U ^ (b + 0xD1B54A32D192ED03U);
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9U;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBU;
  return x ^ (x >> 31);
}

// From -span to +span, or from 0 to +span.
Duration jitter(Duration span, bool only_later, std::uint64_t key) {
  const auto part = static_cast<std::int64_t>(key >> 40) * span.count() / (1 << 24);
  return Duration(only_later ? part : 2 * part - span.count());
}

}  // namespace

RetrySchedule::RetrySchedule() {
  for (std::size_t i = 0; i < kReplyClasses; ++i)
    steps_[i] = default_steps(static_cast<ReplyClass>(i));
}

void RetrySchedule::override_steps(ReplyClass klass, std::vector<Duration> steps) {
  steps_[static_cast<std::size_t>(klass)] = std::move(steps);
  is_given_[static_cast<std::size_t>(klass)] = true;
  is_common_[static_cast<std::size_t>(klass)] = false;
}

void RetrySchedule::override_all(const std::vector<Duration>& steps) {
  steps_.fill(steps);
  is_given_.fill(true);
  is_common_.fill(true);
}

const std::vector<Duration>& RetrySchedule::steps(ReplyClass klass) const {
  return steps_[static_cast<std::size_t>(klass)];
}

bool RetrySchedule::obeys_hint(const Reason& reason) {
  return reason.hint && reason.hints_obeyed < kHintsObeyed;
}

Duration RetrySchedule::wait(const Reason& reason, std::uint64_t message,
                             std::uint64_t site) const {
  const auto key = mixed(message, site);
  if (obeys_hint(reason)) {
    const auto wait = bounded_hint(*reason.hint);
    return wait + jitter(wait / 16, true, key);
  }
  const auto& all = steps(reason.klass);
  const auto tries =
      is_common_[static_cast<std::size_t>(reason.klass)] ? reason.all_tries : reason.tries;
  const std::size_t at = std::min<std::size_t>(std::max(tries, 1U) - 1, all.size() - 1);
  const bool is_first = at == 0 && !is_given_[static_cast<std::size_t>(reason.klass)];
  if (is_first && reason.klass == ReplyClass::greylisted) {
    const auto wait =
        reason.learned.value_or(reason.row_wait > Duration{0} ? reason.row_wait : all[0]);
    return wait + jitter(wait / 16, true, key);
  }
  const auto wait = is_first && reason.row_wait > Duration{0} ? reason.row_wait : all[at];
  return wait + jitter(wait / 8, false, key);
}

}  // namespace postrider::scheduler
