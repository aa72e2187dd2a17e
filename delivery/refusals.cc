#include "delivery/refusals.h"

#include <algorithm>

namespace postrider::delivery {

using mail::Outcome;
using scheduler::ReplyClass;
using scheduler::ReplyMeaning;

namespace {

unsigned weight(const ReplyMeaning& meaning) {
  if (meaning.suspend > Duration{0})
    return 4;
  if (meaning.limits_rate)
    return 3;
  if (meaning.klass == ReplyClass::connections || meaning.limits_connections)
    return 2;
  return 1;
}

}  // namespace

std::string_view host_of_remote(std::string_view remote) {
  return remote.substr(0, std::min(remote.find('['), remote.size()));
}

ReplyMeaning meaning_of(const Outcome& outcome, bool is_first_try) {
  if (outcome.reply.code == 0)
    return scheduler::classify_failure(outcome.stage);
  return scheduler::classify(outcome.stage, outcome.reply, host_of_remote(outcome.remote),
                             is_first_try);
}

WeightiestRefusal weightiest_refusal(const JobEnd& end) {
  WeightiestRefusal found;
  const mail::Reply* seen = nullptr;  // a hundred recipients are refused alike as a rule
  for (const auto& [index, outcome] : end.results) {
    if (outcome.verdict == mail::Verdict::delivered || outcome.reply.code == 0 ||
        (seen != nullptr && *seen == outcome.reply))
      continue;
    seen = &outcome.reply;
    const auto meaning = meaning_of(outcome, true);
    if (found.outcome == nullptr || weight(meaning) > weight(found.meaning))
      found = {&outcome, meaning};
  }
  return found;
}

}  // namespace postrider::delivery
