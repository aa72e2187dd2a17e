#include "queue/writer/store_keeper.h"

#include "base/regular_file.h"
#include "queue/maintenance/salvage.h"

#include <algorithm>
#include <fcntl.h>
#include <unistd.h>

namespace postrider::queue {

namespace {

constexpr Duration kMarkEvery = std::chrono::minutes(1);
constexpr Duration kMostBackoff = std::chrono::seconds(5);
constexpr Duration kLostAfter = std::chrono::minutes(1);
constexpr Duration kRamp = std::chrono::seconds(6);
constexpr Duration kFirstBackoff = std::chrono::milliseconds(100);

constexpr std::string_view kFactsWanted = "facts";  // in `meta`
constexpr std::string_view kOurs = "PStR";          // application_id in queue/store/schema.cc

// By its first page. Requires: no connection to it is open.
bool is_ours(const std::string& database) {
  constexpr off_t kIdAt = 68;
  const auto file = open_regular_file(database, O_RDONLY);
  char id[kOurs.size()] = {};
  return file && ::pread(file->get(), id, sizeof id, kIdAt) == sizeof id &&
         std::string_view(id, sizeof id) == kOurs;
}

void tell_recovered(Log& log, std::size_t messages) {
  if (messages > 0)
    log.write(LogEvent(Level::info, "recovered").add("messages", messages));
}

}  // namespace

StoreKeeper::StoreKeeper(Spool& spool, mail::MessageIds& ids, Ledger& ledger, const Clock& clock,
                         Log& log)
    : spool_(spool),
      clock_(clock),
      log_(log),
      ids_(ids),
      ledger_(ledger),
      upkeep_(spool.database(), clock, log),
      store_(spool, ledger, upkeep_),
      repairs_(spool, ledger, store_, clock, log) {}

// On a full disk the reserve makes room for a new database, or one of an earlier version.
Result<void> StoreKeeper::open(const char* vfs) {
  auto opened = open_once(vfs);
  if (!opened && is_full(opened.error()) && spool_.give_up_reserve()) {
    store_.close();
    log_.write(LogEvent(Level::error, "disk_full").add("reason", opened.error().describe()));
    opened = open_once(vfs);
  }
  return opened;
}

Result<void> StoreKeeper::open_once(const char* vfs) {
  store_.use(vfs);
  if (is_salvage_unfinished(spool_.folder()))
    return Error(Errc::refused,
                 "open the queue: a salvage of it was cut off; stop the mail system and run "
                 "`postrider queue salvage` again");
  const auto log = check_log(spool_.database() + "-wal");
  auto remains = spool_.keep_remains(log && log->valid_frames > 0);
  if (!remains)
    return remains.error().during("open the queue");
  if (remains->was_here || !remains->log.empty() || !remains->database.empty())
    remains_ = *std::move(remains);
  if (remains_.log.empty())
    look_at_log(log);
  if (auto opened = store_.open(); !opened) {
    if (!is_damage(opened.error()) || !is_ours(spool_.database()))
      return opened.error();
    auto salvaged = repairs_.salvage();
    if (!salvaged || !*salvaged)
      return salvaged ? opened.error() : salvaged.error();
  }
  auto done = begin();
  const bool was_clean = was_clean_;
  const auto needs_salvage = [](const Error& error) {
    return is_damage(error) || is_constraint(error) || error.code() == Errc::corrupt;
  };
  if (done ? repairs_.has_passed_over_too_much() : needs_salvage(done.error())) {
    auto salvaged = repairs_.salvage();
    if (!salvaged)
      return salvaged.error();
    if (*salvaged)
      done = begin();
    was_clean_ = was_clean_ && was_clean;
  }
  if (!done)
    return done.error();
  phase_ = Phase::open;
  return {};
}

// What the database says of the last stop, and what follows from it.
Result<void> StoreKeeper::begin() {
  if (auto done = resume(); !done)
    return done.error();
  auto left = ledger_.facts().left();
  if (!left)
    return left.error();
  facts_ = *std::move(left);
  if (auto done = repairs_.check_figures(); !done)
    return done.error();
  if (!was_clean_) {
    if (auto done = repairs_.check_store(); !done)
      return done.error();
    if (auto done = sweep_bodies(); !done)
      return done.error();
  }
  auto recovered = recover_around_damage();
  if (!recovered && is_full(recovered.error()))
    recovered = recover_when_full(recovered.error());
  if (!recovered)
    return recovered.error();
  tell_recovered(log_, *recovered);
  return {};
}

// In the log's own blocks, or those of the reserve, or later.
Result<std::size_t> StoreKeeper::recover_when_full(const Error& error) {
  log_.write(LogEvent(Level::error, "disk_full").add("reason", error.describe()));
  rolled_back();
  upkeep_.reuse_log();
  auto recovered = recover_around_damage();
  if (!recovered && is_full(recovered.error()) && spool_.give_up_reserve()) {
    rolled_back();
    spool_.reserve_log();
    recovered = recover_around_damage();
  }
  if (recovered || !is_full(recovered.error()))
    return recovered;
  rolled_back();
  owes_recovery_ = true;
  return 0;
}

// Nothing of what was not committed is known or counts as stored.
void StoreKeeper::rolled_back() {
  store_->destinations().forget();
  marked_ = {};
}

Result<void> StoreKeeper::pay_recovery() {
  auto recovered = store_recovery();
  if (!recovered)
    return recovered.error();
  recovered_ = *recovered;
  return {};
}

void StoreKeeper::paid_recovery() {
  owes_recovery_ = false;
  ledger_.look_again();
  tell_recovered(log_, recovered_);
}

// What each turn but the last finds damaged is passed over by the next.
Result<std::size_t> StoreKeeper::recover_around_damage() {
  auto recovered = recover();
  if (!recovered && is_damage(recovered.error())) {  // an index, before a message is blamed
    auto repaired = repairs_.rebuild_indexes(
        is_damage_of_index(recovered.error()) ? Repair::always : Repair::if_unreadable);
    if (!repaired)
      return repaired.error();
    if (*repaired)
      recovered = recover();
  }
  while (!recovered && ledger_.damaged().found()) {  // each time another message is passed over
    store_->destinations().forget();
    recovered = recover();
  }
  return recovered;
}

Result<void> StoreKeeper::resume() {
  auto& meta = store_->meta();
  auto clean = meta.get("clean");
  auto shift = meta.get("shift");
  auto seen = meta.get("seen");
  auto last = meta.get("last_id");
  auto is_new = meta.is_empty();
  auto unfinished = meta.get(kReindexMark);
  auto wanted = meta.get(kFactsWanted);
  for (auto* value : {&clean, &shift, &seen, &last, &unfinished, &wanted})
    if (!*value)
      return value->error().during("open the queue");
  if (!is_new)
    return is_new.error().during("open the queue");
  were_facts_wanted_ = is_wanted_stored_ = *wanted == 1;
  if (*is_new)
    look_for_remains();
  was_clean_ = (*clean != 0 || *is_new) && !log_hides_mail_ && !is_bereft_;
  if (clock_.now().time_since_epoch().count() * 1000 <= *last)
    ids_.continue_after({*last});  // the clock was set back
  ledger_.resume(Duration(*shift), TimePoint(Duration(*seen)), clock_,
                 was_clean_ ? Duration(0) : kRamp);
  if (*unfinished != 0)
    if (auto repaired = repairs_.rebuild_indexes(Repair::always); !repaired)
      return repaired.error();
  return repairs_.check_indexes();
}

// A queue was here and no database is: somebody took it away, or its file system lost it, and the
// mail is known to nobody.
void StoreKeeper::look_for_remains() {
  const auto bodies = spool_.body_names().size();
  const bool is_kept = bodies > 0 || !remains_.log.empty() || !remains_.database.empty();
  if (!is_kept && !remains_.was_here)
    return;
  is_bereft_ = true;
  if (!is_kept)
    spool_.note_in_lost(
        "There was a queue in " + spool_.folder() +
            ", and queue.db was gone or empty when it was opened: its mail is lost unless queue.db "
            "is put back. Remove this file to end the alarm of `postrider status`.",
        clock_.now().time_since_epoch().count() / 1000);
  auto event = LogEvent(Level::error, "queue_missing")
                   .add("bodies", bodies)
                   .add("moved_to", spool_.folder() + "/lost");
  if (!remains_.database.empty())
    event.add("database", remains_.database);
  if (!remains_.log.empty())
    event.add("log", remains_.log);
  event.add("advice",
            "stop the mail system, put queue.db back, its log beside it as queue.db-wal, and the "
            "other files of lost/ into body/, or read those files: each is somebody's mail");
  log_.write(std::move(event));
}

Result<std::size_t> StoreKeeper::recover() {
  auto transaction = store_->begin();
  if (!transaction)
    return transaction.error();
  auto recovered = store_recovery();
  if (!recovered)
    return recovered.error();
  if (auto done = transaction->commit(); !done)
    return done.error();
  return recovered;
}

Result<std::size_t> StoreKeeper::store_recovery() {
  auto recovered = ledger_.intake().recover();
  if (!recovered)
    return recovered.error();
  if (auto done = ledger_.deferring().opened(); !done)
    return done.error();
  if (auto done = store_->meta().set("clean", 0); !done)
    return done.error();
  if (auto done = store_marks(0); !done)
    return done.error();
  marked_ = {};  // the first batch says how far its ids may go
  return recovered;
}

// One transaction that was not finished when the power went is nobody's loss.
void StoreKeeper::look_at_log(const Result<LogCheck>& check) {
  if (!check || check->hidden_commits == 0)
    return;
  log_hides_mail_ = true;
  const bool hides_mail = check->hides_mail();
  auto event = LogEvent(hides_mail ? Level::error : Level::warn, "log_damaged")
                   .add("valid_frames", check->valid_frames)
                   .add("hidden_transactions", check->hidden_commits)
                   .add("bodies", spool_.folder() + "/lost");
  if (hides_mail) {
    const auto kept = spool_.keep_log();
    event.add("copy", kept ? *kept : kept.error().describe());
  }
  log_.write(std::move(event));
}

// A body is synced before its row is stored and removed after it is gone, so a file without a row
// is nobody's.
Result<void> StoreKeeper::sweep_bodies() {
  const auto is_known = [this](const std::string& name) -> Result<bool> {
    const auto id = mail::parse_message_id(name);
    if (!id)
      return false;
    return store_->messages().exists(*id);
  };
  auto kept = store_->meta().get(kStrangersMark);
  if (!kept)
    return kept.error();
  const bool are_lost = log_hides_mail_ || is_bereft_ || *kept != 0;
  auto swept =
      spool_.sweep(is_known, are_lost ? Spool::Unknown::move_aside : Spool::Unknown::remove);
  if (!swept)
    return swept.error().during("sweep stray bodies");
  if (*swept > 0)
    log_.write(LogEvent(are_lost ? Level::error : Level::info, are_lost ? "lost" : "swept")
                   .add("files", *swept));
  return *kept == 0 ? Result<void>() : store_->meta().set(kStrangersMark, 0);
}

bool StoreKeeper::reopen(std::size_t records) {
  if (clock_.steady() < try_again_)
    return false;
  if (auto done = open_again(); !done) {
    log_.write(LogEvent(Level::error, "storage_failed").add("reason", done.error().describe()));
    store_.close();
    backoff_ = std::min(backoff_ * 2, kMostBackoff);
    try_again_ = clock_.steady() + backoff_;
    if (clock_.steady() - failed_since_ >= kLostAfter)
      note_lost();
    return false;
  }
  log_.write(LogEvent(Level::info, "storage_reopened").add("records", records));
  phase_ = Phase::open;
  if (failures_ <= 1)
    is_lost_ = false;
  ledger_.look_again();
  return true;
}

Result<void> StoreKeeper::open_again() {
  store_.close();
  if (readers_.close)
    readers_.close();
  auto done = store_.check_same_file();
  if (done)
    done = store_.open();
  if (done)
    done = repairs_.apply_wanted();
  if (done)
    done = repairs_.check_store();
  if (done)
    done = repairs_.check_indexes();
  if (done)
    done = forget_doubtful();
  if (done)
    done = ledger_.intake().follow_landed();  // what was said to have failed may have moved it
  if (done)
    done = ledger_.deferring().opened();
  if (done && readers_.open)
    done = readers_.open();
  return done;
}

// That it could be opened again proves little: what fails again and again behind that, a row that
// must not be there twice or a page of which nothing can be said, no later attempt will mend. The
// next start may, which salvages (queue/maintenance/salvage.h).
void StoreKeeper::note_failure(const Error& error, const std::vector<mail::MessageId>& made) {
  const auto now = clock_.steady();
  if (++failures_ == 1) {
    failed_since_ = now;
    backoff_ = kFirstBackoff;
  } else {
    backoff_ = std::min(backoff_ * 2, kMostBackoff);
    if (now - failed_since_ >= kLostAfter)
      note_lost();
  }
  if (!repairs_.is_salvage_wanted())
    repairs_.want(is_damage(error) ? Repairs::Remedy::rebuild_indexes : Repairs::Remedy::none);
  doubtful_.insert(doubtful_.end(), made.begin(), made.end());
  try_again_ = now + backoff_;
}

void StoreKeeper::note_lost() {
  if (!is_lost_.exchange(true))
    log_.write(LogEvent(Level::error, "storage_lost")
                   .add("advice", "the process ends so that a fresh one can be started"));
}

void StoreKeeper::failed() {
  phase_ = Phase::failed;
  store_.close();
}

void StoreKeeper::salvage_if_damaged() {
  if (!is_open() || repairs_.is_salvage_wanted() || !repairs_.has_passed_over_too_much())
    return;
  repairs_.want(Repairs::Remedy::salvage);  // when it is opened again, which is at once
  failed_since_ = try_again_ = clock_.steady();
  failed();
}

// A commit that failed may still have reached the disk; its senders were told otherwise.
Result<void> StoreKeeper::forget_doubtful() {
  auto transaction = store_->begin();
  if (!transaction)
    return transaction.error();
  for (const auto id : doubtful_) {
    if (auto done = store_->incoming().remove(id); !done)
      return done.error();
    if (auto done = store_->messages().remove(id); !done)
      return done.error();
  }
  auto facts = ledger_.facts().resolve_doubt();
  if (!facts)
    return facts.error();
  marked_ = {};  // something must be written to know whether it can
  if (auto done = store_marks(0); !done)
    return done.error();
  marked_ = {};
  if (auto done = transaction->commit(); !done)
    return done.error();
  std::move(facts->begin(), facts->end(), std::back_inserter(facts_));
  doubtful_.clear();
  return {};
}

// Where the clock stands and how far ids went, for a start after the clock was set back.
Result<void> StoreKeeper::store_marks(std::int64_t ids_ahead) {
  const auto wall = ledger_.time().wall();
  if (wall - marked_ < kMarkEvery && marked_ <= wall)
    return {};
  auto& meta = store_->meta();
  marked_ = wall;
  const auto last = ids_.next(wall).value + ids_ahead;
  if (auto done = meta.set("seen", wall.time_since_epoch().count()); !done)
    return done.error();
  if (auto done = meta.set("shift", ledger_.time().shift().count()); !done)
    return done.error();
  const bool are_wanted = ledger_.facts().are_wanted();
  if (are_wanted || is_wanted_stored_)
    if (auto done = meta.set(kFactsWanted, are_wanted ? 1 : 0); !done)
      return done.error();
  is_wanted_stored_ = is_wanted_stored_ || are_wanted;
  return meta.set("last_id", last);
}

void StoreKeeper::close(bool are_files_removed) {
  if (!is_open())
    return;
  phase_ = Phase::closed;
  ledger_.observe(clock_);
  // If this fails, the next start takes it for an unclean stop: slower, nothing worse.
  if (!are_files_removed)
    log_.write(
        LogEvent(Level::warn, "stop_not_marked").add("reason", "files in body/ cannot be removed"));
  else if (auto marked = mark_clean(); !marked)
    log_.write(LogEvent(Level::warn, "stop_not_marked").add("reason", marked.error().describe()));
  // What the log has of a full disk is needed at the next start.
  const bool has_room = spool_.has_room(ledger_.settings().room_needed);
  (void)store_.database().checkpoint(has_room ? Checkpoint::truncate : Checkpoint::passive);
  store_.close();
}

Result<void> StoreKeeper::mark_clean() {
  auto transaction = store_->begin();
  if (!transaction)
    return transaction.error();
  marked_ = {};
  if (auto done = ledger_.facts().forget_settled(); !done)
    return done.error();
  if (auto done = store_marks(0); !done)
    return done.error();
  if (auto done = store_->meta().set("clean", 1); !done)
    return done.error();
  return transaction->commit();
}

}  // namespace postrider::queue
