// The tables `meta` and `dropped`.
#include "queue/key_id.h"
#include "queue/store/sqlite_store.h"

namespace postrider::queue {

namespace {

class SqliteMeta final : public Meta {
 public:
  explicit SqliteMeta(Database& database) : database_(database) {}

  Result<void> prepare(Database& database) {
    return prepare_all(database,
                       {
                           {get_meta_, "SELECT value FROM meta WHERE key = ?"},
                           {set_meta_, "INSERT OR REPLACE INTO meta(key, value) VALUES(?, ?)"},
                       });
  }

  Result<std::int64_t> get(std::string_view key) override {
    return Query(get_meta_).bind_text(key).first(0);
  }

  Result<void> set(std::string_view key, std::int64_t value) override {
    return Query(set_meta_).bind_text(key).bind(value).run();
  }

  Result<bool> is_empty() override {
    auto found = database_.value("SELECT EXISTS(SELECT 1 FROM meta)");
    if (!found)
      return found.error();
    return *found == 0;
  }

 private:
  Database& database_;
  Statement get_meta_, set_meta_;
};

class SqliteDropped final : public DroppedFiles {
 public:
  Result<void> prepare(Database& database) {
    return prepare_all(database,
                       {
                           {find_dropped_, "SELECT message FROM dropped WHERE name = ?"},
                           {add_dropped_, "INSERT INTO dropped(name, message) VALUES(?, ?)"},
                           {forget_dropped_, "DELETE FROM dropped WHERE name = ?"},
                           // Of keys (queue/key_id.h): "/" follows ".".
                           {forget_keys_,
                            "DELETE FROM dropped WHERE name > 'key.' AND name < 'key/'"
                            " AND message < ?"},
                       });
  }

  Result<std::optional<mail::MessageId>> find(std::string_view drop_id) override {
    Query query(find_dropped_);
    query.bind_text(drop_id);
    auto row = query.next();
    if (!row)
      return row.error();
    return *row ? std::optional(mail::MessageId{query.integer(0)}) : std::nullopt;
  }

  Result<void> add(std::string_view drop_id, mail::MessageId id) override {
    if (is_key_id(drop_id) && added_keys_++ % kKeysBetween == 0)
      if (auto done = Query(forget_keys_).bind(id.value - kKeysKept.count()).run(); !done)
        return done.error();
    return Query(add_dropped_).bind_text(drop_id).bind(id.value).run();
  }

  Result<void> forget(std::string_view drop_id) override {
    return Query(forget_dropped_).bind_text(drop_id).run();
  }

 private:
  // An id is the microsecond of its message; those that are too old are looked for now and then.
  static constexpr std::chrono::microseconds kKeysKept = std::chrono::hours(24);
  static constexpr std::uint64_t kKeysBetween = 1024;

  Statement find_dropped_, add_dropped_, forget_dropped_, forget_keys_;
  std::uint64_t added_keys_ = 0;
};

}  // namespace

Result<std::unique_ptr<Meta>> prepare_meta(Database& database) {
  auto made = std::make_unique<SqliteMeta>(database);
  if (auto done = made->prepare(database); !done)
    return done.error();
  return std::unique_ptr<Meta>(std::move(made));
}

Result<std::unique_ptr<DroppedFiles>> prepare_dropped(Database& database) {
  auto made = std::make_unique<SqliteDropped>();
  if (auto done = made->prepare(database); !done)
    return done.error();
  return std::unique_ptr<DroppedFiles>(std::move(made));
}

}  // namespace postrider::queue
