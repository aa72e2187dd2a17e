// What left the queue gives its room on the disk back, in steps, while mail comes and goes.
#include "queue/store/free_list.h"
#include "queue/store/schema.h"
#include "queue/store/upkeep.h"
#include "tests/unit/queue/failing_vfs.h"
#include "tests/unit/queue/queue_fixture.h"

#include <catch2/catch.hpp>

#include <algorithm>
#include <filesystem>
#include <map>
#include <random>
#include <unistd.h>

namespace postrider::queue::test {

namespace {

namespace fs = std::filesystem;

// A table of rows that take some pages each, in a file as the queue's is.
struct Rows {
  Rows() {
    database = open();
    REQUIRE(configure_page_size(database).has_value());
    REQUIRE(configure_writer(database).has_value());
    execute(
        "CREATE TABLE meta(key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID");
    execute("CREATE TABLE row(id INTEGER PRIMARY KEY, data BLOB NOT NULL)");
    execute("CREATE INDEX row_data ON row(substr(data, 1, 20))");
  }

  Database open(Database::Mode mode = Database::Mode::writer) const {
    auto opened = Database::open(path, mode);
    REQUIRE(opened.has_value());
    return *std::move(opened);
  }
  void execute(const std::string& sql) {
    const auto done = database.execute(sql.c_str());
    INFO((done ? "" : done.error().describe()));
    REQUIRE(done.has_value());
  }
  std::int64_t value(const char* sql) { return database.value(sql).value(); }

  void add(int count) {
    execute("BEGIN");
    for (int i = 0; i < count; ++i)
      execute("INSERT INTO row(data) VALUES(randomblob(" + std::to_string(random() % 12'000) +
              "))");
    execute("COMMIT");
  }
  // Each row stays with a chance of one in `kept`; they leave in no order.
  void thin(unsigned kept) {
    execute("BEGIN");
    execute("CREATE TEMP TABLE gone AS SELECT id FROM row WHERE random() % " +
            std::to_string(kept) + " ORDER BY random()");
    execute("DELETE FROM row WHERE id IN (SELECT id FROM gone)");
    execute("DROP TABLE gone");
    execute("COMMIT");
  }
  std::string check() { return database.text("PRAGMA integrity_check").value(); }
  std::string content() {
    return database
        .text(
            "SELECT group_concat(hex(substr(data, 1, 8)) || length(data)) FROM"
            " (SELECT data FROM row ORDER BY id)")
        .value();
  }
  bool sort() {
    const auto sorted = sort_free_list(database, path, nullptr);
    INFO((sorted ? "" : sorted.error().describe()));
    REQUIRE(sorted.has_value());
    return *sorted;
  }

  TemporaryFolder folder;
  std::string path = folder.path() + "/rows.db";
  std::mt19937 random{7};
  Database database;
};

// As it says itself, each look at it takes as long as the test wants.
class SlowClock : public Clock {
 public:
  TimePoint now() const override { return TimePoint(); }
  SteadyTime steady() const override {
    now_ += a_look_takes;
    return SteadyTime(now_);
  }
  Duration a_look_takes{0};
  void pass(Duration time) { now_ += time; }

 private:
  mutable std::chrono::milliseconds now_{1'000'000};
};

}  // namespace

TEST_CASE("a step of giving room back takes no more pages than were quick", "[queue][room]") {
  Rows rows;
  rows.execute("BEGIN");
  for (int i = 0; i < 3000; ++i)
    rows.execute("INSERT INTO row(data) VALUES(randomblob(3000))");
  rows.execute("COMMIT");
  rows.execute("DELETE FROM row");
  SlowClock clock;
  CollectingLog log;
  Upkeep upkeep(rows.path, clock, log);
  upkeep.watch(rows.database, nullptr);
  const auto step = [&] {
    clock.pass(std::chrono::seconds(1));
    const auto before = rows.value("PRAGMA freelist_count");
    upkeep.give_back_room();
    return before - rows.value("PRAGMA freelist_count");
  };
  REQUIRE(rows.value("PRAGMA freelist_count") > 2500);
  std::int64_t pages = 0;
  while (pages < 128) {
    const auto more = step();
    CHECK(more <= std::max<std::int64_t>(2 * pages, 1));
    CHECK((more > pages || pages == 0));
    pages = more;
  }
  clock.a_look_takes = std::chrono::milliseconds(5);  // more than a step may take
  CHECK(step() <= 2 * pages);                         // which it finds out
  for (auto most = pages; most >= 1; most /= 2) {
    const auto taken = step();
    CHECK(taken >= 1);
    CHECK(taken <= most);
  }
  CHECK(step() == 1);
  CHECK(rows.check() == "ok");
  upkeep.forget();
}

TEST_CASE_METHOD(Rows, "a sorted list of free pages is still the same list", "[queue][room]") {
  add(3000);
  thin(10);
  add(50);
  thin(3);
  const auto free = value("PRAGMA freelist_count");
  REQUIRE(free > 3000);
  const auto before = content();
  REQUIRE(sort());
  CHECK(value("PRAGMA freelist_count") == free);
  CHECK(check() == "ok");
  CHECK(content() == before);

  SECTION("and gives back what the file does not need") {
    const auto pages = value("PRAGMA page_count");
    while (value("PRAGMA freelist_count") > 0)
      execute("PRAGMA incremental_vacuum(500)");
    CHECK(check() == "ok");
    CHECK(content() == before);
    CHECK(value("PRAGMA page_count") <= pages - free);
  }
  SECTION("and mail comes and goes meanwhile") {
    for (int turn = 0; turn < 40 && value("PRAGMA freelist_count") > 0; ++turn) {
      execute("PRAGMA incremental_vacuum(200)");
      add(5);
      if (turn % 3 == 0)
        thin(2);
      if (turn % 10 == 9)
        REQUIRE(sort());
      REQUIRE(check() == "ok");
    }
  }
  SECTION("and again, for one who had it open all the time") {
    auto other = open();
    REQUIRE(other.value("SELECT count(*) FROM row").value() > 0);
    REQUIRE(sort());
    REQUIRE(other.execute("INSERT INTO row(data) VALUES(randomblob(100000))").has_value());
    CHECK(check() == "ok");
    other.close();
    database.close();
    database = open();
    CHECK(check() == "ok");
  }
}

// Also where a failure is not a power cut, and the program goes on with what it has.
TEST_CASE_METHOD(Rows, "a list is sorted or not, wherever it fails", "[queue][room][failure]") {
  add(400);
  thin(8);
  add(20);
  thin(4);
  const auto free = value("PRAGMA freelist_count");
  REQUIRE(free > 300);
  const auto before = content();
  REQUIRE(sqlite3_wal_checkpoint_v2(database.handle(), nullptr, SQLITE_CHECKPOINT_TRUNCATE, nullptr,
                                    nullptr) == SQLITE_OK);
  database.close();
  const auto mode = GENERATE(FailingVfs::Mode::cut, FailingVfs::Mode::once);
  bool has_failed = true;
  std::uint64_t step = 1;
  for (; has_failed; ++step) {
    INFO("step " << step);
    FailingVfs vfs;
    const auto copy = folder.path() + "/copy.db";
    fs::copy_file(path, copy, fs::copy_options::overwrite_existing);
    fs::remove(copy + "-wal");
    {
      auto failing = Database::open(copy, Database::Mode::writer, vfs.name());
      REQUIRE(failing.has_value());
      REQUIRE(configure_writer(*failing).has_value());
      REQUIRE(failing->execute("DELETE FROM row WHERE id % 5 = 0").has_value());
      vfs.fail_at(step, SQLITE_IOERR, mode);
      const auto sorted = sort_free_list(*failing, copy, vfs.name());
      has_failed = vfs.has_failed();
      CHECK((has_failed || sorted.has_value()));
      if (mode == FailingVfs::Mode::once) {
        vfs.heal();
        CHECK(failing->text("PRAGMA integrity_check").value() == "ok");
        const auto added = failing->execute("INSERT INTO row(data) VALUES(randomblob(90000))");
        INFO((added ? "" : added.error().describe()));
        CHECK(added.has_value());
        CHECK(failing->execute("PRAGMA incremental_vacuum(50)").has_value());
        CHECK(failing->text("PRAGMA integrity_check").value() == "ok");
      }
    }
    fs::remove(copy + "-shm");
    database = Database::open(copy, Database::Mode::writer).value();
    REQUIRE(check() == "ok");
    CHECK(value("SELECT count(*) FROM row WHERE id % 5 = 0") <=
          (mode == FailingVfs::Mode::once ? 1 : 0));
    while (value("PRAGMA freelist_count") > 0)
      execute("PRAGMA incremental_vacuum(100)");
    REQUIRE(check() == "ok");
    database.close();
    REQUIRE(step < 300);
  }
  CHECK(step > 5);
  database = open();
  CHECK(content() == before);
}

TEST_CASE_METHOD(Rows, "nothing is sorted while somebody reads", "[queue][room]") {
  add(100);
  auto reader = open(Database::Mode::reader);
  REQUIRE(reader.execute("BEGIN").has_value());
  REQUIRE(reader.value("SELECT count(*) FROM row").value() == 100);
  thin(10);
  CHECK_FALSE(sort());
  REQUIRE(reader.execute("COMMIT").has_value());
  CHECK(sort());
  CHECK(check() == "ok");
}

TEST_CASE_METHOD(Rows, "a list that is none is left as it is", "[queue][room]") {
  add(500);
  thin(10);
  REQUIRE(sqlite3_wal_checkpoint_v2(database.handle(), nullptr, SQLITE_CHECKPOINT_TRUNCATE, nullptr,
                                    nullptr) == SQLITE_OK);
  auto bytes = read_file(path).value();
  const auto first =
      static_cast<unsigned char>(bytes[34]) * 256U + static_cast<unsigned char>(bytes[35]);
  REQUIRE(first > 1);
  const std::size_t at = (first - 1) * 4096U;
  switch (GENERATE(range(0, 4))) {
    case 0:
      bytes.replace(at, 4096, 4096, '\xff');
      break;
    case 1:
      bytes.replace(at + 12, 4, bytes, at + 8, 4);  // a page twice
      break;
    case 2:
      bytes[39] = static_cast<char>(bytes[39] + 1);  // another count
      break;
    default:
      bytes.replace(at, 4, bytes, 32, 4);  // a circle
  }
  database.close();
  REQUIRE(replace_file(path, bytes, 0600).has_value());
  database = open();
  CHECK_FALSE(sort_free_list(database, path, nullptr).has_value());
  database.close();
  CHECK(read_file(path).value() == bytes);
}

struct Room : QueueFixture {
  std::uintmax_t size() const { return fs::file_size(settings.spool + "/queue.db"); }
};

TEST_CASE_METHOD(Room, "a queue that was long gives its room back while mail comes in",
                 "[queue][room]") {
  open();
  start();
  const std::string content(9000, 'x');
  Filter filter;
  for (int i = 0; i < 2500; ++i) {
    auto message = make("a@b.test", {"c@d" + std::to_string(i % 7) + ".test"}, content);
    if (i % 20 != 0)
      filter.ids.push_back(message.id);
    REQUIRE(accept(std::move(message)).has_value());
  }
  reopen();  // all of it waits
  CHECK(queue->totals()->messages == 2500);
  const auto before = size();
  REQUIRE(before > 20U << 20U);
  CHECK(change(Verb::remove, filter).messages == filter.ids.size());
  bool shrunk = false;
  for (int tries = 0; tries < 4000 && !shrunk; ++tries) {
    must_accept("a@b.test", {"c@d.test"});
    clock.pass(std::chrono::milliseconds(100));
    shrunk = size() < before / 4;
  }
  CHECK(shrunk);
  queue->stop();
  queue.reset();
  auto database = Database::open(settings.spool + "/queue.db", Database::Mode::writer);
  REQUIRE(database.has_value());
  CHECK(database->text("PRAGMA integrity_check").value() == "ok");
}

}  // namespace postrider::queue::test
