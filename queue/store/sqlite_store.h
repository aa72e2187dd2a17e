// The store in SQLite: one connection that writes.
#pragma once

#include "queue/store/sql_names.h"
#include "queue/store/store.h"

namespace postrider::queue {

// Each prepares its statements. What they are given must outlive them.
Result<std::unique_ptr<IncomingRows>> prepare_incoming(Database& database);
Result<std::unique_ptr<AttemptRows>> prepare_attempts(Database& database);
Result<std::unique_ptr<Destinations>> prepare_destinations(Database& database);
Result<std::unique_ptr<MessageRows>> prepare_messages(Database& database, IncomingRows& incoming,
                                                      AttemptRows& attempts,
                                                      Destinations& destinations);
Result<std::unique_ptr<DueIndex>> prepare_due(Database& database);
Result<std::unique_ptr<BulkChange>> prepare_change(Database& database, Destinations& destinations);
Result<std::unique_ptr<Meta>> prepare_meta(Database& database);
Result<std::unique_ptr<DroppedFiles>> prepare_dropped(Database& database);
Result<std::unique_ptr<FactRows>> prepare_facts(Database& database);
Result<std::unique_ptr<PauseRows>> prepare_pauses(Database& database);

// For every connection: the statement, and what its rows are.
inline constexpr std::string_view kAllPauses =
    "SELECT kind, name, since, until, uid, user FROM pause ORDER BY kind, name";
Result<std::vector<PauseRow>> read_pauses(Statement& all);

class SqliteStore final : public Store {
 public:
  // Opens or creates; refuses a foreign database and a newer one, migrates an older one.
  static Result<std::unique_ptr<SqliteStore>> open(const std::string& path, const char* vfs,
                                                   const Leases& leases);
  Database& database() { return database_; }

  Result<std::int64_t> pages();  // of the file
  // "ok", or what is wrong in SQLite's words. What costs more finds more: the tables that are small
  // whatever waits; all tables; all tables, compared with their indexes.
  enum class Check : std::uint8_t { small_tables, tables, tables_and_indexes };
  Result<std::string> check(Check what);
  // Reads what only the tools for people read.
  Result<void> read_figures();

  IncomingRows& incoming() override { return *incoming_; }
  MessageRows& messages() override { return *messages_; }
  AttemptRows& attempts() override { return *attempts_; }
  Destinations& destinations() override { return *destinations_; }
  DueIndex& due() override { return *due_; }
  BulkChange& changes() override { return *changes_; }
  Meta& meta() override { return *meta_; }
  DroppedFiles& dropped() override { return *dropped_; }
  PauseRows& pauses() override { return *pauses_; }
  FactRows& facts() override { return *facts_; }
  Result<Transaction> begin() override { return Transaction::begin(database_); }
  Result<Savepoint> begin_part() override { return Savepoint::begin(database_); }

 private:
  Result<void> prepare();

  Database database_;  // outlives their statements
  std::unique_ptr<IncomingRows> incoming_;
  std::unique_ptr<AttemptRows> attempts_;
  std::unique_ptr<Destinations> destinations_;
  std::unique_ptr<MessageRows> messages_;
  std::unique_ptr<DueIndex> due_;
  std::unique_ptr<BulkChange> changes_;
  std::unique_ptr<Meta> meta_;
  std::unique_ptr<DroppedFiles> dropped_;
  std::unique_ptr<PauseRows> pauses_;
  std::unique_ptr<FactRows> facts_;
};

}  // namespace postrider::queue
