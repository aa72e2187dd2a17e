// What the threads of the trace and of the outbox have from their one frame.
#include "events/outbox_thread.h"
#include "events/trace_record.h"
#include "events/trace_thread.h"

#include "tests/unit/base/temporary_folder.h"
#include "tests/unit/queue/failing_vfs.h"

#include <catch2/catch.hpp>
#include <sqlite3.h>

#include <atomic>
#include <functional>
#include <map>
#include <mutex>

using namespace postrider;
using namespace postrider::events;
using queue::test::FailingVfs;

namespace {

constexpr Duration kFlushed{60'000};

class CountingLog : public Log {
 public:
  bool enabled(Level) const override { return true; }
  void write(LogEvent event) override {
    const std::lock_guard lock(mutex_);
    ++counts_[event.name()];
  }
  int count(const std::string& name) const {
    const std::lock_guard lock(mutex_);
    const auto found = counts_.find(name);
    return found == counts_.end() ? 0 : found->second;
  }

 private:
  mutable std::mutex mutex_;
  std::map<std::string, int> counts_;
};

template <class Settings>
Settings settings_with(const std::string& path, const FailingVfs& vfs) {
  Settings settings;
  settings.path = path;
  settings.vfs = vfs.name();
  settings.again = Duration(1);
  settings.trim_every = Duration(0);  // behind a checkpoint a trim is due at once
  return settings;
}

// Only a checkpoint syncs the database itself.
template <class Thread>
void check_that_it_goes_on(Thread& thread, FailingVfs& vfs, const std::function<void()>& post) {
  std::atomic<int> failed{0};
  post();
  REQUIRE(thread.flush(kFlushed));
  vfs.on_database_sync([&] {
    if (failed++ == 0)
      vfs.fail_at(1, SQLITE_IOERR_FSYNC, FailingVfs::Mode::once);
  });
  std::uint64_t posted = 1;
  for (; posted < 20'000 && failed == 0; posted += 100) {
    for (int i = 0; i < 100; ++i)
      post();
    REQUIRE(thread.flush(kFlushed));
  }
  CHECK(failed > 0);
  post();
  REQUIRE(thread.flush(kFlushed));
  const auto counters = thread.counters();
  CHECK(counters.written == posted + 1);
  CHECK(counters.lost == 0);
  CHECK(counters.failures == 1);
  CHECK(counters.error.empty());
  thread.stop();
  vfs.on_database_sync({});
}

}  // namespace

TEST_CASE("a database whose checkpoint fails is opened again, and nothing is lost",
          "[trace][outbox]") {
  const TemporaryFolder folder;
  const SystemClock clock;
  CountingLog log;
  FailingVfs vfs;
  std::string kind;
  SECTION("the trace") {
    kind = "trace";
    auto settings = settings_with<TraceThreadSettings>(folder / "trace.db", vfs);
    settings.pace = Duration(1);
    TraceThread trace(settings, clock, log);
    LogEvent line(Level::info, "attempted", "1K1BX3F7Q2A");
    line.when = clock.now();
    line.add("verdict", "sent").add("from", "a@b").add("to", std::string(1000, 'x'));
    check_that_it_goes_on(trace, vfs, [&] { trace.post(encode_trace(line)); });
  }
  SECTION("the outbox") {
    kind = "events";
    auto settings = settings_with<OutboxThreadSettings>(folder / "events.db", vfs);
    settings.source = "//mx/postrider";
    OutboxThread outbox(settings, clock, log);
    CloudEvent event;
    event.kind = Kind::delivered;
    event.time = clock.now();
    event.subject = event.message = std::string(1000, 'x');
    check_that_it_goes_on(outbox, vfs, [&] { outbox.post(event); });
  }
  CHECK(log.count(kind + "_not_written") == 1);
  CHECK(log.count(kind + "_written_again") == 1);
}
