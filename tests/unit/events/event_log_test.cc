#include "events/event_log.h"

#include "events/event_schema.h"

#include "tests/unit/base/temporary_folder.h"

#include <catch2/catch.hpp>

#include <string>
#include <vector>

using namespace postrider;
using namespace postrider::events;

namespace {

// A log that wants errors alone.
class QuietLog : public Log {
 public:
  bool enabled(Level level) const override { return level >= Level::error; }
  void write(LogEvent line) override { names.emplace_back(line.name()); }
  std::vector<std::string> names;
};

}  // namespace

TEST_CASE("what the log leaves out is an event all the same", "[eventlog]") {
  const TemporaryFolder folder;
  const SystemClock clock;
  QuietLog quiet;
  NullLog own;
  OutboxThreadSettings settings;
  settings.path = folder / "events.db";
  settings.source = "//mx/postrider";
  OutboxThread outbox(settings, clock, own);
  EventLog log(quiet, clock);
  CHECK_FALSE(log.enabled(Level::info));
  log.use(&outbox);
  CHECK(log.enabled(Level::info));
  CHECK_FALSE(log.enabled(Level::debug));
  log.write(LogEvent(Level::info, "connected", "S1").add("client", "192.0.2.1"));
  log.write(LogEvent(Level::info, "rejected", "S1").add("stage", "RCPT").add("reply", "550 no"));
  // The queue tells that, once it is stored.
  log.write(LogEvent(Level::info, "accepted", "01ABC").add("from", "a@b").add("to", "c@d"));
  log.write(LogEvent(Level::error, "disk_full").add("reason", "no room"));
  REQUIRE(outbox.flush(Duration(60'000)));
  CHECK(quiet.names == std::vector<std::string>{"disk_full"});
  auto reader = OutboxReader::open(settings.path);
  REQUIRE(reader.has_value());
  const auto page = reader->after({}, 10, SIZE_MAX);
  REQUIRE(page.has_value());
  REQUIRE(page->events.size() == 2);
  const auto first = decode(page->events[0].text);
  const auto second = decode(page->events[1].text);
  REQUIRE((first.has_value() && second.has_value()));
  CHECK(first->kind == Kind::rejected);
  CHECK(first->time > TimePoint());
  CHECK(second->alarm == "disk_full");
}
