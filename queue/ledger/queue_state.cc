#include "queue/ledger/queue_state.h"

#include <algorithm>

namespace postrider::queue {

void QueueState::hand_out(Leased leased, std::vector<Lease::Recipient> recipients,
                          Effects& effects) {
  leased.number = ++last_lease;
  effects.leases.push_back({leased.reason, leased.message, std::move(recipients)});
  leases.add(std::move(leased));
}

MessageRow new_row(const QueueState& state, const mail::Message& message) {
  MessageRow row;
  row.expires =
      (state.time.to_queue(message.received) + state.settings.lifetime).time_since_epoch().count();
  // A message with a damaged date must not expire at once (attacks.md M18).
  row.expires = std::clamp(row.expires, state.now(), state.now() + state.settings.lifetime.count());
  // Nobody to tell: bounces and notices.
  row.delayed = message.envelope.sender.empty() || state.settings.delay_notice <= Duration(0);
  row.deadline = deadline_of(state, message, row);
  return row;
}

std::int64_t deadline_of(const QueueState& state, const mail::Message& message,
                         const MessageRow& row) {
  if (row.delayed || state.settings.delay_notice <= Duration(0))
    return row.expires;
  const auto notice = state.time.to_queue(message.received) + state.settings.delay_notice;
  return std::min(row.expires, notice.time_since_epoch().count());
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
  leased.landed = false;
  effects.moved.push_back(message.id);
  return {};
}

}  // namespace postrider::queue
