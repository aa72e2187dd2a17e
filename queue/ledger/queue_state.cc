#include "queue/ledger/queue_state.h"

#include "mail/delivery_wishes.h"
#include "queue/listed_reasons.h"
#include "queue/row_codec.h"

#include <algorithm>

namespace postrider::queue {

void QueueState::hand_out(Leased leased, std::vector<Lease::Recipient> recipients,
                          Effects& effects) {
  leased.number = ++last_lease;
  effects.leases.push_back({leased.reason, leased.message, std::move(recipients), leased.number});
  leases.add(std::move(leased));
}

std::int64_t release_of(const QueueState& state, const mail::Message& message) {
  return state.time.to_queue(message.envelope.release).time_since_epoch().count();
}

namespace {

std::int64_t queue_time(const QueueState& state, TimePoint wall) {
  return state.time.to_queue(wall).time_since_epoch().count();
}

// From which its time in the queue counts.
std::int64_t begin_of(const QueueState& state, const mail::Message& message) {
  return std::max(queue_time(state, message.received), release_of(state, message));
}

// RFC 2852 §4.1.3: what was late when it came was told of by whoever had it then.
bool is_told_when_late(const mail::Message& message) {
  const auto& by = message.envelope.deliver_by;
  return by && !by->returns && by->time > message.received;
}

}  // namespace

MessageRow new_row(const QueueState& state, const mail::Message& message) {
  MessageRow row;
  const auto lifetime = state.settings.lifetime.count();
  const auto first = std::max(state.now(), release_of(state, message));
  // A message with a damaged date must not expire at once (attacks.md M18).
  row.expires = std::clamp(begin_of(state, message) + lifetime, state.now(), first + lifetime);
  // Mode R of RFC 2852 is a shorter lifetime.
  if (const auto& by = message.envelope.deliver_by; by && by->returns)
    row.expires = std::min(row.expires, queue_time(state, by->time));
  // Nobody to tell: bounces and notices.
  row.delayed = message.envelope.sender.empty() || state.settings.delay_notice <= Duration(0);
  row.late_told = message.envelope.sender.empty() || !is_told_when_late(message);
  row.deadline = deadline_of(state, message, row);
  return row;
}

std::int64_t deadline_of(const QueueState& state, const mail::Message& message,
                         const MessageRow& row) {
  auto deadline = row.expires;
  if (!row.delayed && state.settings.delay_notice > Duration(0))
    deadline = std::min(deadline, begin_of(state, message) + state.settings.delay_notice.count());
  if (!row.late_told && is_told_when_late(message))
    deadline = std::min(deadline, queue_time(state, message.envelope.deliver_by->time));
  return deadline;
}

std::string waits_for_release(const mail::Message& message) {
  mail::Outcome outcome;
  outcome.stage = mail::Stage::admin;
  outcome.status = {4, 3, 2};
  outcome.text = std::string(kKeptForSender) + mail::format_date_time(message.envelope.release);
  return encode_outcome(outcome);
}

BulkChange::Wish wish_behind_release(const QueueState& state, const mail::Message& message) {
  BulkChange::Wish wish;
  wish.id = message.id;
  const auto release = release_of(state, message);
  if (message.envelope.release > state.time.wall()) {
    wish.release = release;
    wish.waits = waits_for_release(message);
  }
  if (const auto& by = message.envelope.deliver_by; by && by->returns)
    wish.expires = queue_time(state, by->time);
  else if (is_told_when_late(message))
    wish.late = queue_time(state, by->time);
  if (state.settings.delay_notice > Duration(0))
    wish.delayed = std::max(state.now(), wish.release) + state.settings.delay_notice.count();
  return wish;
}

void note_told(const QueueState& state, const mail::Message& message, MessageRow& row) {
  row.delayed = true;
  const auto& by = message.envelope.deliver_by;
  row.late_told = row.late_told || (by && queue_time(state, by->time) <= state.now());
}

std::vector<RecipientRow> all_due(const mail::Message& message, std::int64_t now) {
  return due_rows(message, 0, message.envelope.recipients.size(), now);
}

std::vector<RecipientRow> due_rows(const mail::Message& message, std::size_t first, std::size_t end,
                                   std::int64_t now) {
  std::vector<RecipientRow> rows(end - first);
  for (std::size_t i = first; i < end; ++i) {
    auto& row = rows[i - first];
    row.index = static_cast<std::uint32_t>(i);
    row.next_attempt = now;
    row.address = message.envelope.recipients[i].address;
  }
  return rows;
}

Result<void> move_leased(QueueState& state, Leased& leased, Effects& effects) {
  const auto& message = *leased.message;
  if (is_large(message))  // some of them may have their rows already
    if (auto done = state.store->messages().forget_recipients(message.id); !done)
      return done.error();
  if (auto done = state.store->messages().move_in(message, new_row(state, message),
                                                  all_due(message, state.now()));
      !done)
    return done.error();
  state.leases.set_landed(leased, false);
  effects.moved.push_back(message.id);
  return {};
}

}  // namespace postrider::queue
