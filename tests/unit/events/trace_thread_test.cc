#include "events/trace_thread.h"

#include "events/event_log.h"
#include "events/trace_reader.h"

#include "tests/unit/base/temporary_folder.h"
#include "tests/unit/queue/failing_vfs.h"

#include <catch2/catch.hpp>
#include <sqlite3.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <sys/stat.h>
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
    if (std::string_view(event.name()) == "trace_lost")
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

TraceThreadSettings settings_in(const TemporaryFolder& folder) {
  TraceThreadSettings settings;
  settings.path = folder / "trace.db";
  settings.again = Duration(1);
  settings.pace = Duration(1);
  return settings;
}

std::string step(const std::string& to) {
  LogEvent line(Level::info, "attempted", "1K1BX3F7Q2A");
  line.when = SystemClock().now();
  line.add("verdict", "sent").add("from", "a@b").add("to", to);
  return encode_trace(line);
}

// Recipients, in the order in which they came.
std::vector<std::string> kept(const std::string& path) {
  auto reader = TraceReader::open(path);
  if (!reader)
    FAIL(reader.error().describe());
  TraceStory story(*reader, "1K1BX3F7Q2A", *reader->segments(TraceLane::mail));
  std::vector<queue::FactLine> steps;
  while (*story.next(1000, steps)) {
  }
  std::vector<std::string> found;
  for (const auto& one : steps)
    found.emplace_back(one.value("to"));
  return found;
}

}  // namespace

TEST_CASE("steps of many threads are kept in the order of each", "[trace]") {
  const TemporaryFolder folder;
  const SystemClock clock;
  KeptLog log;
  TraceThread trace(settings_in(folder), clock, log);
  std::vector<std::thread> threads;
  for (int one = 0; one < 4; ++one)
    threads.emplace_back([&trace, one] {
      for (int number = 0; number < 500; ++number)
        trace.post(step(std::to_string(one) + "/" + std::to_string(number)));
    });
  for (auto& thread : threads)
    thread.join();
  REQUIRE(trace.flush(kLong));
  CHECK(trace.counters().written == 2000);
  std::map<std::string, int> next;
  for (const auto& to : kept(folder / "trace.db"))
    CHECK(next[to.substr(0, 1)]++ == std::stoi(to.substr(2)));
  CHECK(next.size() == 4);
}

TEST_CASE("while the disk is full steps wait, beyond the limit they are counted", "[trace]") {
  const TemporaryFolder folder;
  const SystemClock clock;
  KeptLog log;
  FailingVfs vfs;
  auto settings = settings_in(folder);
  settings.vfs = vfs.name();
  settings.most_waiting = 10;
  {
    TraceThread trace(settings, clock, log);
    trace.post(step("first"));
    REQUIRE(trace.flush(kLong));
    vfs.fail_at(1, SQLITE_FULL, FailingVfs::Mode::forever);
    trace.post(step("second"));
    while (trace.counters().error.empty())
      std::this_thread::yield();
    for (int number = 0; number < 30'000; ++number)
      trace.post(step(std::to_string(number)));
    CHECK(trace.counters().lost > 0);
    vfs.heal();
    REQUIRE(trace.flush(kLong));
    trace.post(step("last"));
    REQUIRE(trace.flush(kLong));
    CHECK(trace.counters().written + trace.counters().lost == 30'003);
    CHECK(trace.counters().error.empty());
    CHECK(log.count("trace_not_written") == 1);
    CHECK(log.count("trace_written_again") == 1);
  }
  CHECK(log.lost() > 0);
  const auto found = kept(folder / "trace.db");
  CHECK(found.front() == "first");
  CHECK(found.at(1) == "second");
  CHECK(found.back() == "last");
}

TEST_CASE("a damaged trace is set aside for a new one", "[trace]") {
  const TemporaryFolder folder;
  const SystemClock clock;
  KeptLog log;
  const auto path = folder / "trace.db";
  bool is_kept = true;  // what holds nothing is not
  SECTION("garbage") {
    std::ofstream(path) << std::string(100'000, 'x');
  }
  SECTION("a pipe") {
    REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
    is_kept = false;
  }
  SECTION("a pipe in the place of its log") {
    REQUIRE(::mkfifo((path + "-wal").c_str(), 0600) == 0);
    is_kept = false;
  }
  SECTION("a link to somebody's file") {
    is_kept = false;
    std::ofstream(folder / "precious") << "precious";
    std::filesystem::create_symlink(folder / "precious", path);
  }
  SECTION("a folder") {
    std::filesystem::create_directory(path);
  }
  TraceThread trace(settings_in(folder), clock, log);
  trace.post(step("new"));
  REQUIRE(trace.flush(kLong));
  CHECK(kept(path) == std::vector<std::string>{"new"});
  CHECK(log.count("trace_damaged") == 1);
  CHECK(std::filesystem::exists(std::filesystem::symlink_status(path + ".damaged")) == is_kept);
  if (std::filesystem::exists(folder / "precious"))
    CHECK(std::filesystem::file_size(folder / "precious") == 8);
}

TEST_CASE("a trace that somebody takes away, or locks, is no trouble for long", "[trace]") {
  const TemporaryFolder folder;
  const SystemClock clock;
  KeptLog log;
  const auto path = folder / "trace.db";
  TraceThread trace(settings_in(folder), clock, log);
  trace.post(step("one"));
  REQUIRE(trace.flush(kLong));
  SECTION("taken away") {
    std::filesystem::remove(path);
    trace.post(step("two"));
    REQUIRE(trace.flush(kLong));
    CHECK(kept(path) == std::vector<std::string>{"two"});
  }
  SECTION("locked") {
    {
      auto other = queue::Database::open(path, queue::Database::Mode::writer);
      REQUIRE(other->execute("BEGIN IMMEDIATE").has_value());
      trace.post(step("two"));
      while (log.count("trace_not_written") == 0)
        std::this_thread::yield();
    }
    REQUIRE(trace.flush(kLong));
    CHECK(kept(path) == std::vector<std::string>{"one", "two"});
    CHECK(log.count("trace_damaged") == 0);
  }
}

TEST_CASE("with keep 0 nothing is left, and with another it begins anew", "[trace]") {
  const TemporaryFolder folder;
  const SystemClock clock;
  KeptLog log;
  const auto path = folder / "trace.db";
  TraceThread trace(settings_in(folder), clock, log);
  trace.post(step("one"));
  REQUIRE(trace.flush(kLong));
  TraceLimits none;
  none.keep = Duration(0);
  trace.reconfigure(none);
  while (std::filesystem::exists(path) || std::filesystem::exists(path + "-wal"))
    std::this_thread::yield();
  trace.post(step("unheard"));
  REQUIRE(trace.flush(kLong));
  CHECK_FALSE(std::filesystem::exists(path));
  trace.reconfigure({});
  trace.post(step("two"));
  REQUIRE(trace.flush(kLong));
  CHECK(kept(path) == std::vector<std::string>{"two"});
  CHECK(log.count("trace_damaged") == 0);
}

TEST_CASE("the trace has what the log leaves out, and events go on without it", "[trace]") {
  const TemporaryFolder folder;
  const SystemClock clock;
  KeptLog own;
  NullLog quiet;
  TraceThread trace(settings_in(folder), clock, own);
  EventLog log(quiet, clock);
  CHECK_FALSE(log.enabled(Level::info));
  log.trace_into(&trace);
  CHECK(log.enabled(Level::info));
  CHECK_FALSE(log.enabled(Level::debug));
  log.write(LogEvent(Level::info, "connected").add("client", "192.0.2.1"));
  log.write(
      LogEvent(Level::info, "attempted", "1K1BX3F7Q2A").add("verdict", "sent").add("to", "a@b"));
  log.write(LogEvent(Level::debug, "recipient_changed", "1K1BX3F7Q2A")
                .add("change", "held")
                .add("to", "c@d"));
  REQUIRE(trace.flush(kLong));
  CHECK(trace.counters().written == 2);
  CHECK(kept(folder / "trace.db") == std::vector<std::string>{"a@b", "c@d"});
  log.trace_into(nullptr);
  log.write(LogEvent(Level::info, "accepted", "1K1BX3F7Q2A"));
  REQUIRE(trace.flush(kLong));
  CHECK(trace.counters().written == 2);
}

TEST_CASE("what waits at a stop is written", "[trace]") {
  const TemporaryFolder folder;
  const SystemClock clock;
  KeptLog log;
  auto settings = settings_in(folder);
  settings.pace = std::chrono::hours(1);
  {
    TraceThread trace(settings, clock, log);
    trace.post(step("one"));
    REQUIRE(trace.flush(kLong));
    trace.post(step("two"));
  }
  CHECK(kept(folder / "trace.db") == std::vector<std::string>{"one", "two"});
  CHECK(log.count("trace_lost") == 0);
}
