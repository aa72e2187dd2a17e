#include "queue/writer/writer.h"

#include "queue/body_file.h"

#include <algorithm>

namespace postrider::queue {

namespace {

constexpr std::int64_t kIdsAhead = 120'000'000;      // microseconds, more than marks are apart
constexpr Duration kLook = std::chrono::seconds(1);  // at the clock, while mail waits
constexpr int kMostDamagedAtOnce = 64;
constexpr Duration kIdle = std::chrono::milliseconds(100);  // then maintenance

template <class T>
void move_to(std::vector<T>& from, std::vector<T>& to) {
  std::move(from.begin(), from.end(), std::back_inserter(to));
  from.clear();
}

Error no_room() {
  return Error(make_error_code(boost::system::errc::no_space_on_device), "store message");
}

}  // namespace

Writer::Writer(Spool& spool, mail::MessageIds& ids, QueueSettings settings, const Clock& clock,
               Log& log)
    : clock_(clock),
      log_(log),
      ledger_(spool, std::move(settings), log),
      keeper_(spool, ids, ledger_, clock, log),
      room_(spool, clock),
      changes_(ledger_, ids, clock, log),
      lifetime_(ledger_.settings().lifetime.count()),
      bodies_(spool, inbox_, log) {}

Writer::~Writer() {
  stop();
}

Result<void> Writer::open(const char* vfs) {
  if (auto opened = keeper_.open(vfs); !opened)
    return opened.error();
  check_room();
  return {};
}

void Writer::start(Consumer* consumer) {
  consumer_ = consumer;
  ledger_.set_consumer(consumer != nullptr);
  bodies_.start(consumer);
  thread_ = std::thread([this] { run(); });
}

void Writer::stop() {
  room_.set(Admission::stopping);
  if (thread_.joinable()) {
    inbox_.stop();
    thread_.join();
  }
  bodies_.stop();
  if (keeper_.is_open() && !kept_.is_empty())
    process();  // once more: perhaps there is room now
  end_changes(Error(Errc::stopped, "change the queue"));
  if (keeper_.is_open())
    keeper_.close(bodies_.finish_removals());
}

void Writer::run() {
  while (wait())
    process();
}

Duration Writer::most_sleep() const {
  if (!keeper_.is_open() || !room_.has_room())
    return RoomWatch::kEvery;
  if (keeper_.is_upkeep_wanted())
    return kIdle;
  const auto due = ledger_.next_due();
  if (!ledger_.has_consumer() || due == kNever)
    return Duration::max();
  return std::clamp(Duration(due - ledger_.now()), Duration(1), kLook);
}

bool Writer::wait() {
  using Busy = SharedInbox::Busy;
  work_.clear();
  const bool is_due = keeper_.is_open() && ledger_.is_work_due();
  const auto busy = !changes_.is_empty() && keeper_.is_open() ? Busy::with_changes
                    : is_due                                  ? Busy::with_due_work
                                                              : Busy::no;
  const auto taken = inbox_.take(work_, most_sleep(), busy);
  is_idle_ = taken.is_idle;
  if (taken.look_again)
    ledger_.look_again();
  return !taken.is_stopping || !work_.is_empty();
}

void Writer::process() {
  ledger_.observe(clock_);
  take_settings();
  check_room();
  if (!keeper_.is_open() && keeper_.reopen(kept_.records.size()))
    room_.check_at_once(ledger_.settings().room_needed, true);
  if (!keeper_.is_open() || !room_.has_room())
    refuse_submissions(keeper_.is_open() ? no_room() : Error(Errc::storage, "store message"));
  const bool is_stored = store_all();
  answer_submissions();
  changes_.committed(consumer_);
  maintain(is_stored);
}

bool Writer::store_all() {
  if (!keeper_.is_open()) {
    keep_for_later();
    return false;
  }
  Effects effects;
  auto done = keeper_.store().check_files();
  if (done)
    done = sync_notices();
  if (done)
    done = transact_around_damage(effects);
  if (done)
    committed(effects);
  else
    failed(done.error(), effects);
  keeper_.salvage_if_damaged();
  return done.has_value();
}

void Writer::maintain(bool is_stored) {
  if (!keeper_.is_open())
    return;
  auto& upkeep = keeper_.upkeep();
  if (is_stored)
    upkeep.after_commit();
  if (is_idle_)
    upkeep.idle();
  upkeep.give_back_room();
}

void Writer::take_settings() {
  for (auto& settings : work_.settings) {
    ledger_.adopt(std::move(settings));
    lifetime_ = ledger_.settings().lifetime.count();
  }
  work_.settings.clear();
}

bool Writer::is_anything_to_store() const {
  return !work_.is_empty() || !kept_.is_empty() || room_.is_full() || !changes_.is_empty() ||
         ledger_.is_work_due();
}

// Each turn but the last finds one damaged message that was not known before.
Result<void> Writer::transact_around_damage(Effects& effects) {
  for (int turn = 0;; ++turn) {
    const auto marked = keeper_.marked();
    auto places = changes_.places();
    auto done = transact(effects);
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

Result<void> Writer::transact(Effects& effects) {
  if (!is_anything_to_store())
    return {};
  auto transaction = keeper_.store()->begin();
  if (!transaction)
    return transaction.error();
  if (room_.is_full())
    keeper_.set_marked({});  // something must be written to know whether it can
  if (auto done = store_inbox(effects); !done)
    return done.error();
  if (ledger_.is_work_due())
    if (auto done = ledger_.leasing().lease_due(effects); !done)
      return done.error().during("find due mail");
  if (auto done = keeper_.store_marks(kIdsAhead); !done)
    return done.error();
  ++effects.counted.commits;
  const auto begun = std::chrono::steady_clock::now();
  auto done = transaction->commit();
  commit_took_ = std::chrono::duration_cast<std::chrono::microseconds>(
      std::chrono::steady_clock::now() - begun);
  return done;
}

Result<void> Writer::store_inbox(Effects& effects) {
  for (auto* inbox : {&kept_, &work_}) {
    for (const auto& assignment : inbox->assignments)
      if (auto done =
              keeper_.store()->destinations().assign_site(assignment.domain, assignment.site);
          !done)
        return done.error().during("assign site");
    for (const auto& site : inbox->sites)
      if (auto done = ledger_.recording().set_site(site); !done)
        return done.error().during("record site");
    // Behind the sites, for what is given back because of them.
    for (const auto& record : inbox->records)
      if (auto done = ledger_.recording().record(record, effects); !done)
        return done.error().during("record message " + to_string(record.id));
    for (const auto& each : inbox->quarantines)
      if (auto done = ledger_.damaged().quarantine(each.id, each.why, effects); !done)
        return done.error().during("quarantine message");
    for (const auto& drop_id : inbox->forgotten)
      if (auto done = keeper_.store()->dropped().forget(drop_id); !done)
        return done.error().during("forget dropped file");
  }
  for (auto& each : work_.submissions)
    if (auto done = store_submission(each, effects); !done)
      return done.error().during("store message");
  changes_.add(work_.changes);
  return changes_.go_on(commit_took_, effects);
}

Result<void> Writer::store_submission(Inbox::Submitted& each, Effects& effects) {
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
  }
  if (auto done = ledger_.intake().submit(submission.message, each.head, submission.hold, effects,
                                          each.refused);
      !done)
    return done.error();
  if (!each.refused)
    return {};
  ++effects.counted.accepted;
  if (submission.drop_id.empty())
    return {};
  return keeper_.store()->dropped().add(submission.drop_id, submission.message->id);
}

// The large body of a notice has nobody who awaits its sync: rare, so done here.
Result<void> Writer::sync_notices() {
  for (auto* inbox : {&kept_, &work_})
    for (auto& record : inbox->records)
      for (auto& notice : record.notices)
        if (notice.body.is_open())
          if (auto done = notice.body.state_->sync(); !done)
            return done.error();
  return {};
}

void Writer::committed(Effects& effects) {
  for (auto* inbox : {&kept_, &work_})
    for (auto& record : inbox->records)
      for (auto& notice : record.notices)
        if (notice.body.is_open())
          notice.body.state_->keep();
  for (auto& each : work_.submissions)
    if (each.refused && each.waiting->id == each.submission.message->id &&
        each.submission.body.is_open())
      each.submission.body.state_->keep();
  kept_.clear();
  count(effects.counted);
  if (room_.has_written())
    check_room();
  for (auto& event : effects.told)
    log_.write(std::move(event));
  bodies_.hand_out(effects);
  if (!effects.files.empty())
    bodies_.remove(std::move(effects.files));
  if (log_.enabled(Level::info))
    for (const auto id : effects.gone)
      log_.write(LogEvent(Level::info, "removed", to_string(id)).add("by", "administrator"));
}

void Writer::count(const Queue::Counters& counted) {
  counted_.accepted += counted.accepted;
  counted_.delivered += counted.delivered;
  counted_.bounced += counted.bounced;
  counted_.removed += counted.removed;
  counted_.deferrals += counted.deferrals;
  counted_.commits += counted.commits;
}

void Writer::failed(const Error& error, Effects& effects) {
  const bool full = is_full(error);
  if (!full || !room_.is_full())
    log_.write(LogEvent(Level::error, full ? "disk_full" : "storage_failed")
                   .add("reason", error.describe()));
  // Known before anybody hears of the failure.
  room_.set(full ? Admission::disk_low : Admission::failed);
  if (full)
    room_.found_full();
  else
    keeper_.note_failure(error, effects.made);
  ledger_.undo(effects);
  refuse_submissions(full ? no_room() : Error(Errc::storage, "store message"));
  end_changes(error);
  keep_for_later();
  if (!full)
    keeper_.failed();
}

void Writer::refuse_submissions(const Error& error) {
  std::vector<Inbox::Submitted> refused;
  std::swap(refused, work_.submissions);
  for (auto& each : refused)
    each.refused = error;
  if (refused.empty())
    return;
  // Answered at once: they must not wait for what else this batch does.
  std::swap(refused, work_.submissions);
  answer_submissions();
}

void Writer::end_changes(const Error& error) {
  changes_.add(work_.changes);
  changes_.fail(error);
}

// One posted message for each loop, whatever the number of waiters.
void Writer::answer_submissions() {
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

void Writer::keep_for_later() {
  move_to(work_.records, kept_.records);
  move_to(work_.sites, kept_.sites);
  move_to(work_.assignments, kept_.assignments);
  move_to(work_.quarantines, kept_.quarantines);
  move_to(work_.forgotten, kept_.forgotten);
  if (!keeper_.is_open())
    end_changes(Error(Errc::storage, "change the queue"));
}

std::size_t Writer::unrecorded() const {
  return kept_.records.size() + work_.records.size();
}

Queue::Counters Writer::counters() const {
  Queue::Counters counters;
  counters.accepted = counted_.accepted;
  counters.delivered = counted_.delivered;
  counters.bounced = counted_.bounced;
  counters.removed = counted_.removed;
  counters.deferrals = counted_.deferrals;
  counters.commits = counted_.commits;
  return counters;
}

}  // namespace postrider::queue
