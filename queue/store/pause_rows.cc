// The table `pause`.
#include "queue/store/sqlite_store.h"

namespace postrider::queue {

namespace {

class SqlitePauses final : public PauseRows {
 public:
  Result<void> prepare(Database& database) {
    return prepare_all(database,
                       {{all_, kAllPauses},
                        {set_,
                         "INSERT OR REPLACE INTO pause(kind, name, since, until, uid, user)"
                         " VALUES(?, ?, ?, ?, ?, ?)"},
                        {remove_, "DELETE FROM pause WHERE kind = ? AND name = ?"}});
  }

  Result<std::vector<PauseRow>> all() override { return read_pauses(all_); }

  Result<void> set(const PauseRow& row) override {
    Query query(set_);
    query.bind(static_cast<std::int64_t>(row.of)).bind_text(row.name).bind(row.since);
    return query.bind(row.until).bind(row.uid).bind_text(row.user).run();
  }

  Result<void> remove(Pause::Of of, std::string_view name) override {
    return Query(remove_).bind(static_cast<std::int64_t>(of)).bind_text(name).run();
  }

 private:
  Statement all_, set_, remove_;
};

}  // namespace

Result<std::vector<PauseRow>> read_pauses(Statement& all) {
  auto rows = Query(all).rows([](const Query& row) {
    PauseRow pause;
    pause.of = static_cast<Pause::Of>(std::clamp<std::int64_t>(row.integer(0), 0, 2));
    pause.name = row.text(1);
    pause.since = row.integer(2);
    pause.until = row.integer(3);
    pause.uid = static_cast<unsigned>(row.integer(4));
    pause.user = row.text(5);
    return pause;
  });
  return rows;
}

Result<std::unique_ptr<PauseRows>> prepare_pauses(Database& database) {
  auto made = std::make_unique<SqlitePauses>();
  if (auto done = made->prepare(database); !done)
    return done.error();
  return std::unique_ptr<PauseRows>(std::move(made));
}

}  // namespace postrider::queue
