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

// Codes that speak for themselves: of addresses and mailboxes (RFC 3463), unless a site that is
// known uses them in its own way.
bool is_of_one_by_code(const Outcome& outcome, const ReplyMeaning& meaning) {
  const bool is_known = meaning.who != "common" && meaning.who != "enhanced code" &&
                        meaning.who != "code" && meaning.who != "any";
  const auto& code = outcome.reply.enhanced;
  return !is_known && outcome.stage >= mail::Stage::mail && outcome.reply.code != 421 && code &&
         (code.subject == 1 || code.subject == 2);
}

bool may_be_of_one_by(const ReplyMeaning& meaning) {
  return meaning.limits_rate || meaning.suspend > Duration{0};
}

// Which the site had been told when it said that.
std::string_view mailbox_at(const JobEnd& end, const RecipientEnd& result) {
  if (result.outcome.stage == mail::Stage::mail)
    return {};
  return end.job.message->envelope.recipients[result.index].address;
}

}  // namespace

std::string_view host_of_remote(std::string_view remote) {
  return remote.substr(0, std::min(remote.find('['), remote.size()));
}

ReplyMeaning meaning_of(const Outcome& outcome, bool is_first_try) {
  if (outcome.reply.code == 0)
    return scheduler::classify_failure(outcome.stage, outcome.status);
  return scheduler::classify(outcome.stage, outcome.reply, host_of_remote(outcome.remote),
                             is_first_try);
}

bool may_pass_elsewhere(const Outcome& outcome) {
  const auto& reply = outcome.reply;
  if (outcome.verdict == mail::Verdict::delivered || reply.code == 0 || reply.code == 421 ||
      outcome.stage < mail::Stage::mail || outcome.stage > mail::Stage::body_end)
    return false;
  const auto meaning = meaning_of(outcome, true);
  if (reply.is_permanent())
    return meaning.try_other_host;
  return !meaning.limits_rate && meaning.suspend == Duration{0} &&
         meaning.klass != ReplyClass::rate;
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
    if (weight(meaning) > 1 && is_of_one_by_code(outcome, meaning))
      continue;
    if (found.outcome == nullptr || weight(meaning) > weight(found.meaning))
      found = {&outcome, meaning};
  }
  return found;
}

bool WeightiestRefusal::may_be_of_one() const {
  return outcome != nullptr && outcome->stage >= mail::Stage::mail && may_be_of_one_by(meaning);
}

Evidence::Scope weigh_evidence(Evidence& evidence, const JobEnd& end, SteadyTime now) {
  auto widest = Evidence::Scope::one;
  const mail::Reply* seen = nullptr;
  bool is_of_kind = false;
  for (const auto& result : end.results) {
    const auto& outcome = result.outcome;
    if (outcome.verdict == mail::Verdict::delivered || outcome.reply.code == 0)
      continue;
    if (seen == nullptr || *seen != outcome.reply) {
      const auto meaning = meaning_of(outcome, true);
      is_of_kind = may_be_of_one_by(meaning) && !is_of_one_by_code(outcome, meaning);
      seen = &outcome.reply;
    }
    if (is_of_kind)
      widest = std::max(widest, evidence.on_refused(end.job.message->envelope.sender,
                                                    mailbox_at(end, result), now));
  }
  return widest;
}

Evidence::Scope weigh_break(Evidence& evidence, const JobEnd& end, SteadyTime now) {
  const auto& result = end.results.front();
  if (result.outcome.stage < mail::Stage::mail)
    return Evidence::Scope::site;  // before it had heard of the message
  return evidence.on_refused(end.job.message->envelope.sender, mailbox_at(end, result), now);
}

void note_taken(Evidence& evidence, const JobEnd& end, SteadyTime now) {
  for (const auto& result : end.results)
    if (result.outcome.verdict == mail::Verdict::delivered)
      evidence.on_taken(end.job.message->envelope.sender,
                        end.job.message->envelope.recipients[result.index].address, now);
}

}  // namespace postrider::delivery
