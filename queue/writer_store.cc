// Opening, checking, checkpointing and closing the database of the queue thread.
#include "queue/log_check.h"
#include "queue/salvage.h"
#include "queue/writer.h"

#include <algorithm>
#include <future>

namespace postrider::queue {

namespace {

constexpr int kCheckpointPages = 4096;  // 16 MiB of WAL: then its pages go to the database
// Each commit writes the same few pages again, and SQLite's index of the WAL looks past all earlier
// copies of a page to enter one more. So short commits are gathered for a checkpoint sooner.
constexpr int kCheckpointCommits = 256;
constexpr int kTruncatePages = 32768;  // a WAL that a long reader let grow is cut when idle
constexpr std::int64_t kCheckedAtOnce = 32768;  // pages; a larger database is not read at start
constexpr std::int64_t kWorthVacuum = 1024;     // free pages
// Room is given back between transactions, where a client may be waiting, at most every so often
// and for about so long. SQLite looks for each page in the whole list of free ones, which takes
// milliseconds where gigabytes are free: so a step is as many pages as were quick the last time.
constexpr Duration kVacuumEvery = std::chrono::milliseconds(100);
constexpr std::chrono::microseconds kVacuumStep{4000};
constexpr std::int64_t kMostVacuumPages = 1024;
// What is left of a queue that was long is written anew instead, which costs what is left and not
// what is free.
constexpr std::int64_t kRebuildPages = 512;
constexpr Duration kMarkEvery = std::chrono::minutes(1);
constexpr Duration kMostBackoff = std::chrono::seconds(5);
constexpr Duration kLostAfter = std::chrono::minutes(1);
constexpr Duration kRamp = std::chrono::seconds(6);

}  // namespace

// On a full disk the reserve makes room for what a start writes.
Result<void> Writer::open(const char* vfs) {
  auto opened = open_once(vfs);
  if (!opened && is_full(opened.error()) && spool_.give_up_reserve()) {
    custody_.store = Store();
    log_.write(LogEvent(Level::error, "disk_full").add("reason", opened.error().describe()));
    opened = open_once(vfs);
  }
  return opened;
}

Result<void> Writer::open_once(const char* vfs) {
  vfs_ = vfs;
  if (is_salvage_unfinished(spool_.folder()))
    return Error(Errc::refused,
                 "open the queue: a salvage of it was cut off; stop the mail system and run "
                 "`postrider queue salvage` again");
  look_at_log();
  if (auto done = open_store(); !done)
    return done.error();
  auto& store = custody_.store;
  auto clean = store.meta("clean");
  auto shift = store.meta("shift");
  auto seen = store.meta("seen");
  auto last = store.meta("last_id");
  auto used = store.database().value("SELECT EXISTS(SELECT 1 FROM meta)");
  for (auto* value : {&clean, &shift, &seen, &last, &used})
    if (!*value)
      return value->error().during("open the queue");
  was_clean_ = (*clean != 0 || *used == 0) && !log_hides_mail_;
  if (clock_.now().time_since_epoch().count() * 1000 <= *last)
    ids_.continue_after({*last});  // the clock was set back
  custody_.steady_now = clock_.steady();
  custody_.time.resume(Duration(*shift), TimePoint(Duration(*seen)), clock_.now(), clock_.steady());
  if (!was_clean_)
    custody_.ramp_until = clock_.steady() + kRamp;
  if (!was_clean_) {
    if (auto done = check_store(); !done)
      return done.error();
    if (auto done = sweep_bodies(); !done)
      return done.error();
  }

  auto recovered = recover();
  while (!recovered && custody_.found_damage()) {  // each time another message is passed over
    store.forget();
    recovered = recover();
  }
  if (!recovered)
    return recovered.error();
  if (*recovered > 0)
    log_.write(LogEvent(Level::info, "recovered").add("messages", *recovered));
  is_open_ = true;
  check_room();
  return {};
}

Result<std::size_t> Writer::recover() {
  auto& store = custody_.store;
  auto transaction = Transaction::begin(store.database());
  if (!transaction)
    return transaction.error();
  auto recovered = custody_.recover();
  if (!recovered)
    return recovered.error();
  if (auto done = store.set_meta("clean", 0); !done)
    return done.error();
  if (auto done = store_marks(0); !done)
    return done.error();
  if (auto done = transaction->commit(); !done)
    return done.error();
  return recovered;
}

// One transaction that was not finished when the power went is nobody's loss.
void Writer::look_at_log() {
  const auto check = check_log(spool_.database() + "-wal");
  if (!check || check->hidden_commits == 0)
    return;
  log_hides_mail_ = true;
  log_.write(LogEvent(check->hidden_commits > 1 ? Level::error : Level::warn, "log_damaged")
                 .add("valid_frames", check->valid_frames)
                 .add("hidden_transactions", check->hidden_commits)
                 .add("bodies", spool_.folder() + "/lost"));
}

Result<void> Writer::open_store() {
  auto store = Store::open(spool_.database(), vfs_, custody_.leases);
  if (!store && is_damage(store.error()))
    return store.error().during("open the queue, which is damaged (`postrider queue salvage`)");
  if (!store)
    return store.error().during("open the queue");
  custody_.store = *std::move(store);
  sqlite3_wal_hook(custody_.store.database().handle(), &Writer::on_wal, this);
  checkpointed_ = false;
  remember_files();
  return {};
}

int Writer::on_wal(void* writer, sqlite3*, const char*, int pages) {
  static_cast<Writer*>(writer)->wal_pages_ = pages;
  return SQLITE_OK;
}

// Everything if that is quick. Of a large database only the small tables: the content is not worth
// a minute's wait, damage there shows when it is read and holds that message alone.
Result<void> Writer::check_store() {
  auto& database = custody_.store.database();
  const auto pages = database.value("PRAGMA page_count");
  if (!pages)
    return pages.error();
  auto words = database.text(*pages <= kCheckedAtOnce ? "PRAGMA quick_check(1)"
                                                      : "PRAGMA quick_check(incoming)");
  if (!words)
    return words.error().during("check the queue");
  // What is damaged shows again when it is read, and holds up that message alone.
  if (*words != "ok")
    log_.write(LogEvent(Level::error, "database_damaged").add("reason", *words));
  return {};
}

// A body is synced before its row is stored and removed after it is gone, so a file without a row
// is nobody's.
Result<void> Writer::sweep_bodies() {
  const auto is_known = [this](const std::string& name) -> Result<bool> {
    const auto id = mail::parse_message_id(name);
    if (!id)
      return false;
    return custody_.store.exists(*id);
  };
  auto swept =
      spool_.sweep(is_known, log_hides_mail_ ? Spool::Unknown::move_aside : Spool::Unknown::remove);
  if (!swept)
    return swept.error().during("sweep stray bodies");
  if (*swept == 0)
    return {};
  log_.write(
      LogEvent(log_hides_mail_ ? Level::error : Level::info, log_hides_mail_ ? "lost" : "swept")
          .add("files", *swept));
  return {};
}

void Writer::reopen() {
  if (clock_.steady() < try_again_)
    return;
  if (auto done = open_again(); !done) {
    log_.write(LogEvent(Level::error, "storage_failed").add("reason", done.error().describe()));
    custody_.store = Store();
    backoff_ = std::min(backoff_ * 2, kMostBackoff);
    try_again_ = clock_.steady() + backoff_;
    if (clock_.steady() - failed_since_ >= kLostAfter && !is_lost_.exchange(true))
      log_.write(LogEvent(Level::error, "storage_lost")
                     .add("advice", "the process ends so that a fresh one can be started"));
    return;
  }
  log_.write(LogEvent(Level::info, "storage_reopened").add("records", kept_.records.size()));
  is_open_ = true;
  is_lost_ = false;
  custody_.look_again();
  room_checked_ = {};
  check_room();
}

Result<void> Writer::open_again() {
  custody_.store = Store();
  if (readers_.close)
    readers_.close();
  // A new file must not take the place of one that is gone.
  auto identity = Spool::identity_of(spool_.database());
  if (!identity)
    return identity.error();
  if (*identity != database_file_)
    return Error(Errc::storage, "open the queue: another file has taken the place of queue.db");
  auto done = open_store();
  if (done)
    done = check_store();
  if (done)
    done = forget_doubtful();
  if (done && readers_.open)
    done = readers_.open();
  return done;
}

void Writer::remember_files() {
  if (auto identity = Spool::identity_of(spool_.database()))
    database_file_ = *identity;
  if (auto identity = Spool::identity_of(spool_.database() + "-wal"))
    log_file_ = *identity;
}

// What is written into files that somebody removed is lost with this process.
Result<void> Writer::check_files() const {
  const std::pair<std::string, FileIdentity> files[] = {{spool_.database(), database_file_},
                                                        {spool_.database() + "-wal", log_file_}};
  bool are_there = true;
  for (const auto& [path, known] : files) {
    const auto now = Spool::identity_of(path);
    if (now ? *now != known : now.error().code() == boost::system::errc::no_such_file_or_directory)
      are_there = false;
  }
  if (are_there)
    return {};
  return Error(Errc::storage, "the files of the queue were removed or replaced");
}

// A commit that failed may still have reached the disk; its senders were told otherwise.
Result<void> Writer::forget_doubtful() {
  if (doubtful_.empty())
    return {};
  auto transaction = Transaction::begin(custody_.store.database());
  if (!transaction)
    return transaction.error();
  for (const auto id : doubtful_) {
    if (auto done = custody_.store.delete_incoming(id); !done)
      return done.error();
    if (auto done = custody_.store.delete_message(id); !done)
      return done.error();
  }
  if (auto done = transaction->commit(); !done)
    return done.error();
  doubtful_.clear();
  return {};
}

// Where the clock stands and how far ids went, for a start after the clock was set back.
Result<void> Writer::store_marks(std::int64_t ids_ahead) {
  const auto wall = custody_.time.wall();
  if (wall - marked_ < kMarkEvery && marked_ <= wall)
    return {};
  auto& store = custody_.store;
  marked_ = wall;
  const auto last = ids_.next(wall).value + ids_ahead;
  if (auto done = store.set_meta("seen", wall.time_since_epoch().count()); !done)
    return done.error();
  if (auto done = store.set_meta("shift", custody_.time.shift().count()); !done)
    return done.error();
  return store.set_meta("last_id", last);
}

void Writer::maintain_after_commit() {
  if (wal_pages_ > 0)
    checkpointed_ = false;
  if (wal_pages_ < kCheckpointPages && ++wal_commits_ < kCheckpointCommits)
    return;
  sqlite3_wal_checkpoint_v2(custody_.store.database().handle(), nullptr, SQLITE_CHECKPOINT_PASSIVE,
                            nullptr, nullptr);
  wal_pages_ = 0;
  wal_commits_ = 0;
}

void Writer::maintain_idle() {
  auto& database = custody_.store.database();
  if (!checkpointed_) {
    const int mode =
        wal_pages_ > kTruncatePages ? SQLITE_CHECKPOINT_TRUNCATE : SQLITE_CHECKPOINT_PASSIVE;
    sqlite3_wal_checkpoint_v2(database.handle(), nullptr, mode, nullptr, nullptr);
    checkpointed_ = true;
    wal_pages_ = 0;
    wal_commits_ = 0;
  }
}

void Writer::give_back_room() {
  const auto now = clock_.steady();
  if (now < vacuum_again_)
    return;
  vacuum_again_ = now + kVacuumEvery;
  auto& database = custody_.store.database();
  const auto free = database.value("PRAGMA freelist_count");
  const auto pages = database.value("PRAGMA page_count");
  wants_vacuum_ = free && pages && *free >= kWorthVacuum && *free >= *pages / 4;
  if (!wants_vacuum_)
    return;
  const auto begun = std::chrono::steady_clock::now();
  const std::string step = *pages - *free <= kRebuildPages
                               ? "VACUUM"
                               : "PRAGMA incremental_vacuum(" + std::to_string(vacuum_pages_) + ")";
  const auto done = database.execute(step.c_str());
  const auto took = std::chrono::steady_clock::now() - begun;
  if (took > kVacuumStep)
    vacuum_pages_ = std::max<std::int64_t>(vacuum_pages_ / 2, 1);
  else if (took < kVacuumStep / 2)
    vacuum_pages_ = std::min(vacuum_pages_ * 2, kMostVacuumPages);
  if (done)
    checkpointed_ = false;
}

void Writer::close() {
  if (!is_open_)
    return;
  is_open_ = false;
  custody_.time.observe(clock_.now(), clock_.steady());
  // If this fails, the next start takes it for an unclean stop: slower, nothing worse. So it does
  // when files of messages that have ended could not be removed: it removes them.
  if (!finish_removals())
    log_.write(
        LogEvent(Level::warn, "stop_not_marked").add("reason", "files in body/ cannot be removed"));
  else if (auto marked = mark_clean(); !marked)
    log_.write(LogEvent(Level::warn, "stop_not_marked").add("reason", marked.error().describe()));
  sqlite3_wal_checkpoint_v2(custody_.store.database().handle(), nullptr, SQLITE_CHECKPOINT_TRUNCATE,
                            nullptr, nullptr);
  custody_.store = Store();
}

bool Writer::finish_removals() {
  std::promise<bool> removed;
  removals_.post([&] { removed.set_value(spool_.remove_left()); });  // behind all the others
  return removed.get_future().get();
}

Result<void> Writer::mark_clean() {
  auto transaction = Transaction::begin(custody_.store.database());
  if (!transaction)
    return transaction.error();
  marked_ = {};
  if (auto done = store_marks(0); !done)
    return done.error();
  if (auto done = custody_.store.set_meta("clean", 1); !done)
    return done.error();
  return transaction->commit();
}

}  // namespace postrider::queue
