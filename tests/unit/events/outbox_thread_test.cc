#include "events/outbox_thread.h"

#include "events/event_schema.h"

#include "tests/unit/base/temporary_folder.h"
#include "tests/unit/queue/failing_vfs.h"

#include <catch2/catch.hpp>

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
    if (std::string_view(event.name()) == "events_lost")
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
    found.push_back(decode(stored.text)->message);
  return found;
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
