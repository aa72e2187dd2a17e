#include "queue/ledger/changing.h"

#include "queue/ledger/fact_lines.h"

#include <algorithm>

namespace postrider::queue {

namespace {

constexpr std::int64_t kMostInAPiece = 4096;

constexpr unsigned bit(RecipientState state) {
  return 1U << static_cast<unsigned>(state);
}

// Which recipients a verb changes.
unsigned states_for(Verb verb) {
  constexpr unsigned kQueued = bit(RecipientState::queued);
  constexpr unsigned kHeld = bit(RecipientState::held);
  switch (verb) {
    case Verb::hold:
      return kQueued;
    case Verb::retry:
      return kQueued | kHeld;  // of those held, to be counted
    case Verb::release:
      return kQueued | kHeld;  // of those queued, what waits for its sender's time
    case Verb::bounce:
    case Verb::expire:
    case Verb::reroute:
      return kQueued | kHeld;
    case Verb::remove:
      return kQueued | kHeld | bit(RecipientState::bouncing);
  }
  return 0;
}

}  // namespace

ChangeRun::ChangeRun(Verb verb_, const Filter& filter, bool dry_run_, TimePoint wall,
                     std::string next_hop_, Actor actor_)
    : verb(verb_),
      actor(std::move(actor_)),
      dry_run(dry_run_),
      prepared(filter, wall),
      next_hop(std::move(next_hop_)) {}

void ChangeRun::return_to(const Place& place) {
  has_candidates = place.has_candidates;
  next_landed = place.next_landed;
  next_candidate = place.next_candidate;
  counted.resize(place.counted);
  after = place.after;
  is_done = false;
  piece = {};
  picked.clear();
}

Result<void> Changing::begin(ChangeRun& run, std::int64_t last) {
  run.last = last;
  if (run.verb != Verb::release) {  // nothing there is held
    auto landed = state_.store->incoming().ids();
    if (!landed)
      return landed.error();
    run.landed = *std::move(landed);
  }
  run.has_begun = true;
  return {};
}

// As many messages as took no longer than `most` the last time, and more the next time if it was
// quick. What landed comes first: it moves to where the rest is.
Result<void> Changing::change_on(ChangeRun& run, std::chrono::microseconds most, Effects& effects) {
  const auto begun = std::chrono::steady_clock::now();
  const auto is_over = [&] { return std::chrono::steady_clock::now() - begun > most; };
  run.piece = {};
  run.picked.clear();
  while (run.next_landed < run.landed.size()) {
    if (auto done = change_landed(run, run.landed[run.next_landed++], effects); !done)
      return done.error();
    if (is_over())
      return {};
  }
  if (!std::exchange(run.has_candidates, true)) {  // now that what landed is among them
    auto candidates = state_.store->changes().candidates(run.prepared);
    if (!candidates)
      return candidates.error();
    run.candidates = *std::move(candidates);
  }
  if (auto done = state_.store->changes().clear(); !done)
    return done.error();
  if (auto done = pick_piece(run); !done)
    return done.error();
  if (auto done = apply_piece(run, effects); !done)
    return done.error();
  // Perhaps to a site in trouble.
  if (run.is_done && !run.dry_run && (run.verb == Verb::release || run.verb == Verb::reroute))
    if (auto done = deferring_.begin_all(); !done)
      return done.error();
  const auto took = std::chrono::steady_clock::now() - begun;
  if (took > most)
    run.messages = std::max<std::int64_t>(run.messages / 2, 4);
  else if (took < most / 2)
    run.messages = std::min<std::int64_t>(run.messages * 2, kMostInAPiece);
  return {};
}

Result<void> Changing::pick_piece(ChangeRun& run) {
  const auto states = states_for(run.verb);
  if (run.candidates) {
    const auto left = static_cast<std::int64_t>(run.candidates->size() - run.next_candidate);
    for (auto i = std::min(run.messages, left); i > 0; --i) {
      const auto id = (*run.candidates)[run.next_candidate++].value;
      if (auto done =
              state_.store->changes().pick(run.prepared, {id - 1, id}, states, state_.now());
          !done)
        return done.error();
    }
    run.is_done = run.next_candidate == run.candidates->size();
  } else {
    auto end = state_.store->changes().end_of_piece(run.after, run.messages);
    if (!end)
      return end.error();
    const IdRange range{run.after, std::min(*end, run.last)};
    if (auto done = state_.store->changes().pick(run.prepared, range, states, state_.now()); !done)
      return done.error();
    run.after = range.to;
    run.is_done = run.after >= run.last;
  }
  // What was counted where it landed and moved on since.
  for (const auto id : run.counted)
    if (auto done = state_.store->changes().unpick(id); !done)
      return done.error();
  return {};
}

Result<void> Changing::apply_piece(ChangeRun& run, Effects& effects) {
  if (run.verb == Verb::retry || run.verb == Verb::reroute)
    if (auto done = sort_held(run); !done)
      return done.error();
  if (run.verb == Verb::release || run.verb == Verb::reroute)
    if (auto done = count_paused(run); !done)
      return done.error();
  if (auto done = state_.store->changes().sort_unreleased(run.verb, state_.now(),
                                                          state_.time.wall(), run.piece);
      !done)
    return done.error();
  auto changed = state_.store->changes().picked();
  if (!changed)
    return changed.error();
  run.piece.messages += changed->messages;
  run.piece.recipients += changed->recipients;
  if (run.verb == Verb::retry && changed->messages > 0)
    if (auto done = sort_paused(run); !done)
      return done.error();
  if (changed->messages == 0 || (run.dry_run && run.verb == Verb::retry))
    return {};
  auto found = state_.store->changes().picked_leases(state_.leases);
  if (!found)
    return found.error();
  if (run.verb == Verb::retry)
    want_again(*found);
  else
    std::move(found->begin(), found->end(), std::back_inserter(run.picked));
  if (run.dry_run)
    return {};
  if (auto done = state_change(state_, run, effects); !done)
    return done.error();
  auto done =
      run.verb == Verb::reroute
          ? state_.store->changes().reroute(run.next_hop, state_.now())
          : state_.store->changes().apply(run.verb, state_.now(), state_.settings.delay_notice);
  if (!done)
    return done.error();
  if (run.verb == Verb::release)
    if (auto kept = keep_wishes(); !kept)
      return kept.error();
  look_.at_once();
  return run.verb == Verb::remove ? remove_piece(run, *changed, effects) : Result<void>();
}

// A hold and a release change nothing of what a sender asked for.
Result<void> Changing::keep_wishes() {
  const auto wishing = state_.store->changes().picked_with_wishes();
  if (!wishing)
    return wishing.error();
  for (const auto& message : *wishing)
    if (auto done = state_.store->changes().keep_wish(wish_behind_release(state_, *message)); !done)
      return done.error();
  return {};
}

// A reroute changes it, too, and leaves it held.
Result<void> Changing::sort_held(ChangeRun& run) {
  auto& changes = state_.store->changes();
  const auto held = run.verb == Verb::retry ? changes.unpick_held() : changes.count_held();
  if (!held)
    return held.error();
  run.piece.held = *held;
  return {};
}

// Whether it is paused; which pauses keep it is told.
bool Changing::note_paused(ChangeRun& run, std::string_view sender, std::string_view domain) const {
  const auto keeping = state_.pauses.all_of(sender, domain);
  for (const auto* row : keeping) {
    Pause pause;
    pause.of = row->of;
    pause.name = row->name;
    run.piece.add_pause(pause);
  }
  return !keeping.empty();
}

// It is due, too, and is handed out as soon as the pause ends.
Result<void> Changing::sort_paused(ChangeRun& run) {
  if (state_.pauses.is_empty())
    return {};
  const auto picked = state_.store->changes().picked_recipients();
  if (!picked)
    return picked.error();
  for (auto one = picked->begin(); one != picked->end();) {
    const auto id = one->id;
    std::uint64_t all = 0, paused = 0;
    for (; one != picked->end() && one->id == id; ++one, ++all)
      if (note_paused(run, one->sender, one->domain))
        ++paused;
    run.piece.paused.recipients += paused;
    run.piece.paused.messages += paused > 0 ? 1 : 0;
    run.piece.recipients -= paused;
    run.piece.messages -= paused == all ? 1 : 0;
  }
  return {};
}

// What is released or rerouted, and is not tried before a pause ends.
Result<void> Changing::count_paused(ChangeRun& run) {
  if (state_.pauses.is_empty())
    return {};
  const auto picked = state_.store->changes().picked_recipients();
  if (!picked)
    return picked.error();
  mail::MessageId last;
  for (const auto& one : *picked) {
    const auto& domain = run.verb == Verb::reroute ? run.next_hop : one.domain;
    if (state_.leases.is_leased(one.id, one.index) || !note_paused(run, one.sender, domain))
      continue;
    ++run.piece.paused.recipients;
    if (run.piece.paused.recipients == 1 || one.id != last)
      ++run.piece.paused.messages;
    last = one.id;
  }
  return {};
}

// What is being tried is not due before its attempt has ended, and the time that this sets for the
// next one would hide the wish.
void Changing::want_again(const std::vector<BulkChange::PickedLease>& under_way) {
  for (const auto& one : under_way)
    for (const auto index : one.leased.recipients)
      state_.leases.holder(one.leased.id, index)->want_again(index);
}

Result<void> Changing::remove_piece(ChangeRun& run, const Changed& changed, Effects& effects) {
  effects.counted.removed += changed.recipients;
  // What is under way may end otherwise: it is counted, and its file goes, when that is known.
  for (const auto& one : run.picked) {
    effects.counted.removed -= one.leased.recipients.size();
    for (const auto index : one.leased.recipients) {
      auto& leased = *state_.leases.holder(one.leased.id, index);
      if (effects.removed.empty() || effects.removed.back().lease != leased.number)
        effects.removed.push_back({one.leased.id, leased.number, leased.removed});
      leased.removed.push_back(index);
    }
  }
  auto gone = state_.store->changes().remove_ended();
  if (!gone)
    return gone.error();
  for (auto& each : *gone) {
    if (state_.leases.is_leased(each.id))
      continue;
    effects.gone.push_back(each.id);
    if (!each.file.empty())
      effects.files.push_back(std::move(each.file));
  }
  return {};
}

// What matches moves to where changes apply, though delivery has it in hand; what delivery says of
// it later finds it there. Counted here only if it stays where it is.
Result<void> Changing::change_landed(ChangeRun& run, mail::MessageId id, Effects& effects) {
  if (!run.prepared.names(id))
    return {};
  Leased* const leased = state_.leases.find(id);
  if (leased == nullptr || !leased->landed || !run.prepared.matches(*leased->message, true))
    return {};
  const auto& recipients = leased->message->envelope.recipients;
  std::vector<std::uint32_t> matching;
  for (std::uint32_t i = 0; i < recipients.size(); ++i)
    if (run.prepared.matches(recipients[i]))
      matching.push_back(i);
  if (matching.empty())
    return {};
  if (!run.dry_run && run.verb != Verb::retry)
    return move_leased(state_, *leased, effects);
  if (!run.dry_run)
    for (const auto index : matching)
      leased->want_again(index);
  ++run.piece.messages;
  run.piece.recipients += matching.size();
  run.counted.push_back(id);
  if (run.verb != Verb::retry) {
    const auto recipients_picked = matching.size();
    run.picked.push_back({{id, std::move(matching)}, recipients_picked});
  }
  return {};
}

}  // namespace postrider::queue
