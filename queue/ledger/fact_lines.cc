// The facts of each transaction: one for each thing that an application may hear of.
#include "queue/ledger/fact_lines.h"

#include "mail/verdict_word.h"

#include <algorithm>

namespace postrider::queue {

namespace {

std::string accepted_line(const mail::Message& message) {
  const auto& envelope = message.envelope;
  LogEvent line(Level::info, "accepted", to_string(message.id));
  line.add("client", message.origin.client).add("protocol", message.origin.protocol);
  line.add("from", envelope.sender).add("nrcpt", std::to_string(envelope.recipients.size()));
  if (!envelope.recipients.empty())
    line.add("to", envelope.recipients.front().address);
  line.add("size", std::to_string(message.content.size));
  return encode_line(line);
}

std::string attempted_line(const mail::Message& message, const Record::Result& result) {
  // Given up without an attempt: its lifetime ended, or an administrator said so.
  const bool is_given_up = result.outcome.stage >= mail::Stage::expired;
  LogEvent line(Level::info, is_given_up ? "bounced" : "attempted", to_string(message.id));
  line.add("verdict", mail::verdict_word(result.outcome.verdict))
      .add("from", message.envelope.sender);
  if (result.index < message.envelope.recipients.size())
    line.add("to", message.envelope.recipients[result.index].address);
  line.add("relay", result.outcome.remote.empty() ? "none" : result.outcome.remote);
  line.add("dsn", to_string(result.outcome.status)).add("reason", result.outcome.reason());
  return encode_line(line);
}

// The sender's own references, which not all lines of delivery have.
std::string with_references(std::string line, const mail::Message& message) {
  if (!message.envelope.envelope_id.empty())
    append_field(line, "dsn_id", message.envelope.envelope_id);
  if (!message.origin.trace_parent.empty())
    append_field(line, "traceparent", message.origin.trace_parent);
  return line;
}

// What a change makes true at once. What is given up has its fact when delivery has done that; one
// that only says when or where the next attempt is made, by that attempt.
const char* word_of(Verb verb) {
  switch (verb) {
    case Verb::hold:
      return "held";
    case Verb::release:
      return "released";
    case Verb::remove:
      return "removed";
    case Verb::retry:
    case Verb::reroute:
    case Verb::bounce:
    case Verb::expire:
      return nullptr;
  }
  return nullptr;
}

// Who keeps the steps of mail (events/) wants one for each recipient. Of level debug: the log itself
// has one line for the whole change.
LogEvent line_of_change(const char* word, mail::MessageId id) {
  return LogEvent(Level::debug, "recipient_changed", to_string(id)).add("change", word);
}

}  // namespace

Result<void> state_fact(QueueState& state, std::string_view line, Effects& effects) {
  return state.facts.add(line, state.time.wall(), effects.facts);
}

Result<void> state_fact(QueueState& state, const LogEvent& line, const mail::Message& message,
                        Effects& effects) {
  if (!state.facts.are_wanted())
    return {};
  return state_fact(state, with_references(encode_line(line), message), effects);
}

Result<void> state_accepted(QueueState& state, const Submission& submission, Effects& effects) {
  if (!state.facts.are_wanted())
    return {};
  const auto& message = *submission.message;
  return state_fact(
      state,
      with_references(submission.line.empty() ? accepted_line(message) : submission.line, message),
      effects);
}

Result<void> state_results(QueueState& state, const Record& record, const mail::Message& message,
                           Effects& effects) {
  if (!state.facts.are_wanted())
    return {};
  for (const auto& line : record.untried_lines)
    if (auto done = state_fact(state, with_references(line, message), effects); !done)
      return done.error();
  for (const auto& result : record.results) {
    const auto line = result.line.empty() ? attempted_line(message, result) : result.line;
    if (auto done = state_fact(state, with_references(line, message), effects); !done)
      return done.error();
  }
  return {};
}

// Of leased ones that an administrator removed: now it is known that they came to no other end.
Result<void> state_removed(QueueState& state, const Record& record, const Leased& leased,
                           Effects& effects) {
  const bool is_fact = state.facts.are_wanted(), is_told = state.log.enabled(Level::info);
  if (!is_fact && !is_told)
    return {};
  const auto& message = *leased.message;
  for (const auto index : leased.removed) {
    const bool has_ended =
        std::any_of(record.results.begin(), record.results.end(), [&](const auto& result) {
          return result.index == index && result.outcome.verdict != mail::Verdict::retry;
        });
    if (has_ended || index >= message.envelope.recipients.size())
      continue;
    const auto fill = [&](LogEvent line) {
      line.add("from", message.envelope.sender);
      line.add("to", message.envelope.recipients[index].address).add("by", "administrator");
      return line;
    };
    if (is_told)
      effects.told.push_back(fill(line_of_change("removed", message.id)));
    if (!is_fact)
      continue;
    const auto line = encode_line(fill(LogEvent(Level::info, "removed", to_string(message.id))));
    if (auto done = state_fact(state, with_references(line, message), effects); !done)
      return done.error();
  }
  return {};
}

// Requires: what it concerns is picked, and not changed yet.
Result<void> state_change(QueueState& state, const ChangeRun& run, Effects& effects) {
  const char* const word = word_of(run.verb);
  const bool is_fact = state.facts.are_wanted(), is_told = state.log.enabled(Level::info);
  if ((!is_fact && !is_told) || word == nullptr)
    return {};
  const auto picked = state.store->changes().picked_recipients();
  if (!picked)
    return picked.error();
  for (const auto& one : *picked) {
    if (run.verb == Verb::remove && state.leases.is_leased(one.id, one.index))
      continue;  // when delivery has said what came of it
    const auto fill = [&](LogEvent line) {
      line.add("from", one.sender).add("to", one.address).add("by", "administrator");
      line.add("uid", std::to_string(run.actor.uid));
      if (!one.envelope_id.empty())
        line.add("dsn_id", one.envelope_id);
      if (!one.trace_parent.empty())
        line.add("traceparent", one.trace_parent);
      return line;
    };
    if (is_told)
      effects.told.push_back(fill(line_of_change(word, one.id)));
    if (!is_fact)
      continue;
    const auto line = fill(LogEvent(Level::info, word, to_string(one.id)));
    if (auto done = state_fact(state, encode_line(line), effects); !done)
      return done.error();
  }
  return {};
}

}  // namespace postrider::queue
