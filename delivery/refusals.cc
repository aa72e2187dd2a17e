#include "delivery/refusals.h"

#include "base/text.h"

#include <algorithm>
#include <array>

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

constexpr std::array<std::string_view, 10> kNamesOfOne = {
    "sender",  "sending domain", "from domain",       "from address",   "mail from:",
    "mailbox", "this user",      "recipient address", "this recipient", "the recipient"};

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

bool is_of_one(const Outcome& outcome, std::string_view sender, std::string_view recipient) {
  if (outcome.stage < mail::Stage::mail || outcome.reply.code == 0)
    return false;
  const auto text = ascii_lower(outcome.reply.text);
  const auto says = [&](std::string_view words) {
    return !words.empty() && text.find(words) != std::string::npos;
  };
  return says(ascii_lower(sender)) || says(ascii_lower(recipient)) ||
         std::any_of(kNamesOfOne.begin(), kNamesOfOne.end(), says);
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
    const auto& envelope = end.job.message->envelope;
    if (weight(meaning) > 1 &&
        (is_of_one_by_code(outcome, meaning) ||
         is_of_one(outcome, envelope.sender, envelope.recipients[index].address)))
      continue;
    if (found.outcome == nullptr || weight(meaning) > weight(found.meaning))
      found = {&outcome, meaning};
  }
  return found;
}

}  // namespace postrider::delivery
