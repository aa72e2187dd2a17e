// Delay notices, ends of lifetimes, and bounces that an administrator asked for: by the message's
// own time, whatever the state of its sites.
#include "queue/ledger/leasing.h"
#include "queue/listed_reasons.h"
#include "queue/row_codec.h"

#include <algorithm>

namespace postrider::queue {

namespace {

constexpr std::int64_t kInHand = 60'000;  // before it is looked at again, if no lease ends before

mail::Outcome being_tried() {
  mail::Outcome outcome;
  outcome.status = {4, 4, 7};
  outcome.text = kBeingTried;
  return outcome;
}

// For senders: who paused it is nothing to them.
mail::Outcome paused() {
  mail::Outcome outcome;
  outcome.stage = mail::Stage::admin;
  outcome.status = {4, 3, 2};
  outcome.text = "its delivery is paused by the administrator of this mail system";
  return outcome;
}

bool is_expiring_now(const RecipientRow& row) {
  return row.state == RecipientState::bouncing && row.next_attempt == kExpireNow;
}

}  // namespace

Result<void> Leasing::lease_deadlines(Budget& budget, Effects& effects) {
  // At most half, so that a wave of expiries leaves room for delivery.
  const auto out = state_.leases.due().messages;
  const auto limit = std::min(budget.messages, budget.now);
  const auto most = limit > out ? (limit - out + 1) / 2 : 0;
  bool more = false;
  auto due = state_.store->due().deadlines(state_.now(), most, more);
  if (!due)
    return due.error();
  for (const auto id : *due) {
    if (!has_room(budget)) {
      more = true;
      break;
    }
    if (auto done = lease_deadline(id, effects); !done)
      return done.error();
  }
  stopped_at_limit_ = stopped_at_limit_ || more;
  return {};
}

// Why it waits, for its sender: an administrator keeps it, its site is in trouble, or what its own
// last attempt met. What ends because its time is over had its last chance before any pause.
Result<std::optional<mail::Outcome>> Leasing::reason_of(mail::MessageId id,
                                                        const RecipientRow& recipient,
                                                        Lease::Reason notice) {
  using Reason = std::optional<mail::Outcome>;
  auto trouble = state_.store->destinations().site_trouble(recipient.domain);
  if (!trouble)
    return trouble.error();
  const auto& known = trouble->empty() ? recipient.last : *trouble;
  auto decoded = known.empty() ? Error(Errc::not_found, "") : decode_outcome(known);
  auto last = decoded ? Reason(*std::move(decoded)) : Reason();
  if (state_.leases.is_leased(id, recipient.index))
    return last ? last : Reason(being_tried());
  if ((last && notice != Lease::Reason::delay_notice) || state_.pauses.is_empty())
    return last;
  auto sender = state_.store->messages().sender(id);
  if (!sender)
    return sender.error();
  auto domain = state_.store->destinations().name_of(recipient.domain);
  if (!domain)
    return domain.error();
  return state_.pauses.find(*sender, *domain) == nullptr ? last : Reason(paused());
}

// Those whom a deadline may concern: all who live, or, of very many, those who end now as far as one
// lease goes.
Result<std::vector<RecipientRow>> Leasing::load_wanted(mail::MessageId id, const MessageRow& row) {
  if (row.waiting + row.held <= static_cast<std::int64_t>(kMostTogether))
    return state_.store->messages().load_alive(id);
  auto counts = state_.store->messages().count_alive(id);
  if (!counts)
    return counts.error();
  const auto wanted = counts->bouncing > 0 ? RecipientState::bouncing : RecipientState::queued;
  std::vector<RecipientRow> found;
  std::size_t free = 0;
  std::uint32_t from = 0;
  for (bool more = true; more && free < kMostTogether;) {
    auto page = state_.store->messages().load_alive(id, from, kMostTogether);
    if (!page)
      return page.error();
    more = page->size() == kMostTogether;
    for (auto& each : *page) {
      from = each.index + 1;
      const bool is_free = !state_.leases.is_leased(id, each.index);
      if (each.state != wanted || free == kMostTogether || (!is_free && found.size() > free))
        continue;
      free += is_free ? 1 : 0;
      found.push_back(std::move(each));
    }
  }
  return found;
}

Result<void> Leasing::lease_deadline(mail::MessageId id, Effects& effects) {
  if (damaged_.is_passed_over(id))
    return {};
  auto row = state_.store->messages().load_row(id);
  if (!row)
    return damaged_.hold_or_wait(id, row.error(), effects);
  if (!row->has_value())
    return {};
  auto alive = load_wanted(id, **row);
  if (!alive)
    return damaged_.hold_or_wait(id, alive.error(), effects);
  const bool has_bouncing = std::any_of(alive->begin(), alive->end(), [&](const auto& recipient) {
    return recipient.state == RecipientState::bouncing &&
           !state_.leases.is_leased(id, recipient.index);
  });
  // What an administrator ended is not a time of the message: it is set again when that is
  // recorded.
  const bool is_bouncing_in_hand = std::any_of(
      alive->begin(), alive->end(),
      [&](const auto& recipient) { return recipient.state == RecipientState::bouncing; });
  if (!has_bouncing && is_bouncing_in_hand)
    return state_.store->messages().set_deadline(id, state_.now() + kInHand);
  const auto wanted = has_bouncing ? RecipientState::bouncing : RecipientState::queued;
  // Of those that an administrator ended, first those whose lifetime he ended; the rest have their
  // own notice.
  const bool is_expiring =
      has_bouncing && std::any_of(alive->begin(), alive->end(), [&](const auto& recipient) {
        return is_expiring_now(recipient) && !state_.leases.is_leased(id, recipient.index);
      });
  Leased leased;
  leased.reason = is_expiring                       ? Lease::Reason::expired
                  : has_bouncing                    ? Lease::Reason::bounce
                  : (*row)->expires <= state_.now() ? Lease::Reason::expired
                                                    : Lease::Reason::delay_notice;
  std::vector<Lease::Recipient> recipients, in_hand;
  bool is_any_in_hand = false;
  for (const auto& recipient : *alive) {
    // Who is in hand comes to an end there, but the sender hears of all who wait.
    const bool is_in_hand = state_.leases.is_leased(id, recipient.index);
    is_any_in_hand = is_any_in_hand || is_in_hand;
    if (recipient.state != wanted || is_expiring_now(recipient) != is_expiring ||
        (is_in_hand && leased.reason != Lease::Reason::delay_notice))
      continue;
    auto last = reason_of(id, recipient, leased.reason);
    if (!last)
      return last.error();
    (is_in_hand ? in_hand : recipients)
        .push_back({recipient.index, recipient.attempts, *std::move(last), {}});
    if (!is_in_hand)
      leased.recipients.push_back(recipient.index);
  }
  if (leased.recipients.empty())
    return state_.store->messages().set_deadline(id,
                                                 is_any_in_hand ? state_.now() + kInHand : kNever);
  auto message = load_leased(id);
  if (!message)
    return damaged_.hold_or_wait(id, message.error(), effects);
  if (leased.reason == Lease::Reason::delay_notice) {
    const auto deadline = deadline_of(state_, *message->message, **row);
    if (deadline > state_.now())
      return state_.store->messages().set_deadline(id, deadline);
  }
  if (alive->back().index >= message->message->envelope.recipients.size())
    return damaged_.quarantine(id, "recipients beyond the envelope", effects);
  leased.message = message->message;
  if (message->checksum && !message->message->content.file.empty())
    effects.checks.push_back({id, *message->checksum});
  // Behind those whom the lease holds.
  recipients.insert(recipients.end(), in_hand.begin(), in_hand.end());
  state_.hand_out(std::move(leased), std::move(recipients), effects);
  return {};
}

}  // namespace postrider::queue
