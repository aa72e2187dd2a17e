// The shape of the database, and how an older one becomes the present one. Identity: SQLite's
// application_id; version: user_version, one migration per number, each in one transaction.
#pragma once

#include "queue/store/sqlite.h"

namespace postrider::queue {

// In this order: a new file takes its page size before anything is written, WAL before tables.
// Refuses a foreign database and a newer version in one sentence, before anything is changed.
Result<void> check_identity(Database& database);
Result<void> configure_page_size(Database& database);
Result<void> configure_writer(Database& database);
// Makes or migrates the tables.
Result<void> prepare_database(Database& database);
Result<void> configure_reader(Database& database);

inline constexpr int kSchemaVersion = 5;

}  // namespace postrider::queue
