#include "queue/store/sqlite.h"

#include "base/file.h"
#include "queue/store/wal_vfs.h"

#include <cerrno>
#include <fcntl.h>

namespace postrider::queue {

namespace {

class Category final : public boost::system::error_category {
 public:
  const char* name() const noexcept override { return "sqlite"; }
  std::string message(int code) const override { return sqlite3_errstr(code); }
};

const Category& category() {
  static const Category only;
  return only;
}

// It was given up after trouble, and is opened again when it can be. SQLite itself would speak of
// memory.
Error not_open(const char* step) {
  return Error(Errc::storage, std::string(step) + ": the database is not open");
}

// SQLite says SQLITE_FULL of a write to the database or the log alone, and not of a quota.
int code_of(sqlite3* database) {
  const int code = sqlite3_extended_errcode(database);
  const int number = (code & 0xff) == SQLITE_IOERR ? sqlite3_system_errno(database) : 0;
  return number == ENOSPC || number == EDQUOT ? SQLITE_FULL : code;
}

int primary_code(const Error& error) {
  return error.code().category() == category() ? error.code().value() & 0xff : SQLITE_OK;
}

}  // namespace

Error sqlite_error(sqlite3* database, std::string step) {
  const int code = database == nullptr ? SQLITE_NOMEM : code_of(database);
  if (database != nullptr) {
    const std::string_view words = sqlite3_errmsg(database);
    if (words != sqlite3_errstr(code))
      step.append(": ").append(words);
  }
  return Error({code, category()}, std::move(step));
}

bool is_of_store(const Error& error) {
  return error.code().category() == category();
}

bool is_full(const Error& error) {
  return primary_code(error) == SQLITE_FULL;
}

bool is_damage(const Error& error) {
  const int code = primary_code(error);
  return code == SQLITE_CORRUPT || code == SQLITE_NOTADB || is_unreadable(error);
}

// EIO of read() is SQLITE_IOERR_CORRUPTFS, and becomes SQLITE_CORRUPT where rows are read.
bool is_unreadable(const Error& error) {
  if (!is_of_store(error))
    return false;
  const int code = error.code().value();
  return code == SQLITE_IOERR_READ || code == SQLITE_IOERR_CORRUPTFS || code == SQLITE_IOERR_DATA;
}

bool is_damage_of_index(const Error& error) {
  return is_of_store(error) && error.code().value() == SQLITE_CORRUPT_INDEX;
}

bool is_constraint(const Error& error) {
  const int code = primary_code(error);
  return code == SQLITE_CONSTRAINT || code == SQLITE_TOOBIG || code == SQLITE_MISMATCH;
}

Query& Query::bind(std::int64_t value) {
  sqlite3_bind_int64(handle_, ++bound_, value);
  return *this;
}

Query& Query::bind_text(std::string_view value) {
  sqlite3_bind_text64(handle_, ++bound_, value.data() == nullptr ? "" : value.data(), value.size(),
                      SQLITE_STATIC, SQLITE_UTF8);
  return *this;
}

Query& Query::bind_blob(std::string_view value) {
  sqlite3_bind_blob64(handle_, ++bound_, value.data() == nullptr ? "" : value.data(), value.size(),
                      SQLITE_STATIC);
  return *this;
}

Query& Query::bind_null() {
  sqlite3_bind_null(handle_, ++bound_);
  return *this;
}

Result<bool> Query::next() {
  if (handle_ == nullptr)
    return not_open("query");
  const int code = sqlite3_step(handle_);
  if (code == SQLITE_ROW)
    return true;
  if (code == SQLITE_DONE)
    return false;
  return sqlite_error(sqlite3_db_handle(handle_), "query");
}

Result<void> Query::run() {
  for (;;) {
    auto row = next();
    if (!row)
      return row.error();
    if (!*row)
      return {};
  }
}

Result<std::int64_t> Query::first(std::int64_t otherwise) {
  auto row = next();
  if (!row)
    return row.error();
  return *row ? integer(0) : otherwise;
}

std::string_view Query::text(int column) const {
  const auto* bytes = sqlite3_column_text(handle_, column);
  if (bytes == nullptr)
    return {};
  return {reinterpret_cast<const char*>(bytes),
          static_cast<std::size_t>(sqlite3_column_bytes(handle_, column))};
}

std::string_view Query::blob(int column) const {
  const void* bytes = sqlite3_column_blob(handle_, column);
  if (bytes == nullptr)
    return {};
  return {static_cast<const char*>(bytes),
          static_cast<std::size_t>(sqlite3_column_bytes(handle_, column))};
}

Result<Database> Database::open(const std::string& path, Mode mode, const char* vfs) {
  Database database;
  // Closed to others whatever the umask is; SQLite gives -wal and -shm the same mode. Only a file
  // that is new: closing one that a connection has open would drop its locks.
  if (mode == Mode::writer && vfs == nullptr)
    if (auto made = open_file(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
        !made && made.error().code() != boost::system::errc::file_exists)
      return made.error();
  const int access =
      mode == Mode::writer ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE : SQLITE_OPEN_READONLY;
  const int code = sqlite3_open_v2(path.c_str(), &database.handle_,
                                   access | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW,
                                   mode == Mode::writer ? gathering_vfs(vfs) : vfs);
  if (code != SQLITE_OK)
    return sqlite_error(database.handle_, "open " + path);
  sqlite3_extended_result_codes(database.handle_, 1);
  sqlite3_db_config(database.handle_, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
  sqlite3_db_config(database.handle_, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
  sqlite3_db_config(database.handle_, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0, nullptr);
  // Only the writer checkpoints, and only when it chooses to: two checkpointers can damage a WAL
  // database before SQLite 3.51.3.
  sqlite3_db_config(database.handle_, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
  sqlite3_wal_autocheckpoint(database.handle_, 0);
  return database;
}

void Database::close() {
  sqlite3_close_v2(std::exchange(handle_, nullptr));
}

Result<void> Database::execute(const char* sql) {
  if (handle_ == nullptr)
    return not_open("execute");
  if (sqlite3_exec(handle_, sql, nullptr, nullptr, nullptr) != SQLITE_OK)
    return sqlite_error(handle_, "execute");
  return {};
}

Result<void> Database::checkpoint(Checkpoint mode) {
  const int how =
      mode == Checkpoint::truncate ? SQLITE_CHECKPOINT_TRUNCATE : SQLITE_CHECKPOINT_PASSIVE;
  if (sqlite3_wal_checkpoint_v2(handle_, nullptr, how, nullptr, nullptr) != SQLITE_OK)
    return sqlite_error(handle_, "checkpoint");
  return {};
}

Result<std::int64_t> Database::value(const char* sql) {
  auto statement = prepare(sql);
  if (!statement)
    return statement.error();
  return Query(*statement).first(0);
}

Result<std::string> Database::text(const char* sql) {
  auto statement = prepare(sql);
  if (!statement)
    return statement.error();
  Query query(*statement);
  auto row = query.next();
  if (!row)
    return row.error();
  return *row ? std::string(query.text(0)) : std::string();
}

Result<Statement> Database::prepare(const char* sql) {
  if (handle_ == nullptr)
    return not_open("prepare");
  sqlite3_stmt* handle = nullptr;
  if (sqlite3_prepare_v3(handle_, sql, -1, SQLITE_PREPARE_PERSISTENT, &handle, nullptr) !=
      SQLITE_OK)
    return sqlite_error(handle_, "prepare");
  return Statement(handle);
}

}  // namespace postrider::queue
