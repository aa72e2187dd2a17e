#include "queue/ledger/pausing.h"

#include "base/text.h"

namespace postrider::queue {

namespace {

constexpr const char* kPauseKinds[] = {"all", "domain", "sender"};

LogEvent pause_event(const char* name, Pause::Of of, const std::string& whose) {
  return std::move(LogEvent(Level::warn, name)
                       .add("kind", kPauseKinds[static_cast<std::size_t>(of)])
                       .add("name", whose));
}

LogEvent by(LogEvent event, const Actor& actor) {
  return std::move(event.add("uid", std::to_string(actor.uid)).add("user", actor.name));
}

}  // namespace

Result<void> Pausing::load() {
  auto rows = state_.store->pauses().all();
  if (!rows)
    return rows.error();
  state_.pauses.clear();
  for (auto& row : *rows)
    state_.pauses.set(std::move(row));
  return {};
}

// The first copy is what it was before the transaction.
void Pausing::remember(Effects& effects) {
  if (!effects.pauses_before)
    effects.pauses_before = state_.pauses;
}

Result<void> Pausing::pause(const Pause& pause, Effects& effects) {
  if (state_.pauses.size() >= PauseSet::kMost && !state_.pauses.contains(pause.of, pause.name))
    return Error(Errc::too_long, "there are " + std::to_string(PauseSet::kMost) +
                                     " pauses already; resume some of them");
  PauseRow row;
  row.of = pause.of;
  row.name = pause.name;
  row.since = state_.time.wall().time_since_epoch().count();
  row.until = pause.until == TimePoint()
                  ? kNever
                  : state_.time.to_queue(pause.until).time_since_epoch().count();
  row.uid = pause.by.uid;
  row.user = pause.by.name;
  if (auto done = state_.store->pauses().set(row); !done)
    return done.error();
  remember(effects);
  look_.expect(row.until);
  state_.pauses.set(std::move(row));
  auto event = pause_event("queue_paused", pause.of, pause.name);
  if (pause.until != TimePoint())
    event.add("until", format_rfc3339(pause.until));
  effects.told.push_back(by(std::move(event), pause.by));
  return {};
}

Result<std::size_t> Pausing::resume(const Pause& pause, Effects& effects) {
  std::size_t ended = 0;
  for (const auto& row : state_.pauses.rows()) {
    if (pause.of != Pause::Of::all && (row.of != pause.of || row.name != pause.name))
      continue;
    auto event = by(pause_event("queue_resumed", row.of, row.name), pause.by);
    if (auto done = end(row, event, effects); !done)
      return done.error();
    ++ended;
  }
  return ended;
}

Result<void> Pausing::end_due(Effects& effects) {
  if (state_.pauses.next_end() > state_.now())
    return {};
  for (const auto& row : state_.pauses.rows())
    if (row.until <= state_.now())
      if (auto done = end(row, pause_event("queue_resumed", row.of, row.name), effects); !done)
        return done.error();
  return {};
}

Result<void> Pausing::end(const PauseRow& row, const LogEvent& event, Effects& effects) {
  if (auto done = state_.store->pauses().remove(row.of, row.name); !done)
    return done.error();
  remember(effects);
  state_.pauses.remove(row.of, row.name);
  effects.told.push_back(event);
  look_.at_once();
  return {};
}

std::vector<Revocation> Pausing::in_hand(const Pause& pause) const {
  PauseSet paused;
  PauseRow row;
  row.of = pause.of;
  row.name = pause.name;
  paused.set(std::move(row));
  std::vector<Revocation> found;
  state_.leases.each([&](const Leased& leased) {
    if (leased.reason != Lease::Reason::fresh && leased.reason != Lease::Reason::due)
      return;
    Revocation one{leased.message->id, {}};
    const auto& envelope = leased.message->envelope;
    for (std::uint32_t i = 0; i < envelope.recipients.size(); ++i)
      if (leased.holds(i) &&
          paused.find(envelope.sender, mail::domain_of(envelope.recipients[i].address)) != nullptr)
        one.recipients.push_back(i);
    if (!one.recipients.empty())
      found.push_back(std::move(one));
  });
  return found;
}

}  // namespace postrider::queue
