// The changes that administrators asked for and that are not complete yet.
#pragma once

#include "queue/ledger/ledger.h"
#include "queue/writer/change_told.h"
#include "queue/writer/inbox.h"

namespace postrider::queue {

class PendingChanges {
 public:
  PendingChanges(Ledger& ledger, mail::MessageIds& ids, const Clock& clock, Log& log)
      : ledger_(ledger), ids_(ids), clock_(clock), log_(log) {}

  bool is_empty() const { return changes_.empty(); }
  bool will_change() const;                       // rather than only count
  void add(std::vector<Inbox::Change>& changes);  // which is empty then
  // The next piece of each, as a part of a transaction. commit_took: the latest.
  Result<void> go_on(std::chrono::microseconds commit_took, Effects& effects);
  // The latest pieces were committed. consumer may be null.
  void committed(Consumer* consumer);
  // None is carried on.
  void fail(const Error& error);

  // How far each came: for a transaction that is done again.
  std::vector<ChangeRun::Place> places() const;
  void return_to(std::vector<ChangeRun::Place> places);

 private:
  struct UnderWay {
    UnderWay(Inbox::Change change, TimePoint wall, Log& log);
    ChangeRun run;
    std::shared_ptr<ChangeTold> told;
  };

  Ledger& ledger_;
  mail::MessageIds& ids_;
  const Clock& clock_;
  Log& log_;
  std::vector<UnderWay> changes_;
};

}  // namespace postrider::queue
