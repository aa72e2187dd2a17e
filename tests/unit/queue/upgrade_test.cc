// A queue of an older version opens with this one, and nothing of it is lost.
#include "tests/support/folder.h"
#include "tests/unit/queue/queue_fixture.h"

#include <catch2/catch.hpp>
#include <sqlite3.h>

#include <filesystem>

namespace postrider::queue::test {

using mail::Verdict;

namespace {

namespace fs = std::filesystem;

// Made by postrider 0.1.0: five messages to a host that refused connections, one of them held, one
// of them with its content in a file.
struct Old : QueueFixture {
  Old() {
    settings.lifetime = std::chrono::hours(24L * 36500);
    fs::copy(postrider::test::tests_folder() + "/data/spool-0.1.0", settings.spool,
             fs::copy_options::recursive);
    fs::permissions(settings.spool, fs::perms::owner_all);
    open();
  }
  // Of the database of a queue that is closed.
  void execute(const char* sql) const {
    sqlite3* handle = nullptr;
    REQUIRE(sqlite3_open((settings.spool + "/queue.db").c_str(), &handle) == SQLITE_OK);
    REQUIRE(sqlite3_exec(handle, sql, nullptr, nullptr, nullptr) == SQLITE_OK);
    sqlite3_close(handle);
  }
  std::int64_t value(const char* sql) const {
    sqlite3* handle = nullptr;
    REQUIRE(sqlite3_open((settings.spool + "/queue.db").c_str(), &handle) == SQLITE_OK);
    sqlite3_stmt* statement = nullptr;
    REQUIRE(sqlite3_prepare_v2(handle, sql, -1, &statement, nullptr) == SQLITE_OK);
    REQUIRE(sqlite3_step(statement) == SQLITE_ROW);
    const auto found = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    sqlite3_close(handle);
    return found;
  }
};

}  // namespace

TEST_CASE_METHOD(Old, "a spool of version 0.1.0 opens and its mail goes out", "[queue][upgrade]") {
  CHECK(value("PRAGMA user_version") == 5);
  const auto totals = queue->totals().value();
  CHECK(totals.messages == 5);
  CHECK(totals.recipients == 6);
  CHECK(totals.held == 1);
  CHECK(totals.bytes == 30 + 25 + 67218 + 23 + 30);
  CHECK(value("SELECT sum(recipients) FROM domain") == 6);
  CHECK(list().size() == 5);
  CHECK(totals.ages.front() == 5);  // the clock of the test is behind them
  CHECK(value("SELECT sum(messages) FROM arrived") == 5);

  start();
  CHECK(change(Verb::release, {}).messages == 1);
  CHECK(change(Verb::retry, {}).messages == 5);
  std::size_t octets = 0;
  for (int i = 0; i < 5; ++i) {
    const auto lease = hand.next();
    octets += lease.message->content.size;
    if (!lease.message->content.file.empty())
      CHECK(queue->open_body(*lease.message).has_value());
    record(answer(lease, Verdict::delivered));
  }
  CHECK(octets == totals.bytes);
  const auto left = queue->totals().value();
  CHECK(left.messages == 0);
  CHECK(left.recipients == 0);
  CHECK(left.bytes == 0);
  CHECK(value("SELECT count(*) FROM arrived") == 0);
}

TEST_CASE_METHOD(Old, "a queue without facts gets a table for them and keeps its mail",
                 "[queue][upgrade]") {
  queue.reset();
  execute(
      "DROP INDEX recipient_lane; ALTER TABLE recipient DROP COLUMN lane; DROP TABLE fact;"
      " DROP TRIGGER message_came; DROP TRIGGER message_went; DROP TABLE arrived; PRAGMA "
      "user_version = 3");
  open();
  CHECK(value("PRAGMA user_version") == 5);
  CHECK(value("SELECT count(*) FROM fact") == 0);
  CHECK(queue->totals().value().messages == 5);
  start();
  CHECK(change(Verb::release, {}).messages == 1);
  CHECK(change(Verb::retry, {}).messages == 5);
  for (int i = 0; i < 5; ++i)
    record(answer(hand.next(), Verdict::delivered));
  CHECK(queue->totals().value().messages == 0);
}

TEST_CASE_METHOD(Old, "a queue without lanes gets them, its rows as they are deferred again",
                 "[queue][upgrade]") {
  queue.reset();
  execute(
      "DROP INDEX recipient_lane; ALTER TABLE recipient DROP COLUMN lane; DROP TRIGGER "
      "message_came;"
      " DROP TRIGGER message_went; DROP TABLE arrived; PRAGMA user_version = 4");
  // As after a stop in the middle: all of it is done again, or nothing.
  execute("BEGIN; ALTER TABLE recipient ADD COLUMN lane INTEGER NOT NULL DEFAULT 0");
  open();
  CHECK(value("PRAGMA user_version") == 5);
  CHECK(value("SELECT count(*) FROM recipient WHERE lane = 0") == 6);
  start();
  change(Verb::release, {});
  CHECK(change(Verb::retry, {}).messages == 5);
  for (int i = 0; i < 5; ++i)
    record(answer(hand.next(), Verdict::retry, clock.now() + std::chrono::hours(1)));
  queue.reset();
  CHECK(value("SELECT count(*) FROM recipient INDEXED BY recipient_lane"
              " WHERE state < 3 AND lane > 0") == 6);
  open();
  start();
  clock.pass(std::chrono::hours(2));
  queue->wake();
  for (int i = 0; i < 5; ++i)
    record(answer(hand.next(), Verdict::delivered));
  CHECK(queue->totals().value().messages == 0);
}

}  // namespace postrider::queue::test
