// What is stored together or not at all. One thread a connection.
#pragma once

#include "base/result.h"

#include <utility>

namespace postrider::queue {

class Database;

// Rolled back unless it was committed.
class Transaction {
 public:
  static Result<Transaction> begin(Database& database);
  // One state of the database for several queries; ended by its destructor.
  static Result<Transaction> begin_reading(Database& database);
  Transaction(Transaction&& other) noexcept : database_(std::exchange(other.database_, nullptr)) {}
  Transaction& operator=(Transaction&&) = delete;
  ~Transaction();
  Result<void> commit();

 private:
  explicit Transaction(Database& database) : database_(&database) {}
  Database* database_;
};

// A part of a transaction that may fail by itself. Ended without release(), it is undone.
class Savepoint {
 public:
  static Result<Savepoint> begin(Database& database);
  Savepoint(Savepoint&& other) noexcept : database_(std::exchange(other.database_, nullptr)) {}
  Savepoint& operator=(Savepoint&&) = delete;
  ~Savepoint();
  Result<void> release();
  Result<void> roll_back();  // what was done since it began; it has ended then

 private:
  explicit Savepoint(Database& database) : database_(&database) {}
  Database* database_;
};

}  // namespace postrider::queue
