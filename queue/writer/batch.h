// What the queue thread stores as one transaction, and who waits for it.
#pragma once

#include "queue/writer/pause_answers.h"
#include "queue/writer/pending_changes.h"
#include "queue/writer/store_keeper.h"

#include <functional>

namespace postrider::queue {

class Batch {
 public:
  // must_wait: of a record that cannot be stored now, though others can.
  using MustWait = std::function<bool(const Record&)>;
  Batch(Ledger& ledger, StoreKeeper& keeper, mail::MessageIds& ids, const Clock& clock, Log& log,
        MustWait must_wait)
      : ledger_(ledger),
        keeper_(keeper),
        changes_(ledger, ids, clock, log),
        must_wait_(std::move(must_wait)) {}

  Inbox& work() { return work_; }  // what came last
  Inbox& kept() { return kept_; }  // what waits for the store to work again; goes first
  // Whether there is more to store than the latest transaction took, which was committed.
  bool has_more() const {
    return has_more_ || !changes_.is_empty() || ledger_.deferring().is_busy();
  }
  bool has_more_records() const { return has_more_; }

  // In one transaction, if there is anything; done again around each damaged message that it meets.
  // must_write: to know whether it can, for the disk was full. Requires: the store is open.
  Result<void> store(Effects& effects, bool must_write);
  // It was committed: which records were a part of it.
  std::vector<Record> take_stored();
  // It was committed, or nothing was to be stored. consumer may be null.
  void answer_changes(Consumer* consumer);
  void answer_submissions();
  // At once: they do not wait for what else the batch does.
  void refuse_submissions(const Error& error);
  // Those alone for which check() fails, with its error.
  void refuse_submissions_if(const std::function<Result<void>(const Submission&)>& check);
  void end_changes(const Error& error);
  void keep_for_later();
  std::chrono::microseconds commit_took() const { return commit_took_; }  // the latest
  std::size_t unrecorded() const { return kept_.records.size() + work_.records.size(); }

 private:
  bool has_anything_to_store() const;
  Result<void> transact(Effects& effects, bool must_write);
  Result<void> store_inbox(Effects& effects);
  Result<void> store_records(Effects& effects);
  Result<void> store_submission(Inbox::Submitted& each, Effects& effects);

  Ledger& ledger_;
  StoreKeeper& keeper_;
  PendingChanges changes_;
  PauseAnswers pause_answers_;
  Inbox work_;
  Inbox kept_;
  MustWait must_wait_;
  std::vector<bool> is_stored_;  // of kept_.records, by the latest transaction
  std::size_t waiting_ = 0;      // of kept_.records, that had to wait then
  bool has_more_ = false;
  std::chrono::microseconds commit_took_{0};
};

}  // namespace postrider::queue
