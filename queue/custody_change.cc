// What administrators do to many messages at once: one transaction, all or nothing.
#include "queue/codec.h"
#include "queue/custody.h"

#include <algorithm>

namespace postrider::queue {

namespace {

constexpr unsigned bit(RecipientState state) {
  return 1U << static_cast<unsigned>(state);
}

// Which recipients a verb changes.
unsigned states_for(Verb verb) {
  constexpr unsigned kQueued = bit(RecipientState::queued);
  constexpr unsigned kHeld = bit(RecipientState::held);
  switch (verb) {
    case Verb::hold:
    case Verb::retry:
      return kQueued;
    case Verb::release:
      return kHeld;
    case Verb::bounce:
      return kQueued | kHeld;
    case Verb::remove:
      return kQueued | kHeld | bit(RecipientState::bouncing);
  }
  return 0;
}

}  // namespace

Result<Changed> Custody::change(Verb verb, const Filter& filter, bool dry_run, Effects& effects,
                                std::vector<Store::PickedLease>& picked) {
  const PreparedFilter prepared(filter, time.wall());
  auto landed = change_incoming(verb, prepared, dry_run, effects);
  if (!landed)
    return landed.error();

  auto candidates = store.candidates(prepared);
  if (!candidates)
    return candidates.error();
  std::vector<IdRange> ranges;
  if (candidates->has_value())
    for (const auto id : **candidates)
      ranges.push_back({id.value - 1, id.value});
  else
    ranges.emplace_back();
  if (auto done = store.forget_picked(); !done)
    return done.error();
  for (const auto range : ranges)
    if (auto done = store.pick(prepared, range, states_for(verb), now()); !done)
      return done.error();
  auto changed = store.picked();
  if (!changed)
    return changed.error();
  if (!dry_run && verb != Verb::retry) {
    auto found = store.picked_leases(leases);
    if (!found)
      return found.error();
    picked = *std::move(found);
  }
  changed->messages += landed->messages;
  changed->recipients += landed->recipients;
  if (!dry_run) {
    if (auto done = store.apply_picked(verb, now(), settings.delay_notice); !done)
      return done.error();
    look_again_ = true;
  }
  if (!dry_run && verb == Verb::remove) {
    effects.counted.removed += changed->recipients;
    // What is under way may end otherwise: it is counted, and its file goes, when that is known.
    for (const auto& one : picked) {
      auto& noted = leases.find(one.leased.id)->removed;
      effects.counted.removed -= one.leased.recipients.size();
      effects.removed.push_back({one.leased.id, noted});
      noted.insert(noted.end(), one.leased.recipients.begin(), one.leased.recipients.end());
    }
    auto files = store.delete_picked();
    if (!files)
      return files.error();
    for (auto& each : *files)
      if (leases.find(each.id) == nullptr)
        effects.files.push_back(std::move(each.file));
  }
  if (auto done = store.forget_picked(); !done)
    return done.error();
  return changed;
}

// What matches moves to where changes apply, though delivery has it in hand; what delivery says of
// it later finds it there. Counted here only if it stays where it is.
Result<Changed> Custody::change_incoming(Verb verb, const PreparedFilter& filter, bool dry_run,
                                         Effects& effects) {
  Changed counted;
  if (verb == Verb::release)
    return counted;  // nothing there is held
  auto ids = store.incoming_ids();
  if (!ids)
    return ids.error();
  for (const auto id : *ids) {
    if (!filter.ids().empty() && !std::binary_search(filter.ids().begin(), filter.ids().end(), id))
      continue;
    Leased* const leased = leases.find(id);
    if (leased == nullptr || !filter.matches(*leased->message, true))
      continue;
    const auto& recipients = leased->message->envelope.recipients;
    const auto matching = std::count_if(recipients.begin(), recipients.end(),
                                        [&](const auto& each) { return filter.matches(each); });
    if (matching == 0)
      continue;
    // A retry changes nothing for what is being tried.
    if (dry_run || verb == Verb::retry) {
      ++counted.messages;
      counted.recipients += static_cast<std::uint64_t>(matching);
    } else if (auto done = move_leased(*leased, effects); !done) {
      return done.error();
    }
  }
  return counted;
}

Result<void> Custody::move_leased(Leased& leased, Effects& effects) {
  const auto& message = *leased.message;
  std::vector<RecipientRow> rows(message.envelope.recipients.size());
  for (std::uint32_t i = 0; i < rows.size(); ++i) {
    rows[i].index = i;
    rows[i].next_attempt = now();
    rows[i].address = message.envelope.recipients[i].address;
  }
  if (auto done = store.insert_message(message, {}, new_row(message), rows); !done)
    return done.error();
  leased.landed = false;
  effects.moved.push_back(message.id);
  return {};
}

}  // namespace postrider::queue
