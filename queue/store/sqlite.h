// SQLite with owners: a Database closes itself, a Statement finalizes itself, a Query resets its
// statement. One thread a connection.
#pragma once

#include "base/result.h"
#include "queue/store/store_error.h"
#include "queue/store/transaction.h"

#include <sqlite3.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace postrider::queue {

// The extended result code and SQLite's own words.
Error sqlite_error(sqlite3* database, std::string step);

class Statement {
 public:
  Statement() = default;
  explicit Statement(sqlite3_stmt* handle) : handle_(handle) {}
  Statement(Statement&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Statement& operator=(Statement&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Statement() { sqlite3_finalize(handle_); }
  sqlite3_stmt* handle() const { return handle_; }
  int parameters() const { return sqlite3_bind_parameter_count(handle_); }
  // Its number; 0 if there is none of the name (":name").
  int parameter(const char* name) const { return sqlite3_bind_parameter_index(handle_, name); }

 private:
  sqlite3_stmt* handle_ = nullptr;
};

// One execution. Parameters are bound in the order of the calls, from the first or from the one
// after at(), and must outlive the Query.
class Query {
 public:
  explicit Query(Statement& statement) : handle_(statement.handle()) {}
  ~Query() { sqlite3_reset(handle_); }
  Query(const Query&) = delete;
  Query& operator=(const Query&) = delete;

  Query& at(int parameter) {
    bound_ = parameter - 1;
    return *this;
  }
  Query& bind(std::int64_t value);
  Query& bind_text(std::string_view value);
  Query& bind_blob(std::string_view value);
  Query& bind_null();

  Result<bool> next();  // true: there is a row
  Result<void> run();   // to the end, rows ignored
  // visit(*this) at each row; if it returns bool, false ends it.
  template <class Visit>
  Result<void> for_each(Visit visit);
  // What make(*this) gives of each row.
  template <class Make, class Row = std::invoke_result_t<Make, const Query&>>
  Result<std::vector<Row>> rows(Make make);
  // The first column of the first row; `otherwise` if there is no row.
  Result<std::int64_t> first(std::int64_t otherwise);

  std::int64_t integer(int column) const { return sqlite3_column_int64(handle_, column); }
  std::string_view text(int column) const;
  std::string_view blob(int column) const;
  bool is_null(int column) const { return sqlite3_column_type(handle_, column) == SQLITE_NULL; }

 private:
  sqlite3_stmt* handle_;
  int bound_ = 0;
};

template <class Visit>
Result<void> Query::for_each(Visit visit) {
  for (;;) {
    const auto row = next();
    if (!row)
      return row.error();
    if (!*row)
      return {};
    if constexpr (std::is_same_v<std::invoke_result_t<Visit, const Query&>, bool>) {
      if (!visit(std::as_const(*this)))
        return {};
    } else {
      visit(std::as_const(*this));
    }
  }
}

template <class Make, class Row>
Result<std::vector<Row>> Query::rows(Make make) {
  std::vector<Row> made;
  auto done = for_each([&](const Query& row) { made.push_back(make(row)); });
  if (!done)
    return done.error();
  return made;
}

enum class Checkpoint : std::uint8_t { passive, truncate };

class Database {
 public:
  enum class Mode : std::uint8_t { writer, reader };

  Database() = default;
  // vfs: nullptr for the system's own; tests give one that fails.
  static Result<Database> open(const std::string& path, Mode mode, const char* vfs = nullptr);
  Database(Database&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Database& operator=(Database&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Database() { close(); }

  void close();
  bool is_open() const { return handle_ != nullptr; }
  sqlite3* handle() const { return handle_; }
  Result<void> execute(const char* sql);
  Result<std::int64_t> value(const char* sql);  // first column of the first row
  Result<std::string> text(const char* sql);
  Result<Statement> prepare(const char* sql);
  // What the log holds goes into the file, as far as readers let it; truncate: all of it, and the
  // log is empty then.
  Result<void> checkpoint(Checkpoint mode);
  std::int64_t changes() const { return sqlite3_changes64(handle_); }

 private:
  sqlite3* handle_ = nullptr;
};

}  // namespace postrider::queue
