#include "queue/ledger/ledger.h"

namespace postrider::queue {

void Ledger::adopt(QueueSettings settings) {
  settings.spool = state_.settings.spool;
  state_.settings = std::move(settings);
  state_.facts.want(state_.settings.keeps_facts);
  look_again();
}

void Ledger::resume(Duration shift, TimePoint last_seen, const Clock& clock, Duration ramp) {
  state_.steady_now = clock.steady();
  state_.time.resume(shift, last_seen, clock.now(), clock.steady());
  if (state_.time.shift() != shift)
    releasing_.clock_jumped();
  if (ramp > Duration(0))
    state_.ramp_until = clock.steady() + ramp;
}

void Ledger::observe(const Clock& clock) {
  if (state_.time.observe(clock.now(), clock.steady()))
    releasing_.clock_jumped();
  state_.steady_now = clock.steady();
}

void Ledger::undo(Effects& effects) {
  for (const auto& lease : effects.leases)
    state_.leases.take(lease.message->id, lease.number);
  // The last first: what a partial record left of a lease gives way to what was there before.
  for (auto node = effects.ended.rbegin(); node != effects.ended.rend(); ++node) {
    state_.leases.take(node->mapped().message->id, node->mapped().number);
    state_.leases.put_back(std::move(*node));
  }
  for (const auto& [id, number] : effects.landing)
    state_.leases.take(id, number);
  for (auto before = effects.removed.rbegin(); before != effects.removed.rend(); ++before)
    if (auto* leased = state_.leases.find(before->id, before->lease))
      leased->removed = std::move(before->removed);
  for (const auto id : effects.moved)
    if (auto* leased = state_.leases.find(id))
      state_.leases.set_landed(*leased, true);
  if (effects.pauses_before)
    state_.pauses = *std::move(effects.pauses_before);
  landing_.start_over();
  deferring_.start_over();
  releasing_.start_over();
  state_.store->destinations().forget();
  state_.facts.undone();
  look_.at_once();
  effects = {};
}

}  // namespace postrider::queue
