// Opening, checking, checkpointing and closing the database of the queue thread.
#include "base/file.h"
#include "queue/maintenance/salvage.h"
#include "queue/store/free_list.h"
#include "queue/store/index_repair.h"
#include "queue/store/log_check.h"
#include "queue/writer/writer.h"

#include <algorithm>
#include <dirent.h>
#include <fcntl.h>
#include <future>
#include <memory>
#include <sys/stat.h>
#include <unistd.h>

namespace postrider::queue {

namespace {

constexpr int kCheckpointPages = 4096;  // 16 MiB of WAL: then its pages go to the database
// Each commit writes the same few pages again, and SQLite's index of the WAL looks past all earlier
// copies of a page to enter one more. So short commits are gathered for a checkpoint sooner.
constexpr int kCheckpointCommits = 256;
constexpr int kTruncatePages = 32768;  // a WAL that a long reader let grow is cut when idle
constexpr std::int64_t kCheckedAtOnce = 32768;  // pages; a larger database is not read at start
// These are also compared with their indexes, which takes several times as long.
constexpr std::int64_t kComparedAtOnce = 8192;
constexpr Duration kRepairEvery = std::chrono::minutes(10);
constexpr std::int64_t kSalvagedAtOnce = 131072;  // pages: some ten seconds
constexpr std::size_t kMostDamagedFolders = 3;
constexpr std::size_t kMostPassedOver = 64;  // more than have rows on one page
constexpr std::int64_t kWorthVacuum = 1024;  // free pages
// Room is given back between transactions, where a client may be waiting, at most every so often
// and for about so long.
constexpr Duration kVacuumEvery = std::chrono::milliseconds(100);
constexpr std::chrono::microseconds kVacuumStep{4000};
constexpr std::int64_t kMostVacuumPages = 2048;
// Where so few pages take longer, SQLite looks for each in a long list: it is sorted.
constexpr std::int64_t kFewPages = 64;
constexpr std::int64_t kWorthSorting = 4096;
constexpr Duration kSortEvery = std::chrono::seconds(5);
// The end of a file is cut off in pieces: some file systems take long for gigabytes.
constexpr std::int64_t kMostCutAtOnce = 8192;
constexpr Duration kMarkEvery = std::chrono::minutes(1);
constexpr Duration kMostBackoff = std::chrono::seconds(5);
constexpr Duration kLostAfter = std::chrono::minutes(1);
constexpr Duration kRamp = std::chrono::seconds(6);

constexpr std::int64_t kPageSize = 4096;
constexpr std::string_view kOurs = "PStR";  // application_id in queue/store/schema.cc

// By the length of its file.
std::int64_t pages_of(const std::string& database) {
  struct stat about {};
  return ::stat(database.c_str(), &about) == 0 ? about.st_size / kPageSize : 0;
}

// By its first page. Requires: no connection to it is open.
bool is_ours(const std::string& database) {
  constexpr off_t kIdAt = 68;
  const auto file = open_file(database, O_RDONLY | O_NOFOLLOW);
  char id[kOurs.size()] = {};
  return file && ::pread(file->get(), id, sizeof id, kIdAt) == sizeof id &&
         std::string_view(id, sizeof id) == kOurs;
}

struct CloseFolder {
  void operator()(DIR* folder) const { ::closedir(folder); }
};

// Folders of databases that were damaged and have been salvaged.
std::size_t damaged_folders(const std::string& spool) {
  std::size_t found = 0;
  const std::unique_ptr<DIR, CloseFolder> folder(::opendir(spool.c_str()));
  while (const dirent* entry = folder ? ::readdir(folder.get()) : nullptr)
    found += std::string_view(entry->d_name).starts_with("damaged-") ? 1 : 0;
  return found;
}

}  // namespace

// On a full disk the reserve makes room for what a start writes.
Result<void> Writer::open(const char* vfs) {
  auto opened = open_once(vfs);
  if (!opened && is_full(opened.error()) && spool_.give_up_reserve()) {
    drop_store();
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
  if (auto opened = open_store(); !opened) {
    if (!is_damage(opened.error()) || !is_ours(spool_.database()))
      return opened.error();
    auto salvaged = salvage_store();
    if (!salvaged || !*salvaged)
      return salvaged ? opened.error() : salvaged.error();
  }
  auto done = begin();
  const bool was_clean = was_clean_;
  if (done ? has_passed_over_too_much() : is_damage(done.error())) {
    auto salvaged = salvage_store();
    if (!salvaged)
      return salvaged.error();
    if (*salvaged)
      done = begin();
    was_clean_ = was_clean_ && was_clean;
  }
  if (!done)
    return done.error();
  is_open_ = true;
  check_room();
  return {};
}

// What the database says of the last stop, and what follows from it.
Result<void> Writer::begin() {
  if (auto done = resume(); !done)
    return done.error();
  if (auto done = look_at_figures(); !done)
    return done.error();
  if (!was_clean_) {
    if (auto done = check_store(); !done)
      return done.error();
    if (auto done = sweep_bodies(); !done)
      return done.error();
  }
  auto recovered = recover();
  if (!recovered && is_damage(recovered.error())) {  // an index, before a message is blamed
    auto repaired = repair_indexes(is_damage_of_index(recovered.error()) ? Repair::always
                                                                         : Repair::if_unreadable);
    if (!repaired)
      return repaired.error();
    if (*repaired)
      recovered = recover();
  }
  while (!recovered && ledger_.damaged().found()) {  // each time another message is passed over
    store_->destinations().forget();
    recovered = recover();
  }
  if (!recovered)
    return recovered.error();
  if (*recovered > 0)
    log_.write(LogEvent(Level::info, "recovered").add("messages", *recovered));
  return {};
}

Result<void> Writer::resume() {
  auto& store = *store_;
  auto clean = store.meta().get("clean");
  auto shift = store.meta().get("shift");
  auto seen = store.meta().get("seen");
  auto last = store.meta().get("last_id");
  auto is_new = store.meta().is_empty();
  auto unfinished = store.meta().get(kReindexMark);
  for (auto* value : {&clean, &shift, &seen, &last, &unfinished})
    if (!*value)
      return value->error().during("open the queue");
  if (!is_new)
    return is_new.error().during("open the queue");
  was_clean_ = (*clean != 0 || *is_new) && !log_hides_mail_;
  if (clock_.now().time_since_epoch().count() * 1000 <= *last)
    ids_.continue_after({*last});  // the clock was set back
  ledger_.resume(Duration(*shift), TimePoint(Duration(*seen)), clock_,
                 was_clean_ ? Duration(0) : kRamp);
  if (*unfinished != 0)
    if (auto repaired = repair_indexes(Repair::always); !repaired)
      return repaired.error();
  return {};
}

// What only the tools for people read would be found damaged by them, who repair nothing.
Result<void> Writer::look_at_figures() {
  const auto look = [this]() -> Result<void> {
    for (const char* sql : {"SELECT count(*) FROM message INDEXED BY message_damaged"
                            " WHERE damaged = 1",
                            "SELECT total(messages) FROM tally"})
      if (auto read = store_->database().text(sql); !read)
        return read.error().during("read the queue's figures");
    return {};
  };
  auto done = look();
  if (!done && is_damage(done.error())) {
    if (auto repaired = repair_indexes(Repair::always); !repaired)
      return repaired.error();
    done = look();
  }
  return done;
}

Result<std::size_t> Writer::recover() {
  auto& store = *store_;
  auto transaction = store.begin();
  if (!transaction)
    return transaction.error();
  auto recovered = ledger_.intake().recover();
  if (!recovered)
    return recovered.error();
  if (auto done = store.meta().set("clean", 0); !done)
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

void Writer::drop_store() {
  ledger_.use(nullptr);
  store_.reset();
}

Result<void> Writer::open_store() {
  auto store = SqliteStore::open(spool_.database(), vfs_, ledger_.leases());
  if (!store && is_damage(store.error()))
    return store.error().during("open the queue, which is damaged (`postrider queue salvage`)");
  if (!store)
    return store.error().during("open the queue");
  store_ = *std::move(store);
  ledger_.use(store_.get());
  sqlite3_wal_hook(store_->database().handle(), &Writer::on_wal, this);
  checkpointed_ = false;
  remember_files();
  return {};
}

int Writer::on_wal(void* writer, sqlite3*, const char*, int pages) {
  auto& self = *static_cast<Writer*>(writer);
  self.wal_pages_ = pages;
  ++self.wal_commits_;
  return SQLITE_OK;
}

// Everything if that is quick. Of a large database only the small tables: the content is not worth
// a minute's wait, damage there shows when it is read and holds that message alone.
Result<void> Writer::check_store() {
  auto& database = store_->database();
  const auto pages = database.value("PRAGMA page_count");
  if (!pages)
    return pages.error();
  const char* check = *pages <= kComparedAtOnce  ? "PRAGMA integrity_check(1)"
                      : *pages <= kCheckedAtOnce ? "PRAGMA quick_check(1)"
                                                 : "PRAGMA quick_check(incoming)";
  auto words = database.text(check);
  if (!words)
    return words.error().during("check the queue");
  if (*words == "ok")
    return {};
  // What else is damaged shows again when it is read, and holds up that message alone.
  log_.write(LogEvent(Level::error, "database_damaged").add("reason", *words));
  auto repaired =
      repair_indexes(*pages <= kComparedAtOnce ? Repair::always : Repair::if_unreadable);
  return repaired ? Result<void>() : repaired.error();
}

// Requires: no reader is open. True: what failed before may go well now. An error: the queue could
// not be opened again.
Result<bool> Writer::repair_indexes(Repair when) {
  wants_repair_ = false;
  if (clock_.steady() < repair_again_)
    return false;
  repair_again_ = clock_.steady() + kRepairEvery;
  drop_store();
  const auto done = rebuild_indexes(spool_.database(), vfs_, when);
  if (done && *done)
    log_.write(LogEvent(Level::warn, "indexes_rebuilt"));
  else if (!done)
    log_.write(LogEvent(Level::error, "indexes_not_rebuilt")
                   .add("reason", done.error().describe())
                   .add("advice", "where mail is held up, `postrider queue salvage`"));
  if (auto opened = open_store(); !opened)
    return opened.error();
  const bool is_rebuilt = done && *done;
  if (is_rebuilt)
    ledger_.damaged().forget();
  return is_rebuilt;
}

// A bad page of a table's own tree takes with it what stands below that page.
bool Writer::has_passed_over_too_much() {
  const auto passed_over = ledger_.damaged().passed_over();
  if (passed_over == 0 || salvaged_in_vain_)
    return false;
  return passed_over > kMostPassedOver || pages_of(spool_.database()) <= kComparedAtOnce;
}

// Where no index is to blame: what `postrider queue salvage` does, if that is a matter of seconds
// and was not done again and again. True: what failed before may go well now. An error: the queue
// could not be opened again. Requires: no reader is open.
Result<bool> Writer::salvage_store() {
  wants_salvage_ = false;
  salvaged_in_vain_ = true;
  if (pages_of(spool_.database()) > kSalvagedAtOnce ||
      damaged_folders(spool_.folder()) >= kMostDamagedFolders)
    return false;
  drop_store();
  const auto done = salvage_database(spool_, clock_.now());
  if (done) {
    log_.write(LogEvent(Level::error, "salvaged")
                   .add("messages", done->messages)
                   .add("held", done->held)
                   .add("lost", done->lost.size())
                   .add("old_files", done->old_files));
    for (const auto& lost : done->lost)
      log_.write(LogEvent(Level::error, "lost", to_string(lost.id)).add("content", lost.content));
  } else {
    log_.write(LogEvent(Level::error, "not_salvaged").add("reason", done.error().describe()));
    if (is_salvage_unfinished(spool_.folder()))
      return done.error();
  }
  if (auto opened = open_store(); !opened)
    return opened.error();
  if (!done)
    return false;
  salvaged_in_vain_ = false;
  ledger_.damaged().forget();
  if (auto moved = ledger_.intake().follow_landed(); !moved)
    return moved.error();
  return true;
}

// A body is synced before its row is stored and removed after it is gone, so a file without a row
// is nobody's.
Result<void> Writer::sweep_bodies() {
  const auto is_known = [this](const std::string& name) -> Result<bool> {
    const auto id = mail::parse_message_id(name);
    if (!id)
      return false;
    return store_->messages().exists(*id);
  };
  auto kept = store_->meta().get(kStrangersMark);
  if (!kept)
    return kept.error();
  const bool are_lost = log_hides_mail_ || *kept != 0;
  auto swept =
      spool_.sweep(is_known, are_lost ? Spool::Unknown::move_aside : Spool::Unknown::remove);
  if (!swept)
    return swept.error().during("sweep stray bodies");
  if (*swept > 0)
    log_.write(LogEvent(are_lost ? Level::error : Level::info, are_lost ? "lost" : "swept")
                   .add("files", *swept));
  return *kept == 0 ? Result<void>() : store_->meta().set(kStrangersMark, 0);
}

void Writer::reopen() {
  if (clock_.steady() < try_again_)
    return;
  if (auto done = open_again(); !done) {
    log_.write(LogEvent(Level::error, "storage_failed").add("reason", done.error().describe()));
    drop_store();
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
  ledger_.look_again();
  room_checked_ = {};
  check_room();
}

Result<void> Writer::open_again() {
  drop_store();
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
    done = repair();
  if (done)
    done = check_store();
  if (done)
    done = forget_doubtful();
  if (done && readers_.open)
    done = readers_.open();
  return done;
}

// First what costs nothing: once it was in vain, or there is nothing to rebuild from, the rest.
Result<void> Writer::repair() {
  if (wants_repair_) {
    auto repaired = repair_indexes(Repair::always);
    if (!repaired)
      return repaired.error();
    wants_salvage_ = wants_salvage_ || !*repaired;
  }
  if (!wants_salvage_)
    return {};
  auto salvaged = salvage_store();
  return salvaged ? Result<void>() : salvaged.error();
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
  auto transaction = store_->begin();
  if (!transaction)
    return transaction.error();
  for (const auto id : doubtful_) {
    if (auto done = store_->incoming().remove(id); !done)
      return done.error();
    if (auto done = store_->messages().remove(id); !done)
      return done.error();
  }
  if (auto done = transaction->commit(); !done)
    return done.error();
  doubtful_.clear();
  return {};
}

// Where the clock stands and how far ids went, for a start after the clock was set back.
Result<void> Writer::store_marks(std::int64_t ids_ahead) {
  const auto wall = ledger_.time().wall();
  if (wall - marked_ < kMarkEvery && marked_ <= wall)
    return {};
  auto& store = *store_;
  marked_ = wall;
  const auto last = ids_.next(wall).value + ids_ahead;
  if (auto done = store.meta().set("seen", wall.time_since_epoch().count()); !done)
    return done.error();
  if (auto done = store.meta().set("shift", ledger_.time().shift().count()); !done)
    return done.error();
  return store.meta().set("last_id", last);
}

void Writer::maintain_after_commit() {
  if (wal_pages_ > 0)
    checkpointed_ = false;
  if (wal_pages_ < kCheckpointPages && wal_commits_ < kCheckpointCommits)
    return;
  checkpoint(Checkpoint::passive);
}

void Writer::checkpoint(Checkpoint mode) {
  (void)store_->database().checkpoint(mode);
  wal_pages_ = wal_commits_ = 0;
}

void Writer::maintain_idle() {
  if (!checkpointed_) {
    const Checkpoint mode =
        wal_pages_ > kTruncatePages ? Checkpoint::truncate : Checkpoint::passive;
    checkpoint(mode);
    checkpointed_ = true;
  }
}

void Writer::give_back_room() {
  const auto now = clock_.steady();
  if (now < vacuum_again_)
    return;
  vacuum_again_ = now + kVacuumEvery;
  auto& database = store_->database();
  const auto free = database.value("PRAGMA freelist_count");
  const auto pages = database.value("PRAGMA page_count");
  if (!free || !pages)
    return;
  const bool wanted = std::exchange(wants_vacuum_, *free >= kWorthVacuum && *free >= *pages / 4);
  if (wants_vacuum_ ? pages_of(spool_.database()) - *pages > kMostCutAtOnce : wanted) {
    checkpoint(Checkpoint::passive);  // its end was given back, and stands in the file still
    return;
  }
  if (!wants_vacuum_)
    return;
  if (is_vacuum_slow_ && *free > kWorthSorting && now >= sort_again_) {
    sort_free_pages();
    return;
  }
  if (auto done = vacuum_some(); !done && is_damage(done.error()))
    vacuum_again_ = now + kRepairEvery;
}

void Writer::sort_free_pages() {
  sort_again_ = clock_.steady() + kSortEvery;
  const auto sorted = sort_free_list(store_->database(), spool_.database(), vfs_);
  if (!sorted) {
    sort_again_ += kRepairEvery;
    log_.write(LogEvent(Level::warn, "room_comes_slowly").add("reason", sorted.error().describe()));
  }
  is_vacuum_slow_ = sorted && !*sorted;  // what reads the database ends
  vacuum_pages_ = kFewPages;
}

// As many pages as were quick the last time. Without the commit: the disk's time is not theirs.
Result<void> Writer::vacuum_some() {
  auto& database = store_->database();
  auto transaction = Transaction::begin(database);
  if (!transaction)
    return transaction.error();
  const auto begun = std::chrono::steady_clock::now();
  const std::string step = "PRAGMA incremental_vacuum(" + std::to_string(vacuum_pages_) + ")";
  if (auto done = database.execute(step.c_str()); !done)
    return done.error();
  const auto took = std::chrono::steady_clock::now() - begun;
  if (took > kVacuumStep) {
    is_vacuum_slow_ = is_vacuum_slow_ || vacuum_pages_ <= kFewPages;
    vacuum_pages_ = std::max<std::int64_t>(vacuum_pages_ / 2, 1);
  } else if (took < kVacuumStep / 2) {
    vacuum_pages_ = std::min(vacuum_pages_ * 2, kMostVacuumPages);
  }
  if (auto done = transaction->commit(); !done)
    return done.error();
  checkpointed_ = false;
  return {};
}

void Writer::close() {
  if (!is_open_)
    return;
  is_open_ = false;
  ledger_.observe(clock_);
  // If this fails, the next start takes it for an unclean stop: slower, nothing worse. So it does
  // when files of messages that have ended could not be removed: it removes them.
  if (!finish_removals())
    log_.write(
        LogEvent(Level::warn, "stop_not_marked").add("reason", "files in body/ cannot be removed"));
  else if (auto marked = mark_clean(); !marked)
    log_.write(LogEvent(Level::warn, "stop_not_marked").add("reason", marked.error().describe()));
  (void)store_->database().checkpoint(Checkpoint::truncate);
  drop_store();
}

bool Writer::finish_removals() {
  std::promise<bool> removed;
  removals_.post([&] { removed.set_value(spool_.remove_left()); });  // behind all the others
  return removed.get_future().get();
}

Result<void> Writer::mark_clean() {
  auto transaction = store_->begin();
  if (!transaction)
    return transaction.error();
  marked_ = {};
  if (auto done = store_marks(0); !done)
    return done.error();
  if (auto done = store_->meta().set("clean", 1); !done)
    return done.error();
  return transaction->commit();
}

}  // namespace postrider::queue
