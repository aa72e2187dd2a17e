#include "queue/store/upkeep.h"

#include "queue/store/free_list.h"

#include <algorithm>
#include <sys/stat.h>

namespace postrider::queue {

namespace {

constexpr int kCheckpointPages = 4096;  // 16 MiB of WAL: then its pages go to the database
// Each commit writes the same few pages again, and SQLite's index of the WAL looks past all earlier
// copies of a page to enter one more. So short commits are gathered for a checkpoint sooner.
constexpr int kCheckpointCommits = 256;
constexpr int kTruncatePages = 32768;        // a WAL that a long reader let grow is cut when idle
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
// Before damage is met once more.
constexpr Duration kDamagedPause = std::chrono::minutes(10);
constexpr std::int64_t kPageSize = 4096;

}  // namespace

std::int64_t pages_in_file(const std::string& database) {
  struct stat about {};
  return ::stat(database.c_str(), &about) == 0 ? about.st_size / kPageSize : 0;
}

void Upkeep::watch(Database& database, const char* vfs) {
  database_ = &database;
  vfs_ = vfs;
  sqlite3_wal_hook(database.handle(), &Upkeep::on_wal, this);
  log_state_ = LogState::grown;
}

int Upkeep::on_wal(void* upkeep, sqlite3*, const char*, int pages) {
  auto& self = *static_cast<Upkeep*>(upkeep);
  const auto in_log = static_cast<std::uint64_t>(std::max(pages, 0));
  const auto before = self.figures_->pages.exchange(in_log, std::memory_order_relaxed);
  const bool began_anew = in_log <= before;
  self.figures_->written.fetch_add(began_anew ? in_log : in_log - before,
                                   std::memory_order_relaxed);
  self.wal_pages_ = pages;
  ++self.wal_commits_;
  return SQLITE_OK;
}

void Upkeep::after_commit() {
  if (wal_pages_ > 0)
    log_state_ = LogState::grown;
  if (wal_pages_ < kCheckpointPages && wal_commits_ < kCheckpointCommits)
    return;
  checkpoint(Checkpoint::passive);
}

void Upkeep::checkpoint(Checkpoint mode) {
  const auto begun = clock_.steady();
  const int how =
      mode == Checkpoint::truncate ? SQLITE_CHECKPOINT_TRUNCATE : SQLITE_CHECKPOINT_PASSIVE;
  int pages = 0, written_back = 0;
  const int code =
      sqlite3_wal_checkpoint_v2(database_->handle(), nullptr, how, &pages, &written_back);
  figures_->checkpoint.add(clock_.steady() - begun);
  if (code != SQLITE_OK || written_back < pages)
    figures_->unfinished.fetch_add(1, std::memory_order_relaxed);
  wal_pages_ = wal_commits_ = 0;
}

void Upkeep::reuse_log() {
  checkpoint(Checkpoint::passive);
}

void Upkeep::idle() {
  if (log_state_ == LogState::grown) {
    const Checkpoint mode =
        wal_pages_ > kTruncatePages ? Checkpoint::truncate : Checkpoint::passive;
    checkpoint(mode);
    log_state_ = LogState::written_back;
  }
}

void Upkeep::give_back_room() {
  const auto now = clock_.steady();
  if (now < vacuum_again_)
    return;
  vacuum_again_ = now + kVacuumEvery;
  auto& database = *database_;
  const auto free = database.value("PRAGMA freelist_count");
  const auto pages = database.value("PRAGMA page_count");
  if (!free || !pages)
    return;
  const bool wanted = std::exchange(wants_vacuum_, *free >= kWorthVacuum && *free >= *pages / 4);
  if (wants_vacuum_ ? pages_in_file(path_) - *pages > kMostCutAtOnce : wanted) {
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
    vacuum_again_ = now + kDamagedPause;
}

void Upkeep::sort_free_pages() {
  sort_again_ = clock_.steady() + kSortEvery;
  const auto sorted = sort_free_list(*database_, path_, vfs_);
  if (!sorted) {
    sort_again_ += kDamagedPause;
    log_.write(LogEvent(Level::warn, "room_comes_slowly").add("reason", sorted.error().describe()));
  }
  is_vacuum_slow_ = sorted && !*sorted;  // what reads the database ends
  vacuum_pages_ = kFewPages;
}

// As many pages as were quick the last time. Without the commit: the disk's time is not theirs.
Result<void> Upkeep::vacuum_some() {
  auto& database = *database_;
  auto transaction = Transaction::begin(database);
  if (!transaction)
    return transaction.error();
  const auto begun = clock_.steady();
  const std::string step = "PRAGMA incremental_vacuum(" + std::to_string(vacuum_pages_) + ")";
  if (auto done = database.execute(step.c_str()); !done)
    return done.error();
  const auto took = clock_.steady() - begun;
  if (took > kVacuumStep) {
    is_vacuum_slow_ = is_vacuum_slow_ || vacuum_pages_ <= kFewPages;
    vacuum_pages_ = std::max<std::int64_t>(vacuum_pages_ / 2, 1);
  } else if (took < kVacuumStep / 2) {
    vacuum_pages_ = std::min(vacuum_pages_ * 2, kMostVacuumPages);
  }
  if (auto done = transaction->commit(); !done)
    return done.error();
  log_state_ = LogState::grown;
  return {};
}

}  // namespace postrider::queue
