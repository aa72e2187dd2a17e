#include "queue/writer/pending_changes.h"

#include <algorithm>

namespace postrider::queue {

namespace {

// What changes take of a transaction: as long as its sync, within these.
constexpr std::chrono::microseconds kChangesAtOnce{4000}, kMostChangesAtOnce{20'000};

}  // namespace

PendingChanges::UnderWay::UnderWay(Inbox::Change change, TimePoint wall, Log& log)
    : run(change.verb, change.filter, change.dry_run, wall, change.next_hop, change.actor),
      told(std::make_shared<ChangeTold>(change.verb, std::move(change.filter), change.dry_run,
                                        std::move(change.actor), std::move(change.next_hop),
                                        std::move(change.on_done), log)) {}

void PendingChanges::add(std::vector<Inbox::Change>& changes) {
  for (auto& change : changes)
    changes_.emplace_back(std::move(change), ledger_.time().wall(), log_);
  changes.clear();
}

// Somebody may be waiting for this transaction: all changes together take a few milliseconds of it,
// or where the disk is slow, as long as he waits for that.
Result<void> PendingChanges::go_on(std::chrono::microseconds commit_took, Effects& effects) {
  const auto most = std::clamp(commit_took, kChangesAtOnce, kMostChangesAtOnce) /
                    std::max<std::size_t>(changes_.size(), 1);
  for (auto& each : changes_) {
    if (!each.run.has_begun)
      if (auto done = ledger_.changing().begin(each.run, ids_.next(clock_.now()).value); !done)
        return done.error().during("change the queue");
    if (auto done = ledger_.changing().change_on(each.run, most, effects); !done)
      return done.error().during("change the queue");
  }
  return {};
}

bool PendingChanges::will_change() const {
  return std::any_of(changes_.begin(), changes_.end(),
                     [](const UnderWay& each) { return !each.run.dry_run; });
}

void PendingChanges::committed(Consumer* consumer) {
  for (auto& each : changes_) {
    if (!each.run.picked.empty() && consumer != nullptr)
      each.told->ask(*consumer, std::move(each.run.picked), each.run.piece);
    else
      each.told->add(each.run.piece);
    each.run.piece = {};
    each.run.picked.clear();
    if (each.run.is_done)
      each.told->finish();
  }
  std::erase_if(changes_, [](const auto& each) { return each.run.is_done; });
}

void PendingChanges::fail(const Error& error) {
  for (auto& each : changes_)
    each.told->fail(error);
  changes_.clear();
}

std::vector<ChangeRun::Place> PendingChanges::places() const {
  std::vector<ChangeRun::Place> places;
  for (const auto& each : changes_)
    places.push_back(each.run.place());
  return places;
}

void PendingChanges::return_to(std::vector<ChangeRun::Place> places) {
  places.resize(changes_.size());  // those that began since begin again
  for (std::size_t i = 0; i < places.size(); ++i)
    changes_[i].run.return_to(places[i]);
}

}  // namespace postrider::queue
