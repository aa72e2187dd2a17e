#include "events/outbox_thread.h"

#include "events/event_fields.h"
#include "events/event_schema.h"

#include "tests/unit/base/temporary_folder.h"
#include "tests/unit/queue/failing_vfs.h"

#include <catch2/catch.hpp>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <thread>

using namespace postrider;
using namespace postrider::events;
using queue::test::FailingVfs;

namespace {

constexpr Duration kLong{60'000};

class KeptLog : public Log {
 public:
  bool enabled(Level) const override { return true; }
  void write(LogEvent event) override {
    const std::lock_guard lock(mutex_);
    ++counts_[event.name()];
    if (std::string_view(event.name()) == "events_lost" && !event.value("count").empty())
      lost_ += std::stoull(std::string(event.value("count")));
  }
  int count(const std::string& name) const {
    const std::lock_guard lock(mutex_);
    const auto found = counts_.find(name);
    return found == counts_.end() ? 0 : found->second;
  }
  std::uint64_t lost() const {
    const std::lock_guard lock(mutex_);
    return lost_;
  }

 private:
  mutable std::mutex mutex_;
  std::map<std::string, int> counts_;
  std::uint64_t lost_ = 0;
};

CloudEvent about(const std::string& message) {
  CloudEvent event;
  event.kind = Kind::delivered;
  event.time = SystemClock().now();
  event.subject = event.message = message;
  return event;
}

OutboxThreadSettings settings_in(const TemporaryFolder& folder) {
  OutboxThreadSettings settings;
  settings.path = folder / "events.db";
  settings.source = "//mx/postrider";
  settings.again = Duration(1);
  return settings;
}

std::vector<std::string> messages(const std::string& path) {
  auto reader = OutboxReader::open(path);
  if (!reader)
    FAIL(reader.error().describe());
  std::vector<std::string> found;
  const auto page = reader->after({}, 100'000, SIZE_MAX);
  for (const auto& stored : page->events)
    if (const auto event = decode(stored.text); event->kind == Kind::delivered)
      found.push_back(event->message);
  return found;
}

// Of the outbox itself.
std::vector<std::string> others(const std::string& path) {
  auto reader = OutboxReader::open(path);
  REQUIRE(reader.has_value());
  std::vector<std::string> found;
  const auto page = reader->after({}, 100'000, SIZE_MAX);
  for (const auto& stored : page->events)
    if (const auto event = decode(stored.text); event->kind != Kind::delivered)
      found.emplace_back(name_of(event->kind));
  return found;
}

queue::Fact fact(std::int64_t number, const std::string& message) {
  const LogEvent line = LogEvent(Level::info, "attempted", message).add("verdict", "sent");
  return {number, queue::encode_fact(SystemClock().now(), queue::encode_line(line))};
}

}  // namespace

TEST_CASE("events of many threads are kept in the order of each", "[outbox]") {
  const TemporaryFolder folder;
  const SystemClock clock;
  KeptLog log;
  OutboxThread outbox(settings_in(folder), clock, log);
  std::vector<std::thread> threads;
  for (int one = 0; one < 4; ++one)
    threads.emplace_back([&outbox, one] {
      for (int number = 0; number < 500; ++number)
        outbox.post(about(std::to_string(one) + "/" + std::to_string(number)));
    });
  for (auto& thread : threads)
    thread.join();
  REQUIRE(outbox.flush(kLong));
  CHECK(outbox.counters().written == 2000);
  std::map<std::string, int> next;
  for (const auto& message : messages(folder / "events.db"))
    CHECK(next[message.substr(0, 1)]++ == std::stoi(message.substr(2)));
  CHECK(next.size() == 4);
}

TEST_CASE("while the disk is full events wait, beyond the limit they are counted", "[outbox]") {
  const TemporaryFolder folder;
  const SystemClock clock;
  KeptLog log;
  FailingVfs vfs;
  auto settings = settings_in(folder);
  settings.vfs = vfs.name();
  settings.most_waiting = 10;
  {
    OutboxThread outbox(settings, clock, log);
    outbox.post(about("first"));
    REQUIRE(outbox.flush(kLong));
    vfs.fail_at(1, SQLITE_FULL, FailingVfs::Mode::forever);
    outbox.post(about("second"));
    while (outbox.counters().failures == 0)
      std::this_thread::yield();
    for (int number = 0; number < 5000; ++number)
      outbox.post(about(std::to_string(number)));
    const auto lost = outbox.counters().lost;
    CHECK(lost > 0);
    vfs.heal();
    REQUIRE(outbox.flush(kLong));
    outbox.post(about("last"));
    REQUIRE(outbox.flush(kLong));
    CHECK(outbox.counters().written + outbox.counters().lost == 5003);
    CHECK(log.count("events_not_written") == 1);
    CHECK(log.count("events_written_again") == 1);
  }
  CHECK(log.lost() > 0);
  const auto found = messages(folder / "events.db");
  CHECK(found.front() == "first");
  CHECK(found.at(1) == "second");
  CHECK(found.back() == "last");
  const auto told = others(folder / "events.db");
  for (const auto* name : {"alarm_on", "alarm_off", "events_lost"})
    CHECK(std::count(told.begin(), told.end(), name) == 1);
}

TEST_CASE("a fact that comes again is the same event, and is told to be safe", "[outbox]") {
  const TemporaryFolder folder;
  const SystemClock clock;
  KeptLog log;
  std::atomic<std::int64_t> settled{0};
  auto settings = settings_in(folder);
  settings.on_settled = [&](std::int64_t number) { settled = number; };
  for (int life = 0; life < 2; ++life) {
    OutboxThread outbox(settings, clock, log);
    outbox.post({fact(1'000'000, "one"), fact(2'000'000, "two"), {3'000'000, "rubbish"}});
    REQUIRE(outbox.flush(kLong));
    CHECK(settled == 3'000'000);
  }
  CHECK(messages(folder / "events.db") == std::vector<std::string>{"one", "two"});
  std::string ids[2];
  for (auto& id : ids) {
    auto reader = OutboxReader::open(folder / "events.db");
    REQUIRE(reader.has_value());
    id = decode(reader->after({}, 1, SIZE_MAX)->events.at(0).text)->id;
    CHECK(reader->find(id).value() == std::uint64_t{1});
    REQUIRE(KeptDatabase::set_aside(folder / "events.db").has_value());
    OutboxThread outbox(settings, clock, log);  // a new outbox: the id is of the fact
    outbox.post({fact(1'000'000, "one")});
    REQUIRE(outbox.flush(kLong));
  }
  CHECK(ids[0] == ids[1]);
}

TEST_CASE("a damaged outbox is set aside, and events go on", "[outbox]") {
  const TemporaryFolder folder;
  const SystemClock clock;
  KeptLog log;
  std::ofstream(folder / "events.db") << std::string(20'000, 'x');
  OutboxThread outbox(settings_in(folder), clock, log);
  outbox.post(about("one"));
  REQUIRE(outbox.flush(kLong));
  CHECK(log.count("events_damaged") == 1);
  CHECK(messages(folder / "events.db") == std::vector<std::string>{"one"});
  CHECK(others(folder / "events.db") == std::vector<std::string>{"events_lost"});
}

TEST_CASE("an outbox that is removed while it is used is begun again", "[outbox]") {
  const TemporaryFolder folder;
  const SystemClock clock;
  KeptLog log;
  auto settings = settings_in(folder);
  settings.readers = {folder / "reader"};
  OutboxThread outbox(settings, clock, log);
  outbox.post(about("one"));
  REQUIRE(outbox.flush(kLong));
  SECTION("all of it") {
    for (const auto* end : {"", "-wal", "-shm"})
      std::filesystem::remove(folder / ("events.db" + std::string(end)));
  }
  SECTION("its log") {
    std::filesystem::remove(folder / "events.db-wal");
  }
  SECTION("by another file") {
    std::ofstream(folder / "new") << "";
    std::filesystem::rename(folder / "new", folder / "events.db");
  }
  outbox.post(about("two"));
  REQUIRE(outbox.flush(kLong));
  CHECK(messages(folder / "events.db") == std::vector<std::string>{"two"});
  outbox.post(about("three"));
  REQUIRE(outbox.flush(kLong));
  CHECK(messages(folder / "events.db") == std::vector<std::string>{"two", "three"});
  CHECK(log.count("events_damaged") == 1);
  CHECK(log.lost() == 1);  // which nobody had read
}

TEST_CASE("damage that a reader saw is looked for, in pages that the writer has in memory too",
          "[outbox]") {
  const TemporaryFolder folder;
  const SystemClock clock;
  KeptLog log;
  OutboxThread outbox(settings_in(folder), clock, log);
  outbox.post(about("one"));
  REQUIRE(outbox.flush(kLong));
  outbox.suspect_damage();  // wrongly
  outbox.post(about("two"));
  REQUIRE(outbox.flush(kLong));
  CHECK(messages(folder / "events.db") == std::vector<std::string>{"one", "two"});
  CHECK(log.count("events_damaged") == 0);
  {
    std::fstream file(folder / "events.db-wal", std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(32);
    file << std::string(100'000, '\x55');
  }
  {
    std::fstream file(folder / "events.db", std::ios::in | std::ios::out | std::ios::binary);
    file << std::string(16'384, '\x55');
  }
  outbox.suspect_damage();
  outbox.post(about("three"));
  REQUIRE(outbox.flush(kLong));
  CHECK(messages(folder / "events.db") == std::vector<std::string>{"three"});
  CHECK(log.count("events_damaged") == 1);
}

TEST_CASE("what waits in memory is bounded by its octets too", "[outbox]") {
  const TemporaryFolder folder;
  const SystemClock clock;
  KeptLog log;
  auto settings = settings_in(folder);
  settings.path = folder / "missing/events.db";
  settings.again = kLong;
  settings.most_bytes = 100'000;
  {
    OutboxThread outbox(settings, clock, log);
    for (std::int64_t number = 1; number <= 200; ++number) {
      auto line =
          queue::encode_line(LogEvent(Level::info, "attempted", "m").add("verdict", "sent"));
      queue::append_field(line, "reason", std::string(2000, 'x'));
      outbox.post({queue::Fact{number, queue::encode_fact(clock.now(), line)}});
      outbox.post(about(std::string(2000, 'x')));
    }
    CHECK(outbox.counters().lost > 300);
    CHECK(outbox.counters().waiting < 100);
  }
}

TEST_CASE("an outbox that cannot be opened holds nobody up at the end", "[outbox]") {
  const TemporaryFolder folder;
  const SystemClock clock;
  KeptLog log;
  auto settings = settings_in(folder);
  settings.path = folder / "missing/events.db";
  settings.again = kLong;
  {
    OutboxThread outbox(settings, clock, log);
    for (int number = 0; number < 3; ++number)
      outbox.post(about("x"));
  }
  CHECK(log.lost() == 3);
}

TEST_CASE("what all readers have read is forgotten", "[outbox]") {
  const TemporaryFolder folder;
  const SystemClock clock;
  KeptLog log;
  auto settings = settings_in(folder);
  settings.readers = {folder / "a", folder / "b"};
  settings.trim_every = Duration(1);
  OutboxThread outbox(settings, clock, log);
  for (int number = 0; number < 10; ++number)
    outbox.post(about(std::to_string(number)));
  REQUIRE(outbox.flush(kLong));
  auto reader = OutboxReader::open(folder / "events.db");
  REQUIRE(reader.has_value());
  const auto name = reader->after({}, 1, 1)->outbox;
  REQUIRE(save_position(folder / "a", {name, 10}).has_value());
  REQUIRE(save_position(folder / "b", {name, 4}).has_value());
  while (reader->after({}, 1, 1)->events.front().sequence != 5)
    std::this_thread::yield();
  CHECK(reader->after({}, 100, SIZE_MAX)->events.size() == 6);
  CHECK(log.lost() == 0);
}
