// Delay notices, ends of lifetimes, and bounces that an administrator asked for: by the message's
// own time, whatever the state of its sites.
#include "queue/ledger/leasing.h"
#include "queue/listed_reasons.h"
#include "queue/row_codec.h"

#include <algorithm>

namespace postrider::queue {

namespace {

// Before it is looked at again, if no lease ends before: what is being told of, and what was to end
// and was under way.
constexpr std::int64_t kInHand = 60'000;
constexpr std::int64_t kOverdue = 5'000;
// And of a delay, should the notice be lost: longer than one can take to be made.
constexpr std::int64_t kBeingTold = 15 * 60'000;
constexpr std::size_t kDeadlinesAtOnce = 128;  // in one transaction

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

// What came fresh gets its row, so that its time is found as that of all others.
Result<void> Leasing::land_late(Effects& effects) {
  for (std::size_t moved = 0; moved < kDeadlinesAtOnce; ++moved) {
    auto* late = state_.leases.first_landed(state_.now());
    if (late == nullptr)
      break;
    if (auto done = move_leased(state_, *late, effects); !done)
      return done.error();
  }
  look_.expect(state_.leases.next_landed());
  return {};
}

// At most half of what is free, so that a wave of expiries leaves room for delivery; and some in any
// case, for what fills the room may wait for long.
Result<void> Leasing::lease_deadlines(Budget& budget, Effects& effects) {
  if (auto done = land_late(effects); !done)
    return done.error();
  const auto out = state_.leases.due().messages;
  const auto limit = std::min(budget.messages, budget.now);
  const auto half = limit > out ? (limit - out + 1) / 2 : 0;
  const auto aside = most_aside(budget.messages);
  const auto most = std::max(half, aside - std::min(aside, state_.leases.notices()));
  bool more = false;
  auto due = state_.store->due().deadlines(state_.now(), kDeadlinesAtOnce, more);
  if (!due)
    return due.error();
  const auto before = effects.leases.size();
  bool is_asked = false;
  for (const auto id : *due) {
    if (effects.leases.size() - before >= most) {
      stopped_at_limit_ = has_more_deadlines_ = true;
      return {};
    }
    if (auto done = lease_deadline(id, effects); !done)
      return done.error();
    is_asked = is_asked || !effects.overdue.empty();
  }
  stopped_at_limit_ = stopped_at_limit_ || more;
  has_more_deadlines_ = more;
  if (more && is_asked)
    look_.at_once();
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
  if (last && recipient.next_attempt <= state_.now() && is_kept_for_sender(*last))
    last.reset();
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
  std::size_t free = 0, in_hand = 0;
  std::uint32_t from = 0;
  for (bool more = true; more && free < kMostTogether;) {
    auto page = state_.store->messages().load_alive(id, from, kMostTogether);
    if (!page)
      return page.error();
    more = page->size() == kMostTogether;
    for (auto& each : *page) {
      from = each.index + 1;
      const bool is_free = !state_.leases.is_leased(id, each.index);
      auto& count = is_free ? free : in_hand;
      if (each.state != wanted || count == kMostTogether)
        continue;
      ++count;
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
  const auto is_in_hand = [&](const RecipientRow& recipient) {
    return state_.leases.is_leased(id, recipient.index);
  };
  const auto any = [&](const auto& is_so) {
    return std::any_of(alive->begin(), alive->end(), is_so);
  };
  const bool has_bouncing = any([&](const RecipientRow& recipient) {
    return recipient.state == RecipientState::bouncing && !is_in_hand(recipient);
  });
  // What an administrator ended is not a time of the message: it is set again when that is
  // recorded.
  if (!has_bouncing && any([](const RecipientRow& recipient) {
        return recipient.state == RecipientState::bouncing;
      }))
    return state_.store->messages().set_deadline(id, state_.now() + kInHand);
  // Of those that an administrator ended, first those whose lifetime he ended; the rest have their
  // own notice.
  const bool is_expiring = has_bouncing && any([&](const RecipientRow& recipient) {
                             return is_expiring_now(recipient) && !is_in_hand(recipient);
                           });
  const auto reason = is_expiring                       ? Lease::Reason::expired
                      : has_bouncing                    ? Lease::Reason::bounce
                      : (*row)->expires <= state_.now() ? Lease::Reason::expired
                                                        : Lease::Reason::delay_notice;
  std::erase_if(*alive, [&](const RecipientRow& recipient) {
    const auto wanted = has_bouncing ? RecipientState::bouncing : RecipientState::queued;
    return recipient.state != wanted || is_expiring_now(recipient) != is_expiring;
  });
  if (alive->empty())
    return state_.store->messages().set_deadline(id, kNever);
  return reason == Lease::Reason::delay_notice ? tell_of_delay(id, **row, *alive, effects)
                                               : end_late(id, reason, *alive, effects);
}

// Of all who wait, whoever has them: nobody is kept from being tried by it.
Result<void> Leasing::tell_of_delay(mail::MessageId id, const MessageRow& row,
                                    std::span<const RecipientRow> waiting, Effects& effects) {
  if (state_.leases.is_being_told(id))
    return state_.store->messages().set_deadline(id, std::min(state_.now() + kInHand, row.expires));
  auto message = load_leased(id);
  if (!message)
    return damaged_.hold_or_wait(id, message.error(), effects);
  const auto deadline = deadline_of(state_, *message->message, row);
  if (deadline > state_.now())
    return state_.store->messages().set_deadline(id, deadline);
  if (auto done = state_.store->messages().set_deadline(
          id, std::min(state_.now() + kBeingTold, row.expires));
      !done)
    return done.error();
  return lease_notice(id, Lease::Reason::delay_notice, *message, waiting, effects);
}

Result<Lease::Recipient> Leasing::named_with_reason(mail::MessageId id,
                                                    const RecipientRow& recipient,
                                                    Lease::Reason notice) {
  auto last = reason_of(id, recipient, notice);
  if (!last)
    return last.error();
  auto domain = state_.store->destinations().name_of(recipient.domain);
  if (!domain)
    return domain.error();
  return Lease::Recipient{recipient.index, recipient.attempts, *std::move(last),
                          is_next_hop(*domain) ? *std::move(domain) : std::string()};
}

// Who is in hand to be tried ends there.
Result<void> Leasing::end_late(mail::MessageId id, Lease::Reason reason,
                               std::span<const RecipientRow> wanted, Effects& effects) {
  std::vector<RecipientRow> free;
  Overdue overdue{id, {}};
  for (const auto& recipient : wanted) {
    const auto* holder = state_.leases.holder(id, recipient.index);
    if (holder == nullptr) {
      free.push_back(recipient);
      continue;
    }
    if (recipient.state != RecipientState::queued ||
        (holder->reason != Lease::Reason::fresh && holder->reason != Lease::Reason::due))
      continue;
    auto named = named_with_reason(id, recipient, reason);
    if (!named)
      return named.error();
    overdue.recipients.push_back(*std::move(named));
  }
  const bool is_asked = !overdue.recipients.empty();
  if (is_asked)
    effects.overdue.push_back(std::move(overdue));
  if (is_asked || free.empty())
    if (auto done = state_.store->messages().set_deadline(
            id, state_.now() + (is_asked ? kOverdue : kInHand));
        !done)
      return done.error();
  if (free.empty())
    return {};
  auto message = load_leased(id);
  if (!message)
    return damaged_.hold_or_wait(id, message.error(), effects);
  return lease_notice(id, reason, *message, free, effects);
}

Result<void> Leasing::lease_notice(mail::MessageId id, Lease::Reason reason,
                                   const StoredMessage& message,
                                   std::span<const RecipientRow> wanted, Effects& effects) {
  if (wanted.back().index >= message.message->envelope.recipients.size())
    return damaged_.quarantine(id, "recipients beyond the envelope", effects);
  Leased leased;
  leased.reason = reason;
  leased.message = message.message;
  std::vector<Lease::Recipient> recipients;
  for (const auto& recipient : wanted) {
    auto named = named_with_reason(id, recipient, reason);
    if (!named)
      return named.error();
    recipients.push_back(*std::move(named));
    leased.recipients.push_back(recipient.index);
  }
  if (message.checksum && !message.message->content.file.empty())
    effects.checks.push_back({id, *message.checksum});
  state_.hand_out(std::move(leased), std::move(recipients), effects);
  return {};
}

}  // namespace postrider::queue
