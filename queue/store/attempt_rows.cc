// The table `attempt`.
#include "queue/store/sqlite_store.h"

namespace postrider::queue {

namespace {

class SqliteAttempts final : public AttemptRows {
 public:
  Result<void> prepare(Database& database) {
    return prepare_all(database,
                       {
                           {insert_attempt_,
                            "INSERT OR REPLACE INTO attempt(message, seq, at, recipient, outcome)"
                            " VALUES(?, ?, ?, ?, ?)"},
                           {trim_attempts_, "DELETE FROM attempt WHERE message = ? AND seq <= ?"},
                           {delete_attempts_, "DELETE FROM attempt WHERE message = ?"},
                           {set_logged_, "UPDATE message SET logged = ? WHERE id = ?"},
                       });
  }

  Result<void> add(mail::MessageId id, std::int64_t seq, TimePoint when, std::uint32_t recipient,
                   std::string_view outcome) override {
    Query query(insert_attempt_);
    query.bind(id.value)
        .bind(seq)
        .bind(when.time_since_epoch().count())
        .bind(recipient)
        .bind_blob(outcome);
    if (auto done = query.run(); !done)
      return done.error();
    if (seq <= kKept)
      return {};
    return Query(trim_attempts_).bind(id.value).bind(seq - kKept).run();
  }

  Result<void> set_logged(mail::MessageId id, std::int64_t seq) override {
    return Query(set_logged_).bind(seq).bind(id.value).run();
  }

  Result<void> remove(mail::MessageId id) override {
    return Query(delete_attempts_).bind(id.value).run();
  }

 private:
  Statement insert_attempt_, trim_attempts_, delete_attempts_, set_logged_;
};

}  // namespace

Result<std::unique_ptr<AttemptRows>> prepare_attempts(Database& database) {
  auto made = std::make_unique<SqliteAttempts>();
  if (auto done = made->prepare(database); !done)
    return done.error();
  return std::unique_ptr<AttemptRows>(std::move(made));
}

}  // namespace postrider::queue
