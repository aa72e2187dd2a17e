// What the numbers in the tables are called, so that SQL says what it means.
#pragma once

#include "queue/store/rows.h"
#include "queue/store/sqlite.h"

#include <initializer_list>
#include <string>
#include <string_view>

namespace postrider::queue {

// The text with each name in braces replaced by its number, as a literal: what SQLite knows of an
// index on a part of a table depends on that. Names: {queued} {held} {bouncing} {removed} are
// states of recipients, those from {ended} on are ends; {never} is kNever, {expire_now} kExpireNow.
// Another name stays as it is, which no statement can be prepared from.
std::string named_sql(std::string_view text);

struct StatementText {
  Statement& statement;
  std::string_view sql;  // with names
};
Result<void> prepare_all(Database& database, std::initializer_list<StatementText> all);
// Prepared for this once. Text with names.
Result<Statement> prepare_named(Database& database, std::string_view sql);

}  // namespace postrider::queue
