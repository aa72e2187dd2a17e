// The store fails at every step, one after the other; after each run the promises hold.
#include "tests/unit/queue/failing_vfs.h"
#include "tests/unit/queue/queue_fixture.h"

#include <catch2/catch.hpp>
#include <sqlite3.h>

#include <filesystem>
#include <future>
#include <set>
#include <thread>

namespace postrider::queue::test {

using mail::MessageId;
using mail::Verdict;

namespace {

struct WithVfs {
  FailingVfs vfs;  // outlives the queue
};

// One life of a queue, and what was promised in it.
struct Life : WithVfs, QueueFixture {
  std::set<MessageId> acknowledged, refused, delivered;

  void start_from(const std::string& existing) {
    std::filesystem::copy(existing, settings.spool, std::filesystem::copy_options::recursive);
  }

  bool open_failing() {
    auto opened = Queue::open_with(settings, clock, log, vfs.name());
    if (opened)
      queue = *std::move(opened);
    return opened.has_value();
  }

  std::optional<MessageId> try_accept(std::vector<std::string> recipients) {
    auto message = make("a@b.test", recipients);
    const auto id = message.id;
    const bool stored = accept(std::move(message)).has_value();
    (stored ? acknowledged : refused).insert(id);
    return stored ? std::optional(id) : std::nullopt;
  }

  void say(MessageId id, Verdict verdict) {
    std::vector<Record> records;
    records.push_back(answer(hand.next(id), verdict, clock.now() + std::chrono::hours(1)));
    queue->record(std::move(records));
    if (verdict == Verdict::delivered)
      delivered.insert(id);
  }

  void live() {
    start();
    if (const auto id = try_accept({"c@d.test"}))
      say(*id, Verdict::delivered);
    if (const auto id = try_accept({"c@d.test", "c@e.test"}))
      say(*id, Verdict::retry);
    if (const auto id = try_accept({"c@f.test"}))
      hand.next(*id);
    SiteState site;
    site.site = "mx.d.test";
    site.failures = 1;
    site.blocked_until = clock.now() + std::chrono::hours(2);
    queue->assign_site("d.test", site.site);
    queue->set_site(site);
    try_accept({"c@d.test"});
  }

  // Until mail is accepted again.
  void recover() {
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(120);
    while (queue->admission() != Admission::open) {
      if (std::chrono::steady_clock::now() >= until)
        FAIL("not open again: " << log.all());
      clock.pass(std::chrono::seconds(1));
      queue->wake();
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }

  void try_settle() {
    std::promise<void> told;
    queue->change(Verb::retry, {}, true, [&](const Result<Changed>&) { told.set_value(); });
    told.get_future().wait();
  }

  std::set<MessageId> stored() {
    std::set<MessageId> ids;
    for (const auto& message : list())
      ids.insert(message.id);
    return ids;
  }

  void check_integrity() {
    sqlite3* database = nullptr;
    REQUIRE(sqlite3_open_v2((settings.spool + "/queue.db").c_str(), &database, SQLITE_OPEN_READONLY,
                            nullptr) == SQLITE_OK);
    sqlite3_stmt* statement = nullptr;
    REQUIRE(sqlite3_prepare_v2(database, "PRAGMA integrity_check", -1, &statement, nullptr) ==
            SQLITE_OK);
    REQUIRE(sqlite3_step(statement) == SQLITE_ROW);
    CHECK(std::string(reinterpret_cast<const char*>(sqlite3_column_text(statement, 0))) == "ok");
    sqlite3_finalize(statement);
    sqlite3_close(database);
  }
};

struct Failure {
  std::string name;
  int code;
  std::uint64_t stride;
};

}  // namespace

TEST_CASE("a failed write or sync at any step loses nothing and stores nothing refused (G05, G07)",
          "[queue][failure]") {
  const Failure failures[] = {{"write", SQLITE_IOERR_WRITE, 3},
                              {"sync", SQLITE_IOERR_FSYNC, 1},
                              {"full disk", SQLITE_FULL, 2},
                              {"damage", SQLITE_CORRUPT, 5}};
  QueueFixture existing;  // so that the steps are those of a life, not of a birth
  existing.open();
  existing.queue.reset();
  for (const auto& failure : failures) {
    DYNAMIC_SECTION(failure.name) {
      bool has_failed = true;
      for (std::uint64_t step = 1; has_failed; step += failure.stride) {
        Life life;
        life.start_from(existing.settings.spool);
        INFO("step " << step);
        life.vfs.fail_at(step, failure.code, FailingVfs::Mode::once);
        if (life.open_failing()) {
          life.live();
          life.recover();
          life.try_settle();
          life.recover();
          life.queue.reset();
        }
        has_failed = life.vfs.has_failed();
        life.vfs.heal();
        life.hand.clear();
        life.open();
        const auto stored = life.stored();
        for (const auto id : life.acknowledged)
          CHECK(stored.contains(id) == !life.delivered.contains(id));
        for (const auto id : life.refused)
          CHECK_FALSE(stored.contains(id));
        life.queue.reset();
        life.check_integrity();
        REQUIRE(step < 1000);
      }
    }
  }
}

TEST_CASE("a power cut at any step loses nothing that was acknowledged (G02, G03)",
          "[queue][failure]") {
  bool was_cut = true;
  for (std::uint64_t step = 1; was_cut; ++step) {
    Life life;
    INFO("step " << step);
    life.vfs.fail_at(step, SQLITE_IOERR, FailingVfs::Mode::cut);
    if (life.open_failing()) {
      life.live();
      life.queue.reset();
    }
    was_cut = life.vfs.has_failed();
    std::filesystem::remove(life.settings.spool + "/queue.db-shm");
    life.hand.clear();
    life.open();
    const auto stored = life.stored();
    for (const auto id : life.acknowledged)
      if (!life.delivered.contains(id))
        CHECK(stored.contains(id));
    life.queue.reset();
    life.check_integrity();
    REQUIRE(step < 1000);
  }
}

// Each by itself, with commits between them.
TEST_CASE("failures that are far apart are no lost storage", "[queue][failure]") {
  Life life;
  REQUIRE(life.open_failing());
  life.start();
  for (int failure = 0; failure < 3; ++failure) {
    life.vfs.fail_at(1, SQLITE_IOERR_FSYNC, FailingVfs::Mode::once);
    CHECK_FALSE(life.try_accept({"c@e.test"}).has_value());
    CHECK_FALSE(life.queue->is_lost());
    life.recover();
    CHECK(life.try_accept({"c@d.test"}).has_value());
    life.clock.pass(std::chrono::minutes(2));
  }
  CHECK(life.log.count("storage_lost") == 0);
}

TEST_CASE("a refused message that reached the disk all the same is not sent", "[queue][failure]") {
  Life life;
  REQUIRE(life.open_failing());
  life.start();
  life.must_accept("a@b.test", {"c@d.test"});
  life.vfs.fail_at(GENERATE(1U, 2U), SQLITE_IOERR_FSYNC, FailingVfs::Mode::unheard);
  REQUIRE_FALSE(life.try_accept({"c@e.test"}).has_value());
  life.clock.pass(std::chrono::seconds(1));
  life.queue->wake();
  life.try_settle();
  CHECK(life.queue->admission() == Admission::failed);
  life.vfs.heal();
  life.recover();
  life.settle();
  const auto stored = life.stored();
  CHECK(stored.size() == 1);
  for (const auto id : life.refused)
    CHECK_FALSE(stored.contains(id));
  life.hand.clear();
  life.reopen();
  CHECK(life.stored().size() == 1);
}

// What is recorded is recorded again when the store is open again, so it must not be there already:
// the message would have moved, its notice be stored, its attempt counted.
TEST_CASE("what reached the disk by a commit that failed is undone before it is done again",
          "[queue][failure]") {
  bool has_failed = true;
  for (std::uint64_t step = 1; has_failed; ++step) {
    Life life;
    INFO("step " << step);
    REQUIRE(life.open_failing());
    life.vfs.fail_at(step, SQLITE_IOERR_FSYNC, FailingVfs::Mode::unheard);
    life.live();
    life.clock.pass(std::chrono::seconds(1));
    life.queue->wake();
    life.try_settle();
    has_failed = life.vfs.has_failed();
    life.vfs.heal();
    life.recover();
    life.try_settle();
    life.settle();
    CHECK(life.queue->admission() == Admission::open);
    CHECK(life.log.all().find("missing") == std::string::npos);
    const auto stored = life.stored();
    for (const auto id : life.acknowledged)
      CHECK(stored.contains(id) == !life.delivered.contains(id));
    for (const auto id : life.refused)
      CHECK_FALSE(stored.contains(id));
    for (const auto id : stored) {
      const auto attempts = life.queue->attempts(id);
      REQUIRE(attempts.has_value());
      std::set<std::uint32_t> tried;
      for (const auto& attempt : *attempts)
        CHECK(tried.insert(attempt.recipient).second);
    }
    life.queue.reset();
    life.check_integrity();
    REQUIRE(step < 1000);
  }
}

TEST_CASE("a full disk refuses mail as such and opens again by itself (X06)", "[queue][failure]") {
  Life life;
  REQUIRE(life.open_failing());
  life.start();
  const auto id = life.must_accept("a@b.test", {"c@d.test"});
  life.vfs.fail_at(1, SQLITE_FULL, FailingVfs::Mode::forever);
  auto refused = life.accept(life.make("a@b.test", {"c@d.test"}));
  REQUIRE_FALSE(refused.has_value());
  CHECK(refused.error().code() == boost::system::errc::no_space_on_device);
  CHECK(life.queue->admission() == Admission::disk_low);
  // Room that was kept makes it possible to store what delivery says meanwhile.
  const auto reserve = life.settings.spool + "/reserve";
  CHECK_FALSE(std::filesystem::exists(reserve));
  std::vector<Record> records;
  records.push_back(answer(life.hand.next(id), Verdict::delivered));
  life.queue->record(std::move(records));
  life.vfs.heal();
  life.recover();
  life.settle();
  CHECK(life.list().empty());
  life.must_accept("a@b.test", {"c@d.test"});
  life.clock.pass(std::chrono::seconds(1));
  life.settle();
  CHECK(std::filesystem::exists(reserve));
}

TEST_CASE("leases of one message are kept apart while the store fails", "[queue][failure]") {
  Life life;
  REQUIRE(life.open_failing());
  life.start();
  const auto minutes = [](int count) { return std::chrono::minutes(count); };
  const auto id = life.must_accept("a@b.test", {"a@silent.test", "b@grey.test", "c@good.test"});
  const Lease silent = life.hand.next(id);
  Record part;
  part.id = id;
  part.partial = true;
  part.results.push_back({1, outcome(Verdict::retry), life.clock.now() + minutes(5)});
  life.record(std::move(part));
  life.clock.pass(minutes(5));
  const Lease again = life.hand.next(id);
  // Both say something while nothing can be stored; each is believed once, when it can.
  life.vfs.fail_at(1, SQLITE_FULL, FailingVfs::Mode::forever);
  std::vector<Record> records;
  records.push_back(answer(again, Verdict::retry, life.clock.now() + minutes(5)));
  part = {};
  part.id = id;
  part.partial = true;
  part.results.push_back({2, outcome(Verdict::delivered), {}});
  records.push_back(std::move(part));
  life.queue->record(std::move(records));
  CHECK_FALSE(life.accept(life.make("a@b.test", {"c@d.test"})).has_value());
  life.vfs.heal();
  life.recover();
  life.settle();
  REQUIRE(life.list().size() == 1);
  CHECK(life.list()[0].recipients.size() == 2);
  life.clock.pass(minutes(5));
  const Lease third = life.hand.next(id);
  REQUIRE(third.recipients.size() == 1);
  CHECK(third.recipients[0].index == 1);
  CHECK(third.recipients[0].attempts == 2);
  life.record(answer(third, Verdict::delivered));
  part = {};
  part.id = id;
  part.results.push_back({0, outcome(Verdict::delivered), {}});
  life.record(std::move(part));
  CHECK(life.list().empty());
  CHECK(life.queue->counters().delivered == 3);
}

TEST_CASE("too little room refuses mail before it is full (X06)", "[queue][failure]") {
  QueueFixture fixture;
  fixture.settings.room_needed = UINT64_MAX;
  fixture.open();
  fixture.start();
  CHECK(fixture.queue->admission() == Admission::disk_low);
  CHECK(fixture.log.count("disk_low") == 1);
  auto refused = fixture.accept(fixture.make("a@b.test", {"c@d.test"}));
  REQUIRE_FALSE(refused.has_value());
  CHECK(refused.error().code() == boost::system::errc::no_space_on_device);
  auto settings = fixture.settings;
  settings.room_needed = 0;
  fixture.queue->reconfigure(settings);
  fixture.clock.pass(std::chrono::seconds(1));
  fixture.settle();
  CHECK(fixture.queue->admission() == Admission::open);
  CHECK(fixture.log.count("disk_has_room") == 0);  // it may change with each check
  fixture.clock.pass(std::chrono::minutes(1));
  // Though nothing happens.
  for (int tries = 0; tries < 100 && fixture.log.count("disk_has_room") == 0; ++tries)
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  CHECK(fixture.log.count("disk_low") == 1);
  CHECK(fixture.log.count("disk_has_room") == 1);
  fixture.must_accept("a@b.test", {"c@d.test"});
}

TEST_CASE("one refused message of a batch harms no other", "[queue][failure]") {
  QueueFixture fixture;
  fixture.open();
  fixture.start();
  auto message = fixture.make("a@b.test", {"c@d.test"});
  const auto copy = message;
  REQUIRE(fixture.accept(std::move(message)).has_value());
  auto refused = fixture.accept(copy);  // its id is taken
  REQUIRE_FALSE(refused.has_value());
  CHECK(refused.error().code() == Errc::storage);
  CHECK(fixture.list().size() == 1);
  CHECK(fixture.queue->admission() == Admission::open);
}

}  // namespace postrider::queue::test
