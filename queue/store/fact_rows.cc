// The table `fact`.
#include "queue/store/sqlite_store.h"

namespace postrider::queue {

namespace {

class SqliteFacts final : public FactRows {
 public:
  explicit SqliteFacts(Database& database) : database_(database) {}

  Result<void> prepare() {
    return prepare_all(
        database_,
        {
            {add_fact_, "INSERT INTO fact(number, line) VALUES(?, ?)"},
            {load_facts_,
             "SELECT number, line FROM fact WHERE number > ? ORDER BY number LIMIT 131072"},
            {remove_facts_, "DELETE FROM fact WHERE number <= ?"},
            {remove_fact_, "DELETE FROM fact WHERE number = ?"},
        });
  }

  Result<void> add(const Fact& fact) override {
    return Query(add_fact_).bind(fact.number).bind_blob(fact.bytes).run();
  }

  Result<std::vector<Fact>> load(std::int64_t after) override {
    Query query(load_facts_);
    query.bind(after);
    std::vector<Fact> facts;
    auto done = query.for_each([&](const Query& row) {
      facts.push_back({row.integer(0), std::string(row.blob(1))});
    });
    if (!done)
      return done.error();
    return facts;
  }

  Result<std::uint64_t> remove_to(std::int64_t number) override {
    if (auto done = Query(remove_facts_).bind(number).run(); !done)
      return done.error();
    return static_cast<std::uint64_t>(database_.changes());
  }

  Result<void> remove(std::int64_t number) override {
    return Query(remove_fact_).bind(number).run();
  }

 private:
  Database& database_;
  Statement add_fact_, load_facts_, remove_facts_, remove_fact_;
};

}  // namespace

Result<std::unique_ptr<FactRows>> prepare_facts(Database& database) {
  auto made = std::make_unique<SqliteFacts>(database);
  if (auto done = made->prepare(); !done)
    return done.error();
  return std::unique_ptr<FactRows>(std::move(made));
}

}  // namespace postrider::queue
