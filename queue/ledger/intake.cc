#include "queue/ledger/intake.h"

#include "mail/sender_lane.h"
#include "queue/ledger/fact_lines.h"
#include "queue/row_codec.h"

#include <algorithm>

namespace postrider::queue {

namespace {

std::vector<RecipientRow> all_held(const mail::Message& message, const std::string& why) {
  mail::Outcome outcome;
  outcome.stage = mail::Stage::admin;
  outcome.status = {4, 3, 0};
  outcome.text = "held: " + why;
  const auto last = encode_outcome(outcome);
  auto rows = all_due(message, kNever);
  for (auto& row : rows) {
    row.state = RecipientState::held;
    row.last = last;
  }
  return rows;
}

// Its sender's wish is why it waits, until there is a better reason.
std::vector<RecipientRow> all_unreleased(const mail::Message& message, std::int64_t release) {
  const auto last = waits_for_release(message);
  auto rows = all_due(message, release);
  for (auto& row : rows)
    row.last = last;
  return rows;
}

}  // namespace

Result<void> Intake::submit(const Submission& submission, std::string_view head, Effects& effects,
                            Result<void>& refused) {
  const auto& message = submission.message;
  const auto lane = mail::sender_lane(*message);
  if (!lands(submission, lane)) {
    effects.made.push_back(message->id);
    return submit_waiting(submission, head, effects, refused);
  }

  // One statement: if it fails, nothing of it is left and the transaction goes on.
  if (auto done = state_.store->incoming().insert(*message, head); !done) {
    if (!is_constraint(done.error()))
      return done.error();
    refused = Error(Errc::storage, done.error().describe());
    return {};
  }
  effects.made.push_back(message->id);
  if (is_large(*message)) {
    landing_.begin(message, lane, effects);
    return state_accepted(state_, submission, effects);
  }
  Leased leased;
  leased.reason = Lease::Reason::fresh;
  leased.message = message;
  leased.landed = true;
  leased.deadline = new_row(state_, *message).deadline;
  look_.expect(leased.deadline);
  leased.lane = lane;
  std::vector<Lease::Recipient> recipients(message->envelope.recipients.size());
  for (std::uint32_t i = 0; i < recipients.size(); ++i)
    recipients[i].index = i;
  state_.hand_out(std::move(leased), std::move(recipients), effects);
  return state_accepted(state_, submission, effects);
}

// A sender has at most as much in hand as is still free: one at most half of all, two a third each,
// so there is always room for one who comes new, however much others have sent.
bool Intake::has_room(std::uint64_t lane) const {
  const auto all = state_.leases.fresh();
  const auto own = state_.leases.fresh_of(lane);
  const auto& settings = state_.settings;
  return all.messages < settings.fresh_messages && all.bytes < settings.fresh_bytes &&
         own.messages < settings.fresh_messages - all.messages &&
         own.bytes < settings.fresh_bytes - all.bytes;
}

// Whether it is worth being stored where mail stays for a moment: before it is handed out, or, for
// very many, before all have their rows.
bool Intake::lands(const Submission& submission, std::uint64_t lane) const {
  const auto& message = *submission.message;
  if (!submission.hold.empty() || !message.origin.next_hop.empty() ||
      release_of(state_, message) > state_.now() || !has_room(lane))
    return false;
  if (is_large(message))
    return !landing_.is_awaited();
  return state_.has_consumer && !is_blocked(message) && !state_.pauses.concerns(message);
}

// Mail to dead sites alone: delivery could only give it back.
bool Intake::is_blocked(const mail::Message& message) const {
  const auto& recipients = message.envelope.recipients;
  return state_.store->destinations().has_blocked_sites() &&
         std::all_of(recipients.begin(), recipients.end(), [&](const auto& recipient) {
           return state_.store->destinations().is_known_blocked(mail::domain_of(recipient.address),
                                                                state_.now());
         });
}

Result<void> Intake::tell_deferred(const mail::Message& message, const std::string& next_hop,
                                   Effects& effects) {
  for (const auto& recipient : message.envelope.recipients)
    if (auto told = deferring_.tell(message, recipient.address, effects, next_hop); !told)
      return told.error();
  return {};
}

Result<void> Intake::submit_waiting(const Submission& submission, std::string_view head,
                                    Effects& effects, Result<void>& refused) {
  const auto& message = *submission.message;
  const auto& hold = submission.hold;
  auto savepoint = state_.store->begin_part();
  if (!savepoint)
    return savepoint.error();
  auto row = new_row(state_, message);
  const auto release = release_of(state_, message);
  const bool is_unreleased = hold.empty() && release > state_.now();
  const auto& next_hop = message.origin.next_hop;
  auto waits = !hold.empty() || is_unreleased ? Result<bool>(false)
               : next_hop.empty()             ? deferring_.concerns(message)
                                              : deferring_.is_in_trouble_at(next_hop);
  if (!waits)
    return waits.error();
  row.tried = *waits;  // it waits as if it had been
  auto rows = !hold.empty()   ? all_held(message, hold)
              : is_unreleased ? all_unreleased(message, release)
                              : all_due(message, state_.now());
  if (!next_hop.empty()) {
    auto domain = state_.store->destinations().domain_id(next_hop);
    if (!domain)
      return domain.error();
    for (auto& recipient : rows)
      recipient.domain = *domain;
  }
  auto done = state_.store->messages().insert(message, head, row, std::move(rows));
  if (!done) {
    if (!is_constraint(done.error()))
      return done.error();
    refused = Error(Errc::storage, done.error().describe());
    state_.store->destinations().forget();
    look_.expect(state_.now());
    return savepoint->roll_back();
  }
  if (auto stated = state_accepted(state_, submission, effects); !stated)
    return stated.error();
  if (!hold.empty()) {
    LogEvent event(Level::warn, "held", to_string(message.id));
    event.add("from", message.envelope.sender).add("reason", hold);
    if (auto stated = state_fact(state_, event, message, effects); !stated)
      return stated.error();
    effects.told.push_back(std::move(event));
  }
  if (row.tried)
    if (auto told = tell_deferred(message, next_hop, effects); !told)
      return told.error();
  look_.expect(is_unreleased ? release : state_.now());
  look_.expect(row.deadline);
  return savepoint->release();
}

Result<std::size_t> Intake::recover() {
  auto ids = state_.store->incoming().ids();
  if (!ids)
    return ids.error();
  for (const auto id : *ids)
    if (!damaged_.is_passed_over(id))
      if (auto done = land_again(id); !done)
        return (is_damage(done.error()) ? damaged_.pass_over(id, done.error()) : done.error())
            .during("recover message " + to_string(id));
  return ids->size();
}

Result<void> Intake::follow_landed() {
  auto landed = state_.store->incoming().ids();
  if (!landed)
    return landed.error();
  for (const auto id : state_.leases.ids())
    if (auto* leased = state_.leases.find(id); leased != nullptr && leased->landed)
      state_.leases.set_landed(*leased, std::binary_search(landed->begin(), landed->end(), id));
  return {};
}

Result<void> Intake::land_again(mail::MessageId id) {
  auto message = state_.store->incoming().load_head(id);
  if (!message) {
    if (message.error().code() != Errc::corrupt)
      return message.error();
    return damaged_.quarantine_incoming(id, message.error().describe());
  }
  if (is_large(**message))  // some of them may have got their rows before the stop
    if (auto done = state_.store->messages().forget_recipients(id); !done)
      return done.error();
  return state_.store->messages().move_in(**message, new_row(state_, **message),
                                          all_due(**message, state_.now()));
}

}  // namespace postrider::queue
