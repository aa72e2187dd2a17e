#include "queue/store/transaction.h"

#include "queue/store/sqlite.h"

namespace postrider::queue {

Result<Transaction> Transaction::begin(Database& database) {
  if (auto begun = database.execute("BEGIN IMMEDIATE"); !begun)
    return begun.error().during("begin transaction");
  return Transaction(database);
}

Result<Transaction> Transaction::begin_reading(Database& database) {
  if (auto begun = database.execute("BEGIN"); !begun)
    return begun.error().during("begin reading");
  return Transaction(database);
}

Transaction::~Transaction() {
  if (database_ != nullptr && sqlite3_get_autocommit(database_->handle()) == 0)
    (void)database_->execute("ROLLBACK");
}

Result<void> Transaction::commit() {
  auto done = database_->execute("COMMIT");
  if (!done)
    return done.error().during("commit");
  database_ = nullptr;
  return {};
}

Result<Savepoint> Savepoint::begin(Database& database) {
  if (auto begun = database.execute("SAVEPOINT part"); !begun)
    return begun.error().during("begin a part of a transaction");
  return Savepoint(database);
}

// Outside a transaction a savepoint was one itself; a transaction that SQLite has rolled back took
// it along.
Savepoint::~Savepoint() {
  if (database_ != nullptr && sqlite3_get_autocommit(database_->handle()) == 0)
    (void)roll_back();
}

Result<void> Savepoint::release() {
  if (auto done = database_->execute("RELEASE part"); !done)
    return done.error();
  database_ = nullptr;
  return {};
}

Result<void> Savepoint::roll_back() {
  if (auto done = database_->execute("ROLLBACK TO part"); !done)
    return done.error();
  return release();
}

}  // namespace postrider::queue
