// What keeps the database small and its log short, between transactions: checkpoints, and room that
// is given back to the disk.
#pragma once

#include "base/log.h"
#include "queue/queue_timings.h"
#include "queue/store/sqlite.h"

namespace postrider::queue {

// By the length of its file.
std::int64_t pages_in_file(const std::string& database);

class Upkeep {
 public:
  Upkeep(std::string path, const Clock& clock, Log& log)
      : path_(std::move(path)), clock_(clock), log_(log) {}

  // The connection that writes; to be forgotten before it is closed.
  void watch(Database& database, const char* vfs);
  void forget() { database_ = nullptr; }
  // Whoever wants to know how the log does; outlives it. Before the first database is watched.
  void report_to(LogFigures& figures) { figures_ = &figures; }

  // While a database is watched, and no transaction is open.
  void after_commit();
  void idle();
  void give_back_room();
  // Where room is short: makes the log begin again, in the blocks that it has.
  void reuse_log();
  // Whether it has something to do once the queue is idle.
  bool is_wanted() const { return log_state_ == LogState::grown || wants_vacuum_; }

 private:
  // Whether the log holds what the file does not.
  enum class LogState : std::uint8_t { written_back, grown };

  void checkpoint(Checkpoint mode);
  void sort_free_pages();
  Result<void> vacuum_some();
  static int on_wal(void* upkeep, sqlite3* database, const char* name, int pages);

  const std::string path_;
  const Clock& clock_;
  Log& log_;
  Database* database_ = nullptr;
  const char* vfs_ = nullptr;
  LogState log_state_ = LogState::written_back;
  LogFigures unread_;  // where nobody wants to know
  LogFigures* figures_ = &unread_;
  int wal_pages_ = 0;
  int wal_commits_ = 0;  // since the last checkpoint
  SteadyTime vacuum_again_;
  SteadyTime sort_again_;
  bool wants_vacuum_ = false;
  bool is_vacuum_slow_ = false;  // SQLite looks for each page in a long list, which is to be sorted
  std::int64_t vacuum_pages_ = 1;
};

}  // namespace postrider::queue
