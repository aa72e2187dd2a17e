#include "queue/store/sql_names.h"

namespace postrider::queue {

namespace {

constexpr std::int64_t number_of(RecipientState state) {
  return static_cast<std::int64_t>(state);
}

constexpr struct {
  std::string_view name;
  std::int64_t number;
} kSqlNames[] = {{"{queued}", number_of(RecipientState::queued)},
                 {"{held}", number_of(RecipientState::held)},
                 {"{bouncing}", number_of(RecipientState::bouncing)},
                 {"{ended}", number_of(RecipientState::delivered)},
                 {"{removed}", number_of(RecipientState::removed)},
                 {"{never}", kNever},
                 {"{expire_now}", kExpireNow}};

}  // namespace

std::string named_sql(std::string_view text) {
  std::string sql(text);
  for (const auto& [name, number] : kSqlNames)
    for (auto at = sql.find(name); at != std::string::npos; at = sql.find(name, at))
      sql.replace(at, name.size(), std::to_string(number));
  return sql;
}

Result<Statement> prepare_named(Database& database, std::string_view sql) {
  return database.prepare(named_sql(sql).c_str());
}

Result<void> prepare_all(Database& database, std::initializer_list<StatementText> all) {
  for (const auto& each : all) {
    auto prepared = prepare_named(database, each.sql);
    if (!prepared)
      return prepared.error();
    each.statement = *std::move(prepared);
  }
  return {};
}

}  // namespace postrider::queue
