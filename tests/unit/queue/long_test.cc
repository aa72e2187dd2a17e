// What takes long is done in pieces, between which mail goes on.
#include "tests/support/cpu_time.h"
#include "tests/unit/queue/failing_vfs.h"
#include "tests/unit/queue/queue_fixture.h"

#include <catch2/catch.hpp>
#include <sqlite3.h>

#include <algorithm>
#include <filesystem>
#include <future>
#include <map>
#include <mutex>
#include <string>
#include <unistd.h>
#include <utility>

namespace postrider::queue::test {

using mail::Verdict;

namespace {

struct Long : QueueFixture {
  explicit Long(const char* vfs = nullptr) {
    settings.fresh_messages = 1;  // the others wait at once
    settings.leased_messages = 1;
    auto opened = Queue::open_with(settings, clock, log, vfs);
    REQUIRE(opened.has_value());
    queue = *std::move(opened);
    start();
  }

  void fill(std::size_t messages, const std::string& content = "Subject: x\r\n\r\nbody\r\n") {
    stored = 0;
    for (std::size_t i = 0; i < messages; ++i) {
      Submission submission;
      submission.message = std::make_shared<const mail::Message>(
          make("a@b.test", {"c@d" + std::to_string(i % 7) + ".test", "d@e.test"}, content));
      loop.loop.post([this, kept = std::make_shared<Submission>(std::move(submission))] {
        loop.loop.spawn(store(*queue, loop.loop, std::move(*kept), stored), log, "store");
      });
    }
    for (int i = 0; i < 120'000 && stored < messages; ++i)
      ::usleep(1000);
    REQUIRE(stored == messages);
  }

  std::atomic<std::size_t> stored{0};

  // One message behind the other; how many were answered before.
  static Task<void> store_until(Long& self, const std::atomic<bool>& told,
                                std::promise<std::size_t>& answered) {
    std::size_t before = 0;
    while (!told) {
      Submission submission;
      submission.message =
          std::make_shared<const mail::Message>(self.make("a@b.test", {"c@d.test"}));
      const auto accepted = co_await self.queue->accept(self.loop.loop, std::move(submission));
      before += accepted && !told ? 1 : 0;
    }
    answered.set_value(before);
  }

  static Task<void> store(Queue& queue, Loop& loop, Submission submission,
                          std::atomic<std::size_t>& stored) {
    const auto accepted = co_await queue.accept(loop, std::move(submission));
    if (accepted)
      ++stored;
  }
};

struct HasVfs {
  FailingVfs vfs;  // outlives the queue
};

// The steps through whole tables that each statement took at most, of all databases that are opened
// while it lives. Only one at a time.
class Scans {
 public:
  Scans() {
    worst().clear();
    sqlite3_auto_extension(reinterpret_cast<void (*)()>(&Scans::watch));
  }
  ~Scans() { sqlite3_cancel_auto_extension(reinterpret_cast<void (*)()>(&Scans::watch)); }
  Scans(const Scans&) = delete;
  Scans& operator=(const Scans&) = delete;

  static std::map<std::string, int> take() {
    const std::lock_guard lock(mutex());
    return std::exchange(worst(), {});
  }

 private:
  static int watch(sqlite3* database, char**, const sqlite3_api_routines*) {
    return sqlite3_trace_v2(database, SQLITE_TRACE_PROFILE, &Scans::note, nullptr);
  }
  static int note(unsigned, void*, void* statement, void*) {
    auto* const done = static_cast<sqlite3_stmt*>(statement);
    const int steps = sqlite3_stmt_status(done, SQLITE_STMTSTATUS_FULLSCAN_STEP, 1);
    const std::lock_guard lock(mutex());
    auto& most = worst()[sqlite3_sql(done)];
    most = std::max(most, steps);
    return 0;
  }
  static std::mutex& mutex() {
    static std::mutex one;
    return one;
  }
  static std::map<std::string, int>& worst() {
    static std::map<std::string, int> all;
    return all;
  }
};

struct HasScans {
  Scans scans;  // before the queue is opened
};

struct LongScanned : HasScans, Long {};

struct LongOnVfs : HasVfs, Long {
  LongOnVfs() : Long(vfs.name()) {}
};

}  // namespace

TEST_CASE_METHOD(Long, "a change of many is many transactions", "[queue][change]") {
  fill(1500);
  settle();
  const auto commits = queue->counters().commits;
  CHECK(change(Verb::hold, {}, true).messages == 1500);
  const auto changed = change(Verb::hold, {});
  CHECK(changed.messages == 1500);
  CHECK(changed.recipients == 3000);
  CHECK(queue->counters().commits >= commits + 6);
  const auto totals = queue->totals().value();
  CHECK(totals.held >= 1498);
  CHECK(totals.held + totals.active == 1500);  // two are in hand
  CHECK(change(Verb::release, {}).messages >= 1499);
  CHECK(change(Verb::retry, {}).messages == 1500);
  Filter one;
  one.domain = "d3.test";
  CHECK(change(Verb::remove, one).recipients == 214);
  CHECK(queue->totals()->recipients == 3000 - 214);
  CHECK(change(Verb::remove, {}).messages == 1500);
  CHECK(queue->totals()->messages == 0);
  CHECK(log.count("queue_changed") == 5);
  CHECK(log.count("removed") >= 1498);  // two are in hand
}

// Each of them waits for a part of it: as one, it would be over with the first. Who stores may be
// late for one dry run, not for all of them.
TEST_CASE_METHOD(Long, "messages are answered while a dry run of many goes on", "[queue][change]") {
  constexpr int kRuns = 50;
  fill(3000);
  settle();
  std::size_t most = 0;
  for (int i = 0; i < kRuns && most < 2; ++i) {
    std::promise<Result<Changed>> told;
    std::promise<std::size_t> answered;
    std::atomic<bool> is_told{false};
    queue->change(Verb::hold, {}, true, [&](const Result<Changed>& changed) {
      is_told = true;
      told.set_value(changed);
    });
    loop.loop.post([&] { loop.loop.spawn(store_until(*this, is_told, answered), log, "store"); });
    CHECK(told.get_future().get().value().messages >= 3000);
    most = std::max(most, answered.get_future().get());
  }
  CHECK(most >= 2);
}

TEST_CASE_METHOD(Long, "every way to count gives what a listing gives", "[queue][listing]") {
  fill(40);
  Filter held;
  held.domain = "d1.test";
  change(Verb::hold, held);
  record(answer(hand.next(), Verdict::retry, clock.now() + std::chrono::hours(1)));
  const auto check = [this](const char* name, const Filter& filter) {
    INFO(name);
    std::size_t recipients = 0;
    const auto listed = list(filter);
    for (const auto& message : listed)
      recipients += message.recipients.size();
    const auto counted = queue->count(filter).value();
    CHECK(counted.messages == listed.size());
    CHECK(counted.recipients == recipients);
  };
  check("all", {});
  for (const char* status : {"active", "queued", "deferred", "held"}) {
    Filter filter;
    filter.status = status;
    check(status, filter);
  }
  // Each message has one status, the same for those who count, list, or ask for all.
  const auto of_status = [this](const char* status) {
    Filter filter;
    filter.status = status;
    return queue->count(filter).value().messages;
  };
  const auto totals = queue->totals().value();
  CHECK(totals.messages == 40);
  CHECK(totals.active == of_status("active"));
  CHECK(totals.queued == of_status("queued"));
  CHECK(totals.deferred == of_status("deferred"));
  CHECK(totals.held == of_status("held"));
  CHECK(totals.active + totals.queued + totals.deferred + totals.held == 40);
  CHECK(totals.active > 0);

  Filter filter;
  filter.domain = "d2.test";
  check("domain", filter);
  filter.status = "queued";
  check("domain and status", filter);
  filter = {};
  filter.to = "@e.test";
  check("to", filter);
  filter = {};
  filter.from = "@b.test";
  check("from", filter);
  filter.larger = 10;
  check("larger", filter);
  filter.larger = 1000;
  check("none", filter);
  filter = {};
  filter.older = std::chrono::milliseconds(0);
  check("older", filter);
  filter.ids = {list()[3].id, list()[5].id};
  check("ids", filter);
}

TEST_CASE_METHOD(QueueFixture, "a count in steps counts what moves on meanwhile once",
                 "[queue][listing]") {
  open();
  start();
  const auto moves = must_accept("a@b.test", {"c@d.test"});
  const auto goes = must_accept("a@b.test", {"c@d.test"});
  Counting counting;
  counting.filter.from = "a@b.test";
  REQUIRE(queue->count_on(counting).has_value());
  REQUIRE_FALSE(counting.is_done);
  record(answer(hand.next(moves), Verdict::retry, clock.now() + std::chrono::hours(1)));
  record(answer(hand.next(goes), Verdict::delivered));
  must_accept("other@b.test", {"c@d.test"});
  while (!counting.is_done)
    REQUIRE(queue->count_on(counting).has_value());
  CHECK(counting.counted.messages == 2);  // as it was when the count began
  CHECK(counting.counted.recipients == 2);
}

TEST_CASE_METHOD(Long, "listing a message is work in proportion to its recipients",
                 "[queue][listing]") {
  fill(1);  // which takes the place in hand
  const auto work_with = [this](std::size_t recipients) {
    auto message =
        make("a@b.test", std::vector<std::string>(recipients, "r@" + std::string(200, 'd')));
    for (auto& each : message.envelope.recipients)
      each.original_recipient = "rfc822;" + std::string(400, 'o');
    Filter only;
    only.ids.push_back(message.id);
    REQUIRE(accept(std::move(message)).has_value());
    settle();
    CHECK(list(only).at(0).recipients.size() == recipients);
    double least = 1000;
    for (int i = 0; i < 5; ++i)
      least = std::min(least, postrider::test::cpu_seconds([&] { list(only); }));
    return least;
  };
  const auto few = work_with(2000);
  CHECK(work_with(8000) < 8 * few);  // 4 times, and not 16
}

TEST_CASE_METHOD(LongScanned, "no statement goes through the whole queue", "[queue][change]") {
  static constexpr int kMost = 300;  // of 3,000 messages and 6,000 recipients
  fill(3000);
  settle();
  const auto none_is_long = [](const char* what) {
    for (const auto& [sql, steps] : Scans::take()) {
      INFO(what << ": " << sql);
      CHECK(steps <= kMost);
    }
  };
  none_is_long("accepting");
  const auto all = list();
  Scans::take();
  Filter one;
  one.ids = {all[100].id};
  Filter sender;
  sender.from = "nobody@b.test";  // in pieces
  Filter domain;
  domain.domain = "nowhere.test";
  for (const auto& filter : {one, sender, domain})
    for (const auto verb :
         {Verb::hold, Verb::release, Verb::retry, Verb::bounce, Verb::expire, Verb::remove})
      for (const bool dry_run : {true, false}) {
        change(verb, filter, dry_run);
        none_is_long("a change");
      }
  for (int i = 0; i < 20; ++i)
    record(answer(hand.next(), i % 2 ? Verdict::delivered : Verdict::retry,
                  clock.now() + std::chrono::hours(1)));
  clock.pass(std::chrono::hours(2));
  queue->wake();
  settle();
  none_is_long("delivering");
  for (const auto& filter : {one, domain}) {
    list(filter);
    CHECK(queue->count(filter).has_value());
    none_is_long("a listing");
  }
  CHECK(queue->totals().has_value());
  none_is_long("the totals");
}

TEST_CASE_METHOD(Long,
                 "what status and count say of a long queue is no more work than of a short one",
                 "[queue][listing]") {
  const auto work = [this](const Filter& filter, std::size_t messages) {
    double least = 1000;
    for (int i = 0; i < 5; ++i)
      least = std::min(least, postrider::test::cpu_seconds([&] {
                         for (int again = 0; again < 50; ++again) {
                           CHECK(queue->totals()->messages == messages);
                           CHECK(queue->count(filter).has_value());
                         }
                       }));
    return least;
  };
  std::vector<Filter> filters(6);
  filters[1].status = "queued";
  filters[2].status = "deferred";
  filters[3].status = "held";
  filters[4].status = "active";
  filters[5].domain = "nowhere.test";  // known by the domains, of which there are eight
  fill(100);
  std::vector<double> few;
  for (const auto& filter : filters)
    few.push_back(work(filter, 100));
  fill(4900);
  for (std::size_t i = 0; i < filters.size(); ++i) {
    INFO(i);
    CHECK(work(filters[i], 5000) < 8 * few[i]);  // and not 50 times
  }
}

TEST_CASE_METHOD(Long, "a change is said to the log with who asked", "[queue][change]") {
  fill(3);
  Filter filter;
  filter.from = "a@b.test";
  std::promise<Result<Changed>> told;
  queue->change(Verb::remove, filter, false,
                [&](Result<Changed> changed) { told.set_value(std::move(changed)); },
                {1234, "anna"});
  REQUIRE(told.get_future().get().has_value());
  const auto text = log.all();
  CHECK(text.find("queue_changed verb=remove filter=\"--from a@b.test\"") != std::string::npos);
  CHECK(text.find("uid=1234 user=anna") != std::string::npos);
  CHECK(text.find("by=administrator") != std::string::npos);
}

TEST_CASE_METHOD(Long, "room is given back when a long queue is empty", "[queue][room]") {
  // Fewer free pages than this are kept for what comes, whatever the steps on the way there were.
  constexpr std::uintmax_t kKept = (1024 + 128) * 4096;
  fill(5000, std::string(4000, 'x'));
  CHECK(change(Verb::remove, {}).messages == 5000);
  const auto file = settings.spool + "/queue.db";
  CHECK(std::filesystem::file_size(file) > 3 * kKept);
  for (int i = 0; i < 5000 && std::filesystem::file_size(file) >= kKept; ++i) {
    clock.pass(std::chrono::milliseconds(200));
    queue->wake();
    settle();
    ::usleep(20'000);  // the log goes to the file when nothing else happens
  }
  CHECK(std::filesystem::file_size(file) < kKept);
  // And the queue works on.
  must_accept("a@b.test", {"c@d.test"});
  CHECK(list().size() == 1);
}

TEST_CASE_METHOD(LongOnVfs, "who waits for a commit does not wait for the database to be synced",
                 "[queue][checkpoint]") {
  std::atomic<int> syncs{0}, waited_for{0};
  vfs.on_database_sync([&] {
    ++syncs;
    // All that is stored has been answered already, or will be while this goes on.
    const auto taken = queue->counters().accepted;
    for (int i = 0; i < 10'000 && stored < taken; ++i)
      ::usleep(1000);
    if (stored < taken)
      ++waited_for;
  });
  fill(600, std::string(60'000, 'x'));  // 36 MB: more than the log holds
  settle();                             // the next turn of the thread comes behind its checkpoint
  CHECK(syncs > 0);
  CHECK(waited_for == 0);
  vfs.on_database_sync({});
}

}  // namespace postrider::queue::test
