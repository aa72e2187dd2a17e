#include "queue/writer/writer.h"

#include "queue/body_file.h"
#include "queue/row_codec.h"

#include <algorithm>

namespace postrider::queue {

namespace {

constexpr std::int64_t kIdsAhead = 120'000'000;  // microseconds, more than marks are apart
constexpr Duration kRoomCheck = std::chrono::milliseconds(250);
constexpr Duration kLook = std::chrono::seconds(1);  // at the clock, while mail waits
constexpr Duration kSoon = std::chrono::milliseconds(3);
constexpr std::size_t kMany = 64;
constexpr int kMostDamagedAtOnce = 64;
// What changes take of a transaction: as long as its sync, within these.
constexpr std::chrono::microseconds kChangesAtOnce{4000}, kMostChangesAtOnce{20'000};
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

bool Inbox::is_empty() const {
  return submissions.empty() && records.empty() && sites.empty() && assignments.empty() &&
         quarantines.empty() && forgotten.empty() && changes.empty() && settings.empty();
}

bool Inbox::is_urgent() const {
  return !submissions.empty() || !changes.empty() || !settings.empty();
}

bool Inbox::is_many() const {
  return records.size() >= kMany;
}

void Inbox::clear() {
  submissions.clear();
  records.clear();
  sites.clear();
  assignments.clear();
  quarantines.clear();
  forgotten.clear();
  changes.clear();
  settings.clear();
}

Writer::Writer(Spool& spool, mail::MessageIds& ids, QueueSettings settings, const Clock& clock,
               Log& log)
    : spool_(spool),
      clock_(clock),
      log_(log),
      ids_(ids),
      ledger_(spool, std::move(settings), log),
      lifetime_(ledger_.settings().lifetime.count()) {}

Writer::~Writer() {
  stop();
}

void Writer::start(Consumer* consumer) {
  consumer_ = consumer;
  ledger_.set_consumer(consumer != nullptr);
  checks_.emplace(1U);
  thread_ = std::thread([this] { run(); });
}

void Writer::stop() {
  set_admission(Admission::stopping);
  if (thread_.joinable()) {
    give([this](Inbox&) {
      stopping_ = true;
      return Urgency::now;
    });
    thread_.join();
  }
  ending_ = true;
  checks_.reset();
  if (is_open_ && !kept_.is_empty())
    process();  // once more: perhaps there is room now
  end_changes(Error(Errc::stopped, "change the queue"));
  close();
}

void Writer::look_again() {
  give([this](Inbox&) {
    look_ = true;
    return Urgency::now;
  });
}

void Writer::run() {
  while (wait())
    process();
}

Duration Writer::most_sleep() const {
  if (!is_open_ || store_is_full_ || !has_room_)
    return kRoomCheck;
  if (!checkpointed_ || wants_vacuum_)
    return kIdle;
  const auto due = ledger_.next_due();
  if (!ledger_.has_consumer() || due == kNever)
    return Duration::max();
  return std::clamp(Duration(due - ledger_.now()), Duration(1), kLook);
}

bool Writer::wait() {
  const Duration most = most_sleep();
  work_.clear();
  std::unique_lock lock(mutex_);
  is_idle_ = false;
  const auto is_awake = [this] { return sleep_ == Sleep::awake; };
  const bool has_work = is_open_ && (ledger_.is_work_due() || !changing_.empty());
  if (inbox_.is_empty() && !stopping_ && !look_ && !has_work) {
    sleep_ = Sleep::deep;
    if (most == Duration::max())
      wake_.wait(lock, is_awake);
    else
      is_idle_ = !wake_.wait_for(lock, most, is_awake);
  }
  if (!is_idle_ && !stopping_ && !look_ && !inbox_.is_urgent() && !inbox_.is_many() &&
      changing_.empty()) {
    sleep_ = Sleep::light;
    wake_.wait_for(lock, kSoon, is_awake);
  }
  sleep_ = Sleep::awake;
  std::swap(inbox_, work_);
  if (std::exchange(look_, false))
    ledger_.look_again();
  return !stopping_ || !work_.is_empty();
}

void Writer::process() {
  ledger_.observe(clock_);
  take_settings();
  check_room();
  if (!is_open_)
    reopen();
  if (!is_open_ || !has_room_ || store_is_full_)
    refuse_submissions(is_open_ ? no_room() : Error(Errc::storage, "store message"));
  bool is_stored = false;
  if (is_open_) {
    Effects effects;
    auto done = check_files();
    if (done)
      done = sync_notices();
    if (done)
      done = transact_around_damage(effects);
    is_stored = done.has_value();
    if (is_stored)
      committed(effects);
    else
      failed(done.error(), effects);
    if (is_open_ && !wants_salvage_ && has_passed_over_too_much()) {
      wants_salvage_ = true;  // when it is opened again, which is at once
      is_open_ = false;
      failed_since_ = try_again_ = clock_.steady();
      drop_store();
    }
  } else {
    keep_for_later();
  }
  answer();
  if (is_stored && is_open_)
    maintain_after_commit();
  if (is_idle_ && is_open_)
    maintain_idle();
  if (is_open_)
    give_back_room();
}

void Writer::take_settings() {
  for (auto& settings : work_.settings) {
    ledger_.adopt(std::move(settings));
    lifetime_ = ledger_.settings().lifetime.count();
  }
  work_.settings.clear();
}

bool Writer::is_anything_to_store() const {
  return !work_.is_empty() || !kept_.is_empty() || store_is_full_ || !changing_.empty() ||
         ledger_.is_work_due();
}

// Each turn but the last finds one damaged message that was not known before.
Result<void> Writer::transact_around_damage(Effects& effects) {
  for (int turn = 0;; ++turn) {
    const auto marked = marked_;
    std::vector<ChangeRun::Place> places;
    for (const auto& each : changing_)
      places.push_back(each.run.place());
    auto done = transact(effects);
    if (done)
      ledger_.damaged().committed();
    else if (ledger_.damaged().found() && turn < kMostDamagedAtOnce) {
      ledger_.undo(effects);
      marked_ = marked;
      places.resize(changing_.size());  // those that began now begin again
      for (std::size_t i = 0; i < places.size(); ++i)
        changing_[i].run.return_to(places[i]);
      continue;
    }
    return done;
  }
}

Result<void> Writer::transact(Effects& effects) {
  if (!is_anything_to_store())
    return {};
  auto transaction = store_->begin();
  if (!transaction)
    return transaction.error();
  if (store_is_full_)
    marked_ = {};  // something must be written to know whether it can
  if (auto done = store_inbox(effects); !done)
    return done.error();
  if (ledger_.is_work_due())
    if (auto done = ledger_.leasing().lease_due(effects); !done)
      return done.error().during("find due mail");
  if (auto done = store_marks(kIdsAhead); !done)
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
      if (auto done = store_->destinations().assign_site(assignment.domain, assignment.site); !done)
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
      if (auto done = store_->dropped().forget(drop_id); !done)
        return done.error().during("forget dropped file");
  }
  for (auto& each : work_.submissions)
    if (auto done = store_submission(each, effects); !done)
      return done.error().during("store message");
  return go_on_changing(effects);
}

Writer::ChangeUnderWay::ChangeUnderWay(Inbox::Change change, TimePoint wall, Log& log)
    : run(change.verb, change.filter, change.dry_run, wall),
      told(std::make_shared<ChangeTold>(change.verb, std::move(change.filter), change.dry_run,
                                        std::move(change.actor), std::move(change.on_done), log)) {}

// Somebody may be waiting for this transaction: all changes together take a few milliseconds of it,
// or where the disk is slow, as long as he waits for that.
Result<void> Writer::go_on_changing(Effects& effects) {
  for (auto& change : work_.changes)
    changing_.emplace_back(std::move(change), ledger_.time().wall(), log_);
  work_.changes.clear();
  const auto most = std::clamp(commit_took_, kChangesAtOnce, kMostChangesAtOnce) /
                    std::max<std::size_t>(changing_.size(), 1);
  for (auto& each : changing_) {
    if (!each.run.has_begun)
      if (auto done = ledger_.changing().begin(each.run, ids_.next(clock_.now()).value); !done)
        return done.error().during("change the queue");
    if (auto done = ledger_.changing().change_on(each.run, most, effects); !done)
      return done.error().during("change the queue");
  }
  return {};
}

Result<void> Writer::store_submission(Inbox::Submitted& each, Effects& effects) {
  const auto& submission = each.submission;
  each.waiting->id = submission.message->id;
  if (!submission.drop_id.empty()) {
    auto known = store_->dropped().find(submission.drop_id);
    if (!known)
      return known.error();
    if (known->has_value()) {
      each.waiting->id = **known;
      return {};
    }
  }
  if (auto done = ledger_.intake().submit(submission.message, each.head, effects, each.refused);
      !done)
    return done.error();
  if (!each.refused)
    return {};
  ++effects.counted.accepted;
  if (submission.drop_id.empty())
    return {};
  return store_->dropped().add(submission.drop_id, submission.message->id);
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
  counted_.accepted += effects.counted.accepted;
  counted_.delivered += effects.counted.delivered;
  counted_.bounced += effects.counted.bounced;
  counted_.removed += effects.counted.removed;
  counted_.deferrals += effects.counted.deferrals;
  counted_.commits += effects.counted.commits;
  if (std::exchange(store_is_full_, false))
    check_room();
  for (auto& event : effects.told)
    log_.write(std::move(event));
  hand_out(effects);
  if (!effects.files.empty())
    removals_.post([this, files = std::move(effects.files)] {
      (void)spool_.remove_left();  // the disk may have recovered
      for (const auto& name : files)
        spool_.remove_body(name);
    });
  if (log_.enabled(Level::info))
    for (const auto id : effects.gone)
      log_.write(LogEvent(Level::info, "removed", to_string(id)).add("by", "administrator"));
}

// Large content is read once before it goes out: elsewhere, so that nobody waits for the disk.
void Writer::hand_out(Effects& effects) {
  for (const auto& check : effects.checks) {
    const auto at = std::find_if(effects.leases.begin(), effects.leases.end(),
                                 [&](const auto& lease) { return lease.message->id == check.id; });
    if (at == effects.leases.end())
      continue;
    checks_->post([this, lease = std::move(*at), checksum = check.checksum]() mutable {
      check_body(std::move(lease), checksum);
    });
    effects.leases.erase(at);
  }
  if (!effects.leases.empty())
    consumer_->take(std::move(effects.leases));
}

// On a thread of the pool.
void Writer::check_body(Lease lease, std::uint32_t checksum) {
  auto read = spool_.checksum_of_body(*lease.message, ending_);
  if (ending_)
    return;  // the next start leases it again
  if (read && *read == checksum) {
    std::vector<Lease> one;
    one.push_back(std::move(lease));
    consumer_->take(std::move(one));
    return;
  }
  Record back;
  back.id = lease.message->id;
  for (const auto& recipient : lease.recipients)
    back.untried.push_back(recipient.index);
  const bool is_damaged = read ? true : read.error().code() == Errc::corrupt;
  if (!is_damaged)
    log_.write(LogEvent(Level::warn, "content_unreadable", to_string(back.id))
                   .add("reason", read.error().describe()));
  give([&](Inbox& inbox) {
    if (is_damaged)
      inbox.quarantines.push_back({back.id, read ? "the content is not what was stored (checksum)"
                                                 : read.error().describe()});
    inbox.records.push_back(std::move(back));
    return Urgency::soon;
  });
}

void Writer::failed(const Error& error, Effects& effects) {
  const bool full = is_full(error);
  if (!full || !store_is_full_)
    log_.write(LogEvent(Level::error, full ? "disk_full" : "storage_failed")
                   .add("reason", error.describe()));
  // Known before anybody hears of the failure.
  set_admission(full ? Admission::disk_low : Admission::failed);
  if (full) {
    store_is_full_ = true;
    spool_.give_up_reserve();
  } else {
    failed_since_ = clock_.steady();
    wants_repair_ = is_damage(error);
    doubtful_.insert(doubtful_.end(), effects.made.begin(), effects.made.end());
    backoff_ = std::chrono::milliseconds(100);
    try_again_ = clock_.steady() + backoff_;
  }
  ledger_.undo(effects);
  refuse_submissions(full ? no_room() : Error(Errc::storage, "store message"));
  end_changes(error);
  keep_for_later();
  if (!full) {
    is_open_ = false;
    drop_store();
  }
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

void Writer::answer() {
  answer_submissions();
  answer_changes();
}

// The latest pieces were committed.
void Writer::answer_changes() {
  for (auto& each : changing_) {
    if (!each.run.picked.empty() && consumer_ != nullptr)
      each.told->ask(*consumer_, std::move(each.run.picked), each.run.piece);
    else
      each.told->add(each.run.piece);
    each.run.piece = {};
    each.run.picked.clear();
    if (each.run.is_done)
      each.told->finish();
  }
  std::erase_if(changing_, [](const auto& each) { return each.run.is_done; });
}

void Writer::end_changes(const Error& error) {
  for (auto& change : work_.changes)
    changing_.emplace_back(std::move(change), ledger_.time().wall(), log_);
  work_.changes.clear();
  for (auto& each : changing_)
    each.told->fail(error);
  changing_.clear();
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
  if (!is_open_)
    end_changes(Error(Errc::storage, "change the queue"));
}

void Writer::check_room() {
  const auto now = clock_.steady();
  if (now < room_checked_ + kRoomCheck)
    return;
  room_checked_ = now;
  has_room_ = spool_.has_room(ledger_.settings().room_needed);
  if (is_open_)
    set_admission(has_room_ && !store_is_full_ ? Admission::open : Admission::disk_low);
  if (has_room_ && !store_is_full_)
    spool_.make_reserve();
}

void Writer::set_admission(Admission admission) {
  // Stopping is for good.
  auto known = admission_.load();
  while (known != Admission::stopping && known != admission &&
         !admission_.compare_exchange_weak(known, admission)) {
  }
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
