// What the queue tells its witness is what came to pass: nothing less, whatever fails.
#include "tests/unit/queue/failing_vfs.h"
#include "tests/unit/queue/queue_fixture.h"

#include <catch2/catch.hpp>
#include <sqlite3.h>

#include <filesystem>
#include <fstream>
#include <future>
#include <map>

namespace postrider::queue::test {

using mail::Verdict;

namespace {

// Keeps what it is told, each number once, and settles when the test says so.
class Keeper : public Witness {
 public:
  void witness(std::vector<Fact> facts) override {
    const std::lock_guard lock(mutex_);
    for (auto& fact : facts) {
      CHECK((fact.number > newest_ || told_.contains(fact.number)));
      newest_ = std::max(newest_, fact.number);
      ++times_;
      told_.insert_or_assign(fact.number, std::move(fact.bytes));
    }
  }
  // "accepted 01ABC c@d.test", in their order.
  std::vector<std::string> lines() const {
    const std::lock_guard lock(mutex_);
    std::vector<std::string> lines;
    for (const auto& [number, bytes] : told_) {
      const auto line = decode_fact(bytes).value();
      const auto verdict = line.value("verdict");
      lines.push_back((verdict.empty() ? line.name : std::string(verdict)) + " " + line.id + " " +
                      std::string(line.value("to")));
    }
    return lines;
  }
  std::int64_t newest() const {
    const std::lock_guard lock(mutex_);
    return newest_;
  }
  std::size_t times() const {
    const std::lock_guard lock(mutex_);
    return times_;
  }
  FactLine last() const {
    const std::lock_guard lock(mutex_);
    return decode_fact(told_.rbegin()->second).value();
  }

 private:
  mutable std::mutex mutex_;
  std::map<std::int64_t, std::string> told_;
  std::int64_t newest_ = 0;
  std::size_t times_ = 0;
};

struct Told : QueueFixture {
  Told() { settings.keeps_facts = true; }
  ~Told() { queue.reset(); }  // before its witness
  void begin() { queue->start(&hand, &keeper); }
  void die() {
    QueueFixture::die();
    open();
    begin();
  }
  std::int64_t rows() {
    sqlite3* handle = nullptr;
    REQUIRE(sqlite3_open((settings.spool + "/queue.db").c_str(), &handle) == SQLITE_OK);
    sqlite3_stmt* statement = nullptr;
    REQUIRE(sqlite3_prepare_v2(handle, "SELECT count(*) FROM fact", -1, &statement, nullptr) ==
            SQLITE_OK);
    REQUIRE(sqlite3_step(statement) == SQLITE_ROW);
    const auto found = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    sqlite3_close(handle);
    return found;
  }
  Keeper keeper;
};

std::string str(mail::MessageId id) {
  return to_string(id);
}

}  // namespace

TEST_CASE("a line is read back, and rubbish is not", "[queue][facts]") {
  auto line = encode_line(LogEvent(Level::info, "attempted", "01ABC").add("to", "a\xff@b"));
  append_field(line, "attempt", "2");
  append_field(line, "attempt", "3");
  const auto fact = encode_fact(TimePoint(Duration(17)), line);
  const auto again = decode_fact(fact);
  REQUIRE(again.has_value());
  CHECK(again->when == TimePoint(Duration(17)));
  CHECK((again->name == "attempted" && again->id == "01ABC"));
  CHECK(again->value("to") == "a\xff@b");
  CHECK(again->value("attempt") == "3");
  for (std::size_t size = 0; size < fact.size(); ++size)
    if (const auto cut = decode_fact(fact.substr(0, size)))
      CHECK(cut->fields.size() < again->fields.size());
  CHECK_FALSE(decode_fact(fact + "\xff").has_value());
  CHECK_FALSE(decode_fact(std::string(300'000, '\x01')).has_value());
}

TEST_CASE_METHOD(Told, "each message's facts are complete and in order", "[queue][facts]") {
  open();
  begin();
  const auto both = must_accept("a@b.test", {"c@d.test", "e@f.test"});
  auto lease = hand.next(both);
  Record record;
  record.id = both;
  record.results.push_back({0, outcome(Verdict::delivered), {}});
  record.results.push_back({1, outcome(Verdict::retry), clock.now() + std::chrono::hours(1)});
  this->record(std::move(record));
  const auto bounced = must_accept("a@b.test", {"x@d.test"});
  this->record(answer(hand.next(bounced), Verdict::bounce));
  CHECK(change(Verb::hold, {}).recipients == 1);
  CHECK(change(Verb::release, {}).recipients == 1);
  hand.next(both);  // in delivery's hands when it is removed
  CHECK(change(Verb::remove, {}).messages == 1);
  record = {};
  record.id = both;
  record.untried.push_back(1);
  this->record(std::move(record));
  const auto waiting = must_accept("a@b.test", {"y@d.test"});
  this->record(answer(hand.next(waiting), Verdict::retry, clock.now() + std::chrono::hours(1)));
  CHECK(change(Verb::remove, {}).messages == 1);
  settle();
  const auto one = str(both), two = str(bounced), three = str(waiting);
  CHECK(keeper.lines() == std::vector<std::string>{
                              "accepted " + one + " c@d.test", "sent " + one + " c@d.test",
                              "deferred " + one + " e@f.test", "accepted " + two + " x@d.test",
                              "bounced " + two + " x@d.test", "held " + one + " e@f.test",
                              "released " + one + " e@f.test", "removed " + one + " e@f.test",
                              "accepted " + three + " y@d.test", "deferred " + three + " y@d.test",
                              "removed " + three + " y@d.test"});
  CHECK(keeper.last().value("by") == "administrator");
}

TEST_CASE_METHOD(Told, "a message that is quarantined is told of with its sender's references",
                 "[queue][facts]") {
  open();
  begin();
  auto message = make("a@b.test", {"c@d.test"});
  message.envelope.envelope_id = "order+2B1";
  message.origin.trace_parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  const auto id = message.id;
  const auto trace = message.origin.trace_parent;
  REQUIRE(accept(std::move(message)));
  record(answer(hand.next(id), Verdict::retry, clock.now() + std::chrono::hours(1)));
  queue->quarantine(id, "its content is gone");
  settle();
  const auto held = keeper.last();
  CHECK(held.name == "held");
  CHECK(held.value("reason") == "its content is gone");
  CHECK(held.value("from") == "a@b.test");
  CHECK(held.value("dsn_id") == "order+2B1");
  CHECK(held.value("traceparent") == trace);
}

TEST_CASE_METHOD(Told, "what expires is told once it is given up, and a reroute by what follows",
                 "[queue][facts]") {
  open();
  begin();
  const auto id = must_accept("a@b.test", {"c@d.test"});
  record(answer(hand.next(id), Verdict::retry, clock.now() + std::chrono::hours(1)));
  std::promise<Result<Changed>> told;
  queue->change(
      Verb::reroute, {}, false,
      [&](Result<Changed> changed) { told.set_value(std::move(changed)); }, {1000, "ann"},
      "smtp://relay.test:25");
  const auto rerouted = told.get_future().get();
  REQUIRE(rerouted.has_value());
  CHECK(rerouted->recipients == 1);
  record(answer(hand.next(id), Verdict::retry, clock.now() + std::chrono::hours(1)));
  CHECK(change(Verb::expire, {}).recipients == 1);
  const auto lease = hand.next(id);
  REQUIRE(lease.reason == Lease::Reason::expired);
  CHECK(keeper.lines().size() == 3);
  auto given_up = answer(lease, Verdict::bounce);
  given_up.results.front().outcome.stage = mail::Stage::expired;
  given_up.results.front().outcome.status = {5, 4, 7};
  record(std::move(given_up));
  const auto deferred = "deferred " + str(id) + " c@d.test";
  CHECK(keeper.lines() == std::vector<std::string>{"accepted " + str(id) + " c@d.test", deferred,
                                                   deferred, "bounced " + str(id) + " c@d.test"});
  CHECK((keeper.last().name == "bounced" && keeper.last().value("dsn") == "5.4.7"));
}

TEST_CASE_METHOD(Told, "what the witness has not got comes again after a crash", "[queue][facts]") {
  open();
  begin();
  const auto first = must_accept("a@b.test", {"c@d.test"});
  record(answer(hand.next(first), Verdict::delivered));
  const auto before = keeper.lines();
  CHECK(before.size() == 2);
  die();
  settle();
  CHECK(keeper.lines() == before);  // with the same numbers
  CHECK(keeper.times() == 4);
  queue->settle_facts(keeper.newest());
  must_accept("a@b.test", {"c@d.test"});  // its transaction takes them out
  CHECK(rows() == 1);
  die();
  settle();
  CHECK(keeper.lines().size() == 3);
  CHECK(keeper.times() == 6);
}

TEST_CASE_METHOD(Told, "an orderly stop leaves nothing that was settled", "[queue][facts]") {
  open();
  begin();
  must_accept("a@b.test", {"c@d.test"});
  queue->settle_facts(keeper.newest());
  queue.reset();
  CHECK(rows() == 0);
}

TEST_CASE_METHOD(Told, "without anybody who wants facts none is made", "[queue][facts]") {
  settings.keeps_facts = false;
  open();
  begin();
  const auto id = must_accept("a@b.test", {"c@d.test"});
  record(answer(hand.next(id), Verdict::delivered));
  CHECK(keeper.times() == 0);
  CHECK(rows() == 0);
  settings.keeps_facts = true;
  queue->reconfigure(settings);
  must_accept("a@b.test", {"c@d.test"});
  CHECK(keeper.times() == 1);
}

TEST_CASE_METHOD(Told, "what the tools do while the daemon is down is told at its start",
                 "[queue][facts]") {
  open();
  begin();
  const auto id = must_accept("a@b.test", {"c@d.test"});
  record(answer(hand.next(id), Verdict::retry, clock.now() + std::chrono::hours(1)));
  queue->settle_facts(keeper.newest());
  queue.reset();
  hand.clear();
  settings.keeps_facts = false;  // as the tools open it
  open();
  queue->start(nullptr);
  CHECK(change(Verb::remove, {}).messages == 1);
  const auto imported = must_accept("a@b.test", {"x@d.test"});
  queue.reset();
  settings.keeps_facts = true;
  open();
  begin();
  settle();
  const auto lines = keeper.lines();
  REQUIRE(lines.size() >= 2);
  CHECK(lines[lines.size() - 2] == "removed " + str(id) + " c@d.test");
  CHECK(lines.back() == "accepted " + str(imported) + " x@d.test");
}

TEST_CASE_METHOD(Told, "a damaged table of facts holds no mail up", "[queue][facts]") {
  open();
  begin();
  for (int i = 0; i < 40; ++i)
    must_accept("a@b.test", {"c@d.test"});
  queue.reset();
  hand.clear();
  sqlite3* handle = nullptr;
  const auto path = settings.spool + "/queue.db";
  REQUIRE(sqlite3_open(path.c_str(), &handle) == SQLITE_OK);
  sqlite3_stmt* statement = nullptr;
  REQUIRE(sqlite3_prepare_v2(handle, "SELECT rootpage FROM sqlite_schema WHERE name = 'fact'", -1,
                             &statement, nullptr) == SQLITE_OK);
  REQUIRE(sqlite3_step(statement) == SQLITE_ROW);
  const auto page = sqlite3_column_int64(statement, 0);
  sqlite3_finalize(statement);
  sqlite3_close(handle);
  {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp((page - 1) * 4096);
    file.write(std::string(4096, '\x55').c_str(), 4096);
  }
  open();
  begin();
  const auto id = must_accept("a@b.test", {"x@y.test"});
  record(answer(hand.next(id), Verdict::delivered));
  CHECK(queue->admission() == Admission::open);
  CHECK(list().size() == 40);
  CHECK(log.count("events_not_written") == 1);
  const auto lines = keeper.lines();
  CHECK(lines.back() == "sent " + str(id) + " x@y.test");
}

namespace {

struct Failing {
  FailingVfs vfs;  // outlives the queue
};

struct FailingLife : Failing, Told {
  std::map<std::string, bool> acknowledged;  // and whether it was said to be delivered
  // A message is accepted and delivered, another one accepted and removed.
  void live() {
    auto message = make("a@b.test", {"c@d.test"});
    const auto first = message.id;
    if (accept(std::move(message))) {
      acknowledged[str(first)] = true;
      std::vector<Record> records;
      records.push_back(answer(hand.next(first), Verdict::delivered));
      queue->record(std::move(records));
    }
    message = make("a@b.test", {"c@d.test"});
    const auto second = message.id;
    if (accept(std::move(message)))
      acknowledged[str(second)] = false;
  }
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
  std::size_t count(const std::string& line) const {
    const auto lines = keeper.lines();
    return static_cast<std::size_t>(std::count(lines.begin(), lines.end(), line));
  }
};

}  // namespace

TEST_CASE("whatever operation of the disk fails, each end is told once", "[queue][facts][slow]") {
  for (const auto mode :
       {FailingVfs::Mode::once, FailingVfs::Mode::forever, FailingVfs::Mode::unheard})
    for (const int code : {SQLITE_FULL, SQLITE_IOERR_FSYNC})
      for (std::uint64_t number = 1;; ++number) {
        INFO("mode " << static_cast<int>(mode) << " code " << code << " operation " << number);
        FailingLife life;
        auto opened = Queue::open_with(life.settings, life.clock, life.log, life.vfs.name());
        REQUIRE(opened.has_value());
        life.queue = *std::move(opened);
        life.begin();
        life.vfs.fail_at(number, code, mode);
        life.live();
        const bool has_failed = life.vfs.has_failed();
        life.vfs.heal();
        life.recover();
        life.settle();
        std::size_t accepted = 0;
        for (const auto& [id, is_delivered] : life.acknowledged) {
          CHECK(life.count("accepted " + id + " c@d.test") == 1);
          CHECK(life.count("sent " + id + " c@d.test") == (is_delivered ? 1 : 0));
          ++accepted;
        }
        // Nothing of what was refused.
        std::size_t told = 0;
        for (const auto& line : life.keeper.lines())
          told += line.starts_with("accepted ") ? 1 : 0;
        CHECK(told == accepted);
        if (!has_failed)
          break;
      }
}

}  // namespace postrider::queue::test
