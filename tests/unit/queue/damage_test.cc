// Storage that is damaged, removed or taken twice: known, said, and never worse than it is.
#include "queue/store/log_check.h"
#include "tests/unit/queue/queue_fixture.h"

#include <catch2/catch.hpp>
#include <sqlite3.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <future>
#include <optional>
#include <unistd.h>

namespace postrider::queue::test {

using mail::Verdict;

namespace {

namespace fs = std::filesystem;

// A reader in the middle of a transaction. While it lives, what is committed stays in the log: an
// idle queue thread moves it into the database, and the next commit would begin the log again.
class Reader {
 public:
  explicit Reader(const std::string& database) {
    REQUIRE(sqlite3_open_v2(database.c_str(), &handle_, SQLITE_OPEN_READWRITE, nullptr) ==
            SQLITE_OK);
    REQUIRE(sqlite3_exec(handle_, "BEGIN; SELECT count(*) FROM message", nullptr, nullptr,
                         nullptr) == SQLITE_OK);
  }
  ~Reader() { sqlite3_close(handle_); }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

 private:
  sqlite3* handle_ = nullptr;
};

struct Damaged : QueueFixture {
  Damaged() { open(); }

  std::string file(const char* name) const { return settings.spool + "/" + name; }

  // The spool as it would be found had the process been killed now.
  void cut() {
    const auto copy = folder.path() + "/copy";
    fs::copy(settings.spool, copy, fs::copy_options::recursive);
    fs::remove(copy + "/queue.db-shm");
    queue.reset();
    settings.spool = copy;
  }

  void cut_again() {
    const auto before = settings.spool;
    fs::copy(before, before + "+", fs::copy_options::recursive);
    fs::remove(before + "+/queue.db-shm");
    queue.reset();
    settings.spool = before + "+";
  }

  static void spoil(const std::string& path, std::uintmax_t at, std::size_t octets) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    for (std::size_t i = 0; i < octets; ++i) {
      file.seekg(static_cast<std::streamoff>(at + i));
      const auto before = file.get();
      file.seekp(static_cast<std::streamoff>(at + i));
      file.put(static_cast<char>(before ^ 0x55));
    }
  }

  // Changes an octet in the middle of what the log holds.
  static void spoil_log(const std::string& path) {
    constexpr std::uintmax_t header = 32, frame = 24 + 4096;
    const auto frames = check_log(path).value().valid_frames;
    spoil(path, header + frames / 2 * frame + 24 + 100, 1);
  }

  mail::MessageId accept_large() {
    auto submission = large(70'000);
    const auto id = submission.message->id;
    REQUIRE(accept(std::move(submission)).has_value());
    return id;
  }

  template <class Condition>
  bool wait_until(Condition condition) {
    for (int i = 0; i < 12000; ++i) {
      if (condition())
        return true;
      clock.pass(std::chrono::seconds(1));
      queue->wake();
      ::usleep(5000);
    }
    return false;
  }
};

}  // namespace

TEST_CASE_METHOD(Damaged, "a spool without its lock file is still in use", "[queue][lock]") {
  REQUIRE(::unlink(file("lock").c_str()) == 0);
  const auto second = Queue::open(settings, clock, log);
  REQUIRE_FALSE(second.has_value());
  CHECK(second.error().describe().find("in use") != std::string::npos);
}

TEST_CASE_METHOD(Damaged, "nothing is promised into files that were removed", "[queue][failure]") {
  start();
  const auto id = must_accept("a@b.test", {"c@d.test"});
  const char* name = GENERATE("queue.db", "queue.db-wal");
  REQUIRE(::unlink(file(name).c_str()) == 0);
  CHECK_FALSE(accept(make("a@b.test", {"c@d.test"})).has_value());
  CHECK(queue->admission() == Admission::failed);
  CHECK(log.count("storage_failed") >= 1);
  // What delivery reports is kept; a fresh file never takes the place of the lost one.
  std::vector<Record> records;
  records.push_back(answer(hand.next(id), Verdict::delivered));
  queue->record(std::move(records));
  if (name == std::string("queue.db")) {
    CHECK(wait_until([&] { return queue->is_lost(); }));
    CHECK(log.count("storage_lost") == 1);
    CHECK_FALSE(fs::exists(file("queue.db")));
    queue->stop();
    CHECK(queue->unrecorded() == 1);
  } else {
    CHECK(wait_until([&] { return queue->admission() == Admission::open; }));
  }
}

TEST_CASE_METHOD(Damaged, "storage that comes back is not lost any more", "[queue][failure]") {
  start();
  must_accept("a@b.test", {"c@d.test"});
  const auto aside = file("aside");
  REQUIRE(::rename(file("queue.db").c_str(), aside.c_str()) == 0);
  CHECK_FALSE(accept(make("a@b.test", {"c@d.test"})).has_value());
  REQUIRE(wait_until([&] { return queue->is_lost(); }));
  REQUIRE(::rename(aside.c_str(), file("queue.db").c_str()) == 0);
  REQUIRE(wait_until([&] { return queue->admission() == Admission::open; }));
  CHECK_FALSE(queue->is_lost());
  CHECK(list().size() == 1);
}

TEST_CASE_METHOD(Damaged, "storage that failed is tried again every five seconds and afresh",
                 "[queue][failure]") {
  start();
  must_accept("a@b.test", {"c@d.test"});
  const auto aside = file("aside");
  REQUIRE(::rename(file("queue.db").c_str(), aside.c_str()) == 0);
  CHECK_FALSE(accept(make("a@b.test", {"c@d.test"})).has_value());
  const auto look = [&] {  // and return when the queue thread has done so
    clock.pass(std::chrono::seconds(5));
    std::promise<void> told;
    queue->change(Verb::retry, {}, true, [&](const Result<Changed>&) { told.set_value(); });
    told.get_future().wait();
  };
  for (int tries = 1; tries <= 15; ++tries) {
    look();
    INFO(log.all());
    REQUIRE(log.count("storage_failed") >= 1U + static_cast<unsigned>(tries));
    // What SQLite knew of the files is left nowhere: readers are closed as well.
    for (const auto& descriptor : fs::directory_iterator("/proc/self/fd")) {
      std::error_code gone;
      CHECK(fs::read_symlink(descriptor.path(), gone) != aside);
    }
  }
  REQUIRE(::rename(aside.c_str(), file("queue.db").c_str()) == 0);
  look();
  CHECK(queue->admission() == Admission::open);
  CHECK(list().size() == 1);
}

TEST_CASE_METHOD(Damaged, "a damaged log is reported and bodies are moved aside",
                 "[queue][failure]") {
  start();
  std::optional<Reader> reader(file("queue.db"));
  std::vector<mail::MessageId> large;
  for (int i = 0; i < 5; ++i)
    large.push_back(accept_large());
  SECTION("damaged in the middle") {
    cut();
    reader.reset();
    spoil_log(file("queue.db-wal"));
    open();
    CHECK(log.count("log_damaged") == 1);
    CHECK(log.count("lost") == 1);
    CHECK(log.count("swept") == 0);
    std::size_t kept = 0;
    for (const auto id : large)
      kept += fs::exists(file("lost/") + to_string(id)) || fs::exists(file("body/") + to_string(id))
                  ? 1
                  : 0;
    CHECK(kept == large.size());
  }
  SECTION("damaged in its own header") {
    // Magic number, version, page size, count of checkpoints, both salts, both checksums; and the
    // first sector as a whole.
    const int at = GENERATE(0, 3, 5, 8, 10, 11, 13, 16, 19, 20, 23, 24, 31, -1);
    CAPTURE(at);
    cut();
    reader.reset();
    if (at >= 0) {
      spoil(file("queue.db-wal"), static_cast<std::uintmax_t>(at), 1);
    } else {
      std::fstream log_file(file("queue.db-wal"), std::ios::in | std::ios::out | std::ios::binary);
      log_file.write(std::string(512, '\0').data(), 512);
    }
    const auto damaged = read_file(file("queue.db-wal")).value();
    open();
    CHECK(log.count("log_damaged") == 1);
    CHECK(log.count("lost") == 1);
    CHECK(log.count("swept") == 0);
    CHECK(std::any_of(
        fs::directory_iterator(file("lost")), fs::directory_iterator(),
        [&](const auto& kept) { return read_file(kept.path().string()).value() == damaged; }));
    for (const auto id : large)
      CHECK(
          (fs::exists(file("lost/") + to_string(id)) || fs::exists(file("body/") + to_string(id))));
  }
  SECTION("damaged at its end") {
    // The salts of the last frame.
    const int at = GENERATE(8, 12);
    cut();
    reader.reset();
    constexpr std::uintmax_t header = 32, frame = 24 + 4096;
    const auto frames = check_log(file("queue.db-wal")).value().valid_frames;
    spoil(file("queue.db-wal"), header + (frames - 1) * frame + static_cast<std::uintmax_t>(at), 1);
    open();
    CHECK(log.count("log_damaged") == 1);
    CHECK(log.count("swept") == 0);
  }
  SECTION("empty, or begun and not written") {
    const auto size = GENERATE(0U, 31U, 32U, 9000U);
    queue->stop();
    queue.reset();
    reader.reset();
    std::ofstream(file("queue.db-wal"), std::ios::trunc) << std::string(size, '\0');
    open();
    CHECK(log.count("log_damaged") == 0);
    CHECK(list().size() == 5);
  }
  SECTION("whole") {
    cut();
    reader.reset();
    std::ofstream(file("body/STRAY")) << "x";
    open();
    CHECK(log.count("log_damaged") == 0);
    CHECK(log.count("swept") == 1);
    CHECK(list().size() == 5);
  }
}

TEST_CASE_METHOD(Damaged, "a start without the database says so and keeps the bodies",
                 "[queue][failure]") {
  start();
  std::vector<mail::MessageId> large;
  for (int i = 0; i < 3; ++i)
    large.push_back(accept_large());
  SECTION("it is gone") {
    cut();
    for (const auto* name : {"queue.db", "queue.db-wal", "queue.db-shm"})
      fs::remove(file(name));
    open();
    CHECK(log.count("queue_missing") == 1);
    CHECK(log.count("swept") == 0);
    for (int starts = 0; starts < 2; ++starts) {
      for (const auto id : large)
        CHECK(fs::exists(file("lost/") + to_string(id)));
      cut_again();
      open();
    }
    CHECK(log.count("queue_missing") == 1);
  }
  SECTION("its log is there, and is kept to be put back") {
    const bool is_emptied = GENERATE(false, true);
    const auto kept_log = [&] {
      std::vector<fs::path> logs;
      for (const auto& one : fs::directory_iterator(file("lost")))
        if (one.path().filename().string().starts_with("queue.db-wal"))
          logs.push_back(one.path());
      return logs;
    };
    cut();
    REQUIRE(fs::file_size(file("queue.db-wal")) > 0);
    fs::copy_file(file("queue.db"), file("away.db"));
    if (is_emptied)
      fs::resize_file(file("queue.db"), 0);
    else
      fs::remove(file("queue.db"));
    open();
    CHECK(log.count("queue_missing") == 1);
    CHECK(list().empty());
    REQUIRE(kept_log().size() == 1);
    cut_again();
    for (const auto* name : {"queue.db", "queue.db-wal", "queue.db-shm"})
      fs::remove(file(name));
    fs::rename(file("away.db"), file("queue.db"));
    fs::rename(kept_log().front(), file("queue.db-wal"));
    for (const auto id : large)
      fs::rename(file("lost/") + to_string(id), file("body/") + to_string(id));
    open();
    CHECK(list().size() == 3);
  }
  SECTION("its log is there, and cannot be kept: nothing is begun") {
    cut();
    fs::remove(file("queue.db"));
    const auto size = fs::file_size(file("queue.db-wal"));
    std::ofstream(file("lost")) << "in the way";
    CHECK_FALSE(Queue::open(settings, clock, log).has_value());
    CHECK(fs::file_size(file("queue.db-wal")) == size);
    CHECK_FALSE(fs::exists(file("queue.db")));
  }
  SECTION("it is there") {
    cut();
    open();
    CHECK(log.count("queue_missing") == 0);
    CHECK(list().size() == 3);
  }
}

TEST_CASE_METHOD(Damaged, "a database of which nothing is left is one that is gone",
                 "[queue][failure]") {
  start();
  must_accept("a@b.test", {"c@d.test"});
  queue->stop();
  queue.reset();
  const auto size = fs::file_size(file("queue.db"));
  bool is_kept = true;
  SECTION("removed") {
    fs::remove(file("queue.db"));
    is_kept = false;
  }
  SECTION("empty") {
    fs::resize_file(file("queue.db"), 0);
    is_kept = false;
  }
  SECTION("shorter than a database") {
    fs::resize_file(file("queue.db"), GENERATE(1U, 99U, 511U));
  }
  SECTION("zeros") {
    const auto octets = GENERATE_COPY(std::uintmax_t{512}, std::uintmax_t{4096}, size);
    fs::resize_file(file("queue.db"), 0);
    fs::resize_file(file("queue.db"), octets);
  }
  for (int starts = 0; starts < 2; ++starts) {
    open();
    CHECK(log.count("queue_missing") == 1);
    CHECK(list().empty());
    queue.reset();
    REQUIRE(fs::exists(file("lost")));
    std::vector<std::string> names;
    for (const auto& one : fs::directory_iterator(file("lost")))
      names.push_back(one.path().filename().string());
    REQUIRE(names.size() == 1);
    CHECK(names.front().starts_with(is_kept ? "queue.db-1" : "queue.db-missing-"));
  }
}

TEST_CASE_METHOD(Damaged, "a database that never was one is a new one", "[queue][failure]") {
  queue.reset();
  fs::remove_all(settings.spool);
  fs::create_directory(settings.spool);
  fs::permissions(settings.spool, fs::perms::owner_all);
  SECTION("no file") {}
  SECTION("the process was ended before it wrote into it") {
    std::ofstream(file("queue.db")).close();
  }
  open();
  CHECK(log.count("queue_missing") == 0);
  CHECK_FALSE(fs::exists(file("lost")));
}

TEST_CASE_METHOD(Damaged, "of zeros beside a log that is sound the log has the queue",
                 "[queue][failure]") {
  start();
  for (int i = 0; i < 3; ++i)
    accept_large();
  cut();
  const auto size = fs::file_size(file("queue.db"));
  fs::resize_file(file("queue.db"), 0);
  fs::resize_file(file("queue.db"), size);
  open();
  CHECK(log.count("queue_missing") == 0);
  CHECK(list().size() == 3);
}

// Once all of it is in the database, the log is written again from its begin.
TEST_CASE("what an earlier round of the log left behind its end is no lost mail",
          "[queue][failure]") {
  const TemporaryFolder folder;
  const auto path = folder.path() + "/x.db";
  sqlite3* database = nullptr;
  REQUIRE(sqlite3_open(path.c_str(), &database) == SQLITE_OK);
  const auto run = [&](const char* sql) {
    INFO(sql);
    REQUIRE(sqlite3_exec(database, sql, nullptr, nullptr, nullptr) == SQLITE_OK);
  };
  run("PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; CREATE TABLE t (x)");
  for (int i = 0; i < 20; ++i)
    run("INSERT INTO t VALUES (randomblob(3000))");
  const auto before = check_log(path + "-wal").value();
  CHECK(before.valid_frames > 20);
  CHECK(before.hidden_commits == 0);
  run("PRAGMA wal_checkpoint(RESTART)");
  run("INSERT INTO t VALUES (1)");
  const auto after = check_log(path + "-wal").value();
  CHECK(after.valid_frames > 0);
  CHECK(after.valid_frames < before.valid_frames);
  CHECK(after.hidden_commits == 0);
  run("PRAGMA wal_checkpoint(RESTART)");  // the next round begins with its first frame
  const auto between = check_log(path + "-wal").value();
  CHECK(between.hidden_commits == 0);
  run("PRAGMA wal_checkpoint(TRUNCATE)");
  CHECK(check_log(path + "-wal").value().valid_frames == 0);
  CHECK(check_log(path + "-wal").value().hidden_commits == 0);
  sqlite3_close(database);
}

TEST_CASE_METHOD(Damaged, "one bad page holds up that message alone", "[queue][failure]") {
  start();
  std::vector<mail::MessageId> ids;
  for (int i = 0; i < 12; ++i) {
    auto message = make("a@b.test", {"c@d" + std::to_string(i) + ".test"},
                        std::string(20'000, static_cast<char>('a' + i)));
    ids.push_back(message.id);
    REQUIRE(accept(std::move(message)).has_value());
    record(answer(hand.next(ids.back()), Verdict::retry, clock.now() + std::chrono::minutes(1)));
  }
  queue->stop();
  queue.reset();
  hand.clear();
  // A page in the middle of the content of the sixth.
  const auto text = read_file(file("queue.db")).value();
  const auto at = text.find(std::string(4092, 'f'));
  REQUIRE(at != std::string::npos);
  spoil(file("queue.db"), at / 4096 * 4096, 4096);
  open();
  start();
  clock.pass(std::chrono::minutes(2));
  queue->wake();
  const bool all = hand.wait_for(11);
  INFO(log.all());
  REQUIRE(all);
  settle();
  Filter filter;
  filter.ids = {ids[5]};
  CHECK(list(filter).at(0).status == "held");
  CHECK(queue->totals()->quarantined == 1);
  CHECK(queue->admission() == Admission::open);
  must_accept("a@b.test", {"c@d.test"});
}

TEST_CASE_METHOD(Damaged, "a bad page of what had landed does not keep the queue from starting",
                 "[queue][failure]") {
  start();
  std::vector<mail::MessageId> ids;
  for (int i = 0; i < 12; ++i) {
    auto message = make("a@b.test", {"c@d" + std::to_string(i) + ".test"},
                        std::string(20'000, static_cast<char>('a' + i)));
    ids.push_back(message.id);
    REQUIRE(accept(std::move(message)).has_value());
  }
  queue->stop();
  queue.reset();
  hand.clear();
  const auto text = read_file(file("queue.db")).value();
  const auto at = text.find(std::string(4092, 'f'));
  REQUIRE(at != std::string::npos);
  spoil(file("queue.db"), at / 4096 * 4096, 4096);
  open();
  start();
  const bool all = hand.wait_for(11);
  INFO(log.all());
  REQUIRE(all);
  CHECK(log.count("passed_over") == 1);
  CHECK(queue->admission() == Admission::open);
  must_accept("a@b.test", {"c@d.test"});
}

TEST_CASE_METHOD(Damaged, "a change goes on around a bad page", "[queue][failure]") {
  start();
  // Through the whole queue, and through what a filter finds at once.
  const bool by_ids = GENERATE(false, true);
  Filter filter;
  for (int i = 0; i < 12; ++i) {
    auto message = make("a@b.test", {"c@d" + std::to_string(i) + ".test"},
                        std::string(20'000, static_cast<char>('a' + i)));
    const auto id = message.id;
    if (by_ids)
      filter.ids.push_back(id);
    REQUIRE(accept(std::move(message)).has_value());
    record(answer(hand.next(id), Verdict::retry, clock.now() + std::chrono::minutes(1)));
  }
  queue->stop();
  queue.reset();
  const auto text = read_file(file("queue.db")).value();
  const auto at = text.find(std::string(4092, 'f'));
  REQUIRE(at != std::string::npos);
  spoil(file("queue.db"), at / 4096 * 4096, 4096);
  open();
  start();
  // What becomes due in the same transaction finds the damage.
  const auto changed = change(Verb::retry, filter);
  CHECK(changed.messages == 12);
  REQUIRE(hand.wait_for(11));
  settle();
  CHECK(queue->totals()->quarantined == 1);
  CHECK(log.count("storage_failed") == 0);
}

TEST_CASE_METHOD(Damaged, "room is kept for what must be recorded", "[queue][failure]") {
  start();
  must_accept("a@b.test", {"c@d.test"});
  CHECK(fs::file_size(file("reserve")) == 4U << 20U);
}

}  // namespace postrider::queue::test
