#include "queue/writer/batch.h"

#include "base/probe.h"
#include "queue/key_id.h"

#include <algorithm>

namespace postrider::queue {

namespace {

constexpr std::int64_t kIdsAhead = 120'000'000;  // microseconds, more than marks are apart
constexpr int kMostDamagedAtOnce = 64;
// Results in one transaction, but those of one record are not divided.
constexpr std::size_t kMostResults = 1000;

template <class T>
void move_to(std::vector<T>& from, std::vector<T>& to) {
  std::move(from.begin(), from.end(), std::back_inserter(to));
  from.clear();
}

}  // namespace

// Each turn but the last finds one damaged message that was not known before.
Result<void> Batch::store(Effects& effects, bool must_write) {
  move_to(work_.records, kept_.records);  // behind those that were there
  has_more_ = false;
  for (int turn = 0;; ++turn) {
    const auto marked = keeper_.marked();
    auto places = changes_.places();
    auto done = transact(effects, must_write);
    if (done)
      ledger_.damaged().committed();
    else if (ledger_.damaged().found() && turn < kMostDamagedAtOnce) {
      ledger_.undo(effects);
      keeper_.set_marked(marked);
      changes_.return_to(std::move(places));
      continue;
    }
    return done;
  }
}

Result<void> Batch::transact(Effects& effects, bool must_write) {
  const bool owes_recovery = keeper_.owes_recovery();
  if (!must_write && !owes_recovery && !has_anything_to_store())
    return {};
  auto transaction = keeper_.store()->begin();
  if (!transaction)
    return transaction.error();
  if (must_write || owes_recovery)
    keeper_.set_marked({});  // something must be written to know whether it can
  ledger_.facts().set_disk_full(must_write);
  if (owes_recovery)
    if (auto done = keeper_.pay_recovery(); !done)
      return done.error();
  if (auto done = store_inbox(effects); !done)
    return done.error();
  if (ledger_.is_work_due())
    if (auto done = ledger_.leasing().lease_due(effects); !done)
      return done.error().during("find due mail");
  if (auto done = ledger_.facts().forget_settled(); !done)
    return done.error().during("forget facts");
  if (auto done = keeper_.store_marks(kIdsAhead); !done)
    return done.error();
  ++effects.counted.commits;
  POSTRIDER_PROBE2(commit_begin, work_.submissions.size(), kept_.records.size());
  const auto begun = std::chrono::steady_clock::now();
  auto done = transaction->commit();
  commit_took_ = std::chrono::duration_cast<std::chrono::microseconds>(
      std::chrono::steady_clock::now() - begun);
  POSTRIDER_PROBE2(commit_end, done.has_value() ? 1 : 0, commit_took_.count());
  if (done && owes_recovery)
    keeper_.paid_recovery();
  return done;
}

bool Batch::has_anything_to_store() const {
  return !work_.is_empty() || ledger_.landing().is_busy() || ledger_.deferring().is_busy() ||
         ledger_.releasing().is_busy() || !kept_.is_empty() || !changes_.is_empty() ||
         ledger_.is_work_due();
}

Result<void> Batch::store_inbox(Effects& effects) {
  for (auto* inbox : {&kept_, &work_}) {
    for (const auto& assignment : inbox->assignments)
      if (auto done = ledger_.recording().assign_site(assignment.domain, assignment.site); !done)
        return done.error().during("assign site");
    for (const auto& site : inbox->sites)
      if (auto done = ledger_.recording().set_site(site); !done)
        return done.error().during("record site");
  }
  // Behind the sites, for what is given back because of them.
  if (auto done = store_records(effects); !done)
    return done.error();
  for (auto* inbox : {&kept_, &work_}) {
    for (const auto& each : inbox->quarantines)
      if (auto done = ledger_.damaged().quarantine(each.id, each.why, effects); !done)
        return done.error().during("quarantine message");
    for (const auto& drop_id : inbox->forgotten)
      if (auto done = keeper_.store()->dropped().forget(drop_id); !done)
        return done.error().during("forget dropped file");
  }
  ledger_.landing().set_awaited(changes_.will_change());
  for (auto& each : work_.submissions)
    if (auto done = store_submission(each, effects); !done)
      return done.error().during("store message");
  if (auto done = pause_answers_.apply(work_.pauses, ledger_.pausing(), effects); !done)
    return done.error();
  changes_.add(work_.changes);
  // What changes rows waits until all are there.
  if (!ledger_.landing().is_busy() || !changes_.will_change())
    if (auto done = changes_.go_on(commit_took_, effects); !done)
      return done.error();
  if (auto done = ledger_.landing().go_on(effects); !done)
    return done.error();
  if (auto done = ledger_.releasing().go_on(); !done)
    return done.error();
  return ledger_.deferring().go_on(effects);
}

// In their order, as far as one transaction may take.
Result<void> Batch::store_records(Effects& effects) {
  is_stored_.assign(kept_.records.size(), false);
  waiting_ = 0;
  std::size_t results = 0;
  for (std::size_t i = 0; i < kept_.records.size(); ++i) {
    const auto& record = kept_.records[i];
    if (results > 0 && results + record.results.size() > kMostResults)
      break;
    if (must_wait_(record)) {
      ++waiting_;
      continue;
    }
    if (auto done = ledger_.recording().record(record, effects); !done)
      return done.error().during("record message " + to_string(record.id));
    results += record.results.size();
    is_stored_[i] = true;
  }
  return {};
}

std::vector<Record> Batch::take_stored() {
  ledger_.landing().committed();
  ledger_.deferring().committed();
  ledger_.releasing().committed();
  std::vector<Record> all, stored;
  all.swap(kept_.records);
  kept_.clear();
  for (std::size_t i = 0; i < all.size(); ++i)
    (i < is_stored_.size() && is_stored_[i] ? stored : kept_.records).push_back(std::move(all[i]));
  is_stored_.clear();
  has_more_ = kept_.records.size() > waiting_ || ledger_.landing().is_busy();
  return stored;
}

void Batch::answer_changes(Consumer* consumer) {
  pause_answers_.committed(work_.pauses, ledger_.pausing(), consumer);
  changes_.committed(consumer);
}

Result<void> Batch::store_submission(Inbox::Submitted& each, Effects& effects) {
  const auto& submission = each.submission;
  each.waiting->id = submission.message->id;
  if (!submission.drop_id.empty()) {
    auto known = keeper_.store()->dropped().find(submission.drop_id);
    if (!known)
      return known.error();
    if (known->has_value()) {
      each.waiting->id = **known;
      return {};
    }
    if (is_key_id(submission.drop_id)) {
      auto other = keeper_.store()->dropped().find(first_half(submission.drop_id));
      if (!other)
        return other.error();
      if (other->has_value()) {
        each.refused = Error(Errc::refused, "the key is another request's");
        return {};
      }
    }
  }
  if (auto done = ledger_.intake().submit(submission, each.head, effects, each.refused); !done)
    return done.error();
  if (!each.refused)
    return {};
  ++effects.counted.accepted;
  if (submission.drop_id.empty())
    return {};
  auto& dropped = keeper_.store()->dropped();
  const auto id = submission.message->id;
  if (is_key_id(submission.drop_id))
    if (auto done = dropped.add(first_half(submission.drop_id), id); !done)
      return done.error();
  return dropped.add(submission.drop_id, id);
}

void Batch::refuse_submissions(const Error& error) {
  refuse_submissions_if([&](const Submission&) -> Result<void> { return error; });
}

void Batch::refuse_submissions_if(const std::function<Result<void>(const Submission&)>& check) {
  bool are_refused = false;
  for (auto& each : work_.submissions) {
    each.refused = check(each.submission);
    are_refused = are_refused || !each.refused;
  }
  if (!are_refused)
    return;
  std::vector<Inbox::Submitted> refused, others;
  for (auto& each : work_.submissions)
    (each.refused ? others : refused).push_back(std::move(each));
  work_.submissions = std::move(refused);
  answer_submissions();
  work_.submissions = std::move(others);
}

// One posted message for each loop, whatever the number of waiters.
void Batch::answer_submissions() {
  auto& all = work_.submissions;
  while (!all.empty()) {
    Loop* const loop = all.back().waiting->loop;
    std::vector<Waiting*> waiting;
    std::erase_if(all, [&](Inbox::Submitted& each) {
      if (each.waiting->loop != loop)
        return false;
      each.waiting->result = std::move(each.refused);
      waiting.push_back(each.waiting);
      return true;
    });
    loop->post([waiting = std::move(waiting)] {
      for (auto* each : waiting)
        each->done.set();
    });
  }
}

void Batch::end_changes(const Error& error) {
  PauseAnswers::fail(work_.pauses, error);
  changes_.add(work_.changes);
  changes_.fail(error);
}

void Batch::keep_for_later() {
  move_to(work_.records, kept_.records);
  move_to(work_.sites, kept_.sites);
  move_to(work_.assignments, kept_.assignments);
  move_to(work_.quarantines, kept_.quarantines);
  move_to(work_.forgotten, kept_.forgotten);
}

}  // namespace postrider::queue
