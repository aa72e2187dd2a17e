#include "events/kept_database.h"

#include "base/regular_file.h"

#include <cerrno>
#include <cstdio>
#include <sys/stat.h>
#include <sys/statvfs.h>

namespace postrider::events {

using queue::Database;
using queue::Transaction;

namespace {

Result<void> make_tables(Database& database, const KeptFormat& format) {
  auto transaction = Transaction::begin(database);
  if (!transaction)
    return transaction.error();
  if (auto made = database.execute(format.tables); !made)
    return made.error();
  return transaction->commit();
}

Result<void> configure(Database& database) {
  for (const char* sql :
       {"PRAGMA page_size=4096", "PRAGMA auto_vacuum=INCREMENTAL", "PRAGMA journal_mode=WAL",
        "PRAGMA synchronous=FULL", "PRAGMA mmap_size=0", "PRAGMA cache_size=-4096",
        "PRAGMA temp_store=MEMORY", "PRAGMA cell_size_check=ON"})
    if (auto done = database.execute(sql); !done)
      return done.error().during(sql);
  return {};
}

// SQLite's own look at a database of a moderate size; a large one shows its damage when it is used.
Result<void> check_pages(Database& database, KeptDatabase::Check check) {
  constexpr std::int64_t kChecked = 16384;
  const auto pages = database.value("PRAGMA page_count");
  if (!pages)
    return pages.error();
  if (*pages > kChecked && check == KeptDatabase::Check::some)
    return {};
  const auto said = database.text("PRAGMA quick_check(1)");
  if (!said)
    return said.error();
  if (*said != "ok")
    return damaged_file(said->c_str());
  return {};
}

}  // namespace

Result<void> look_at_files(const std::string& path) {
  for (const char* end : {"", "-wal", "-shm"})
    if (const auto fit = require_regular_or_none(path + end); !fit)
      return Error(Errc::corrupt, "open " + path + ": " + fit.error().step());
  return {};
}

Result<void> prepare_all(Database& database, std::initializer_list<StatementText> all) {
  for (const auto& one : all) {
    auto made = database.prepare(one.sql);
    if (!made)
      return made.error();
    one.statement = *std::move(made);
  }
  return {};
}

Result<void> check_format(Database& database, const KeptFormat& format) {
  const auto identity = database.value("PRAGMA application_id");
  const auto version = database.value("PRAGMA user_version");
  if (!identity)
    return identity.error();
  if (!version)
    return version.error();
  if (*identity == 0 && *version == 0)
    return Error(Errc::not_found, "read the database: it is not made yet");
  if (*identity != format.application_id || *version != format.version)
    return damaged_file("it is none of ours, or of another version");
  return {};
}

bool is_damaged(const Error& error) {
  return queue::is_damage(error) || error.code() == Errc::corrupt;
}

Error damaged_file(const char* what) {
  return Error(Errc::corrupt, std::string("read the database: ") + what);
}

std::uint64_t inode_of(const std::string& path) {
  struct stat found {};
  return ::stat(path.c_str(), &found) == 0 ? found.st_ino : 0;
}

Result<KeptDatabase> KeptDatabase::open(const std::string& path, const KeptFormat& format,
                                        const char* vfs, Check check) {
  KeptDatabase kept;
  kept.path_ = path;
  if (auto fit = look_at_files(path); !fit)
    return fit.error();
  auto database = Database::open(path, Database::Mode::writer, vfs);
  if (!database)
    return database.error();
  kept.database_ = *std::move(database);
  const auto prepare = [&]() -> Result<void> {
    if (auto done = configure(kept.database_); !done)
      return done.error();
    const auto tables = kept.database_.value("SELECT count(*) FROM sqlite_schema");
    if (!tables)
      return tables.error();
    if (*tables == 0)
      if (auto made = make_tables(kept.database_, format); !made)
        return made.error();
    if (auto done = check_format(kept.database_, format); !done)
      return done.error();
    return check_pages(kept.database_, check);
  };
  if (auto done = prepare(); !done)
    return done.error().during("open " + path);
  kept.files_ = kept.files_by_name();
  return kept;
}

Result<void> KeptDatabase::set_aside(const std::string& path) {
  for (const char* end : {"", "-wal", "-shm"}) {
    const auto from = path + end;
    const auto to = path + ".damaged" + end;
    struct stat found {};
    const bool is_other =
        ::lstat(from.c_str(), &found) == 0 && !S_ISREG(found.st_mode) && !S_ISDIR(found.st_mode);
    if (is_other) {  // which the confined daemon may not make again elsewhere, and holds nothing
      if (::unlink(from.c_str()) != 0)
        return system_error("remove " + from);
      continue;
    }
    if (std::rename(from.c_str(), to.c_str()) != 0 && errno != ENOENT)
      return system_error("rename " + from);
  }
  return {};
}

KeptDatabase::Files KeptDatabase::files_by_name() const {
  return {inode_of(path_), inode_of(path_ + "-wal")};
}

bool KeptDatabase::is_replaced() const {
  const auto now = files_by_name();
  return now.database != files_.database || now.log != files_.log;
}

bool KeptDatabase::is_room_short(std::uint64_t room) const {
  struct statvfs disk {};
  return room > 0 && ::statvfs(path_.c_str(), &disk) == 0 && disk.f_bavail * disk.f_frsize < room;
}

Result<void> KeptDatabase::checkpoint() {
  if (auto done = database_.execute("PRAGMA incremental_vacuum(512)"); !done)
    return done.error();
  const int code = sqlite3_wal_checkpoint_v2(database_.handle(), nullptr, SQLITE_CHECKPOINT_PASSIVE,
                                             nullptr, nullptr);
  if (code != SQLITE_OK && code != SQLITE_BUSY)
    return queue::sqlite_error(database_.handle(), "checkpoint the database");
  return {};
}

Result<void> KeptDatabase::give_back_room() {
  constexpr std::int64_t kMostSteps = 64;
  for (std::int64_t step = 0; step < kMostSteps; ++step) {
    const auto free_pages = database_.value("PRAGMA freelist_count");
    if (!free_pages)
      return free_pages.error();
    if (*free_pages == 0)
      return {};
    if (auto done = checkpoint(); !done)
      return done.error();
  }
  return {};
}

}  // namespace postrider::events
