#include "queue/store/sqlite_store.h"

#include "queue/store/row_filter.h"
#include "queue/store/schema.h"

namespace postrider::queue {

namespace {

template <class Rows>
Result<void> take(std::unique_ptr<Rows>& rows, Result<std::unique_ptr<Rows>> prepared) {
  if (!prepared)
    return prepared.error();
  rows = *std::move(prepared);
  return {};
}

}  // namespace

Result<std::unique_ptr<SqliteStore>> SqliteStore::open(const std::string& path, const char* vfs,
                                                       const Leases& leases) {
  auto store = std::make_unique<SqliteStore>();
  auto database = Database::open(path, Database::Mode::writer, vfs);
  if (!database)
    return database.error();
  store->database_ = *std::move(database);
  for (auto* step : {check_identity, configure_page_size, configure_writer, prepare_database})
    if (auto done = step(store->database_); !done)
      return done.error();
  if (auto done = add_filter_functions(store->database_, leases); !done)
    return done.error();
  if (auto done = store->prepare(); !done)
    return done.error();
  return store;
}

Result<void> SqliteStore::prepare() {
  if (auto done = take(incoming_, prepare_incoming(database_)); !done)
    return done.error();
  if (auto done = take(attempts_, prepare_attempts(database_)); !done)
    return done.error();
  if (auto done = take(destinations_, prepare_destinations(database_)); !done)
    return done.error();
  if (auto done =
          take(messages_, prepare_messages(database_, *incoming_, *attempts_, *destinations_));
      !done)
    return done.error();
  if (auto done = take(due_, prepare_due(database_)); !done)
    return done.error();
  if (auto done = take(changes_, prepare_change(database_, *destinations_)); !done)
    return done.error();
  if (auto done = take(meta_, prepare_meta(database_)); !done)
    return done.error();
  if (auto done = take(dropped_, prepare_dropped(database_)); !done)
    return done.error();
  if (auto done = take(pauses_, prepare_pauses(database_)); !done)
    return done.error();
  return take(facts_, prepare_facts(database_));
}

Result<std::int64_t> SqliteStore::pages() {
  return database_.value("PRAGMA page_count");
}

Result<std::string> SqliteStore::check(Check what) {
  switch (what) {
    case Check::small_tables:
      return database_.text("PRAGMA quick_check(incoming)");
    case Check::tables:
      return database_.text("PRAGMA quick_check(1)");
    case Check::tables_and_indexes:
      break;
  }
  return database_.text("PRAGMA integrity_check(1)");
}

Result<void> SqliteStore::read_figures() {
  for (const char* sql :
       {"SELECT count(*) FROM message INDEXED BY message_damaged WHERE damaged = 1",
        "SELECT total(messages) FROM tally"})
    if (auto read = database_.text(sql); !read)
      return read.error().during("read the queue's figures");
  return {};
}

}  // namespace postrider::queue
