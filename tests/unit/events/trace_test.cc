#include "events/trace_index.h"
#include "events/trace_query.h"
#include "events/trace_reader.h"
#include "events/trace_store.h"

#include "mail/envelope.h"
#include "tests/unit/base/temporary_folder.h"
#include "tests/unit/queue/failing_vfs.h"

#include <catch2/catch.hpp>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <random>
#include <set>
#include <sys/stat.h>
#include <thread>

using namespace postrider;
using namespace postrider::events;
using queue::test::FailingVfs;

namespace {

constexpr TimePoint kNow{std::chrono::seconds(1'796'040'000)};  // 2026-11-30T12:00:00Z
constexpr const char* kId = "1K1BX3F7Q2A";
constexpr const char* kOther = "1K1BX3F7Q2B";

LogEvent at(LogEvent line, TimePoint when) {
  line.when = when;
  return line;
}

LogEvent accepted(const std::string& id, const std::string& from, const std::string& to,
                  const std::string& message_id, TimePoint when = kNow) {
  return at(LogEvent(Level::info, "accepted", id)
                .add("client", "192.0.2.1")
                .add("from", from)
                .add("nrcpt", std::uint64_t{1})
                .add("to", to)
                .add("size", std::uint64_t{1234})
                .add("message_id", message_id),
            when);
}

LogEvent attempted(const std::string& id, const std::string& from, const std::string& to,
                   const char* verdict = "sent", TimePoint when = kNow) {
  return at(LogEvent(Level::info, "attempted", id)
                .add("verdict", verdict)
                .add("from", from)
                .add("to", to)
                .add("relay", "mx.example.org[192.0.2.9]:25")
                .add("delay", "0.53")
                .add("reason", "250 ok"),
            when);
}

LogEvent rejected(const std::string& from, const std::string& to, TimePoint when = kNow) {
  return at(LogEvent(Level::info, "rejected")
                .add("session", "S1")
                .add("stage", "RCPT")
                .add("reply", "550 5.1.1 no")
                .add("client", "192.0.2.7")
                .add("from", from)
                .add("to", to),
            when);
}

class Filled {
 public:
  explicit Filled(TraceLimits limits = {}) : store_(open(limits)) {}
  Filled& add(const std::vector<LogEvent>& lines) {
    std::vector<std::string> bytes;
    for (const auto& line : lines) {
      CHECK(is_traced(line));
      bytes.push_back(encode_trace(line));
    }
    REQUIRE(store_.append(bytes).has_value());
    return *this;
  }
  TraceStore& store() { return store_; }
  std::string path() const { return folder_ / "trace.db"; }
  TraceReader reader() const {
    auto reader = TraceReader::open(path());
    if (!reader)
      FAIL(reader.error().describe());
    return *std::move(reader);
  }
  // What is found, the newest first: "1K1BX3F7Q2A delivered".
  std::vector<std::string> find(TraceQuery query) const {
    auto reader_of_it = reader();
    TraceSearch search(reader_of_it, std::move(query));
    std::vector<queue::FactLine> found;
    for (bool more = true; more;) {
      const auto next = search.next(3, Duration(60'000), found);
      if (!next)
        FAIL(next.error().describe());
      more = *next;
    }
    std::vector<std::string> names;
    for (const auto& step : found)
      names.push_back(step.id + " " + step_name(step));
    return names;
  }
  std::vector<std::string> story(const std::string& id) const {
    auto reader_of_it = reader();
    auto segments = reader_of_it.segments(TraceLane::mail);
    REQUIRE(segments.has_value());
    TraceStory story(reader_of_it, id, *segments);
    std::vector<queue::FactLine> steps;
    for (bool more = true; more;) {
      const auto next = story.next(2, steps);
      REQUIRE(next.has_value());
      more = *next;
    }
    std::vector<std::string> names;
    for (const auto& step : steps)
      names.push_back(step_name(step));
    return names;
  }
  void trim(TimePoint now) {
    for (bool more = true; more;) {
      const auto trimmed = store_.trim(now);
      if (!trimmed)
        FAIL(trimmed.error().describe());
      more = *trimmed;
    }
  }

 private:
  TraceStore open(TraceLimits limits) const {
    auto store = TraceStore::open(folder_ / "trace.db", limits, nullptr, KeptDatabase::Check::some);
    if (!store)
      FAIL(store.error().describe());
    return *std::move(store);
  }
  TemporaryFolder folder_;
  TraceStore store_;
};

TraceQuery query(const std::string& target) {
  TraceWords words;
  words.target = target;
  auto query = parse_trace_query(words, kNow);
  if (!query)
    FAIL(query.error().describe());
  return *std::move(query);
}

// Empty: whoever it is; "<>" is the null sender.
TraceQuery between(const std::string& from, const std::string& to) {
  TraceWords words;
  if (!from.empty())
    words.from = from;
  if (!to.empty())
    words.to = to;
  return *parse_trace_query(words, kNow);
}

using Names = std::vector<std::string>;

}  // namespace

TEST_CASE("what the trace keeps of the log", "[trace]") {
  const auto keeps = [](const char* name, const char* id = kId) {
    return is_traced(LogEvent(Level::info, name, id));
  };
  for (const char* name : {"accepted", "attempted", "deferred", "bounced", "discarded", "held",
                           "notice_created", "notice_dropped", "recipient_changed"})
    CHECK(keeps(name));
  CHECK(keeps("rejected", ""));
  for (const char* name : {"connected", "removed", "queue_changed", "started"})
    CHECK_FALSE(keeps(name));
  CHECK_FALSE(keeps("held", ""));  // of no message
}

TEST_CASE("a step has the names of the log and of events", "[trace]") {
  const auto shown = [](const LogEvent& line) {
    const auto decoded = queue::decode_fact(encode_trace(line));
    REQUIRE(decoded.has_value());
    return trace_json(*decoded);
  };
  CHECK(shown(attempted(kId, "", "b@example.org")) ==
        R"({"time":"2026-11-30T12:00:00.000Z","event":"delivered","id":"1K1BX3F7Q2A","from":"",)"
        R"("to":"b@example.org","relay":"mx.example.org[192.0.2.9]:25","delay":0.53,)"
        R"("reason":"250 ok"})");
  CHECK(shown(attempted(kId, "a@b", "c@d", "bounced")).find("\"bounced\"") != std::string::npos);
  CHECK(shown(attempted(kId, "a@b", "c@d", "deferred")).find("\"deferred\"") != std::string::npos);
  const auto changed = shown(at(LogEvent(Level::debug, "recipient_changed", kId)
                                    .add("change", "released")
                                    .add("to", "c@d")
                                    .add("uid", "0"),
                                kNow));
  CHECK(changed == R"({"time":"2026-11-30T12:00:00.000Z","event":"released","id":"1K1BX3F7Q2A",)"
                   R"("to":"c@d","uid":0})");
  const auto foreign =
      at(LogEvent(Level::info, "held", kId).add("a\":1}\n{\"end\":{", "x").add("to", "c@d"), kNow);
  CHECK(shown(foreign) ==
        R"({"time":"2026-11-30T12:00:00.000Z","event":"held","id":"1K1BX3F7Q2A","to":"c@d"})");
  // What steers a terminal, and what is no UTF-8.
  const auto hostile = shown(rejected("\x1b[31m\xff@x", "a\nb@c"));
  CHECK(hostile.find('\x1b') == std::string::npos);
  CHECK(hostile.find('\n') == std::string::npos);
  CHECK(hostile.find('\xff') == std::string::npos);
}

TEST_CASE("what is asked for, by table", "[trace]") {
  ::setenv("TZ", "CET-1", 1);
  ::tzset();
  const auto since = [](const char* text) {
    const auto time = parse_since(text, kNow);
    return time ? time->time_since_epoch().count() / 1000 : -1;
  };
  const auto now = kNow.time_since_epoch().count() / 1000;
  const struct {
    const char* text;
    std::int64_t wanted;
  } rows[] = {{"2h", now - 7200},
              {"90m", now - 5400},
              {"2026-11-30", now - 13 * 3600},
              {"2026-11-30T13:00", now},
              {"2026-11-30 13:00:01", now + 1},
              {"2026-11-30T12:00Z", now},
              {"2026-11-30T12:00:00.123Z", now},
              {"2026-02-30", -1},
              {"2026-13-01", -1},
              {"2026-11-30T25:00", -1},
              {"2026-11-30T13:00x", -1},
              {"1926-11-30", -1},
              {"yesterday", -1},
              {"", -1},
              {"-2h", -1},
              {"999999999999999999999h", -1}};
  for (const auto& row : rows) {
    CAPTURE(row.text);
    CHECK(since(row.text) == row.wanted);
  }
  CHECK(query("1k1bx3f7q2a").id == kId);
  CHECK(query("<a@b.example>").any == "a@b.example");
  CHECK(query("<>").any == "");
  CHECK(query("@example.org").any == "@example.org");
  TraceWords words;
  CHECK_FALSE(parse_trace_query(words, kNow).has_value());  // nothing is asked for
  words.rejected = true;
  CHECK(parse_trace_query(words, kNow).has_value());
  words.target = kId;
  CHECK_FALSE(parse_trace_query(words, kNow).has_value());
  words.target = std::string(1001, 'a');
  CHECK_FALSE(parse_trace_query(words, kNow).has_value());
}

TEST_CASE("mail is found by whatever is known of it", "[trace]") {
  Filled trace;
  trace.add({accepted(kId, "Ann@Example.org", "bob@example.net", "<one@example.org>"),
             attempted(kId, "Ann@Example.org", "bob@example.net", "deferred"),
             accepted(kOther, "", "ann@example.org", "<two@example.org>")});
  trace.add({attempted(kId, "Ann@Example.org", "bob@example.net"),
             attempted(kOther, "", "ann@example.org", "bounced"),
             rejected("eve@bad.example", "ann@example.org")});
  const auto accept = std::string(kId) + " accepted", defer = std::string(kId) + " deferred",
             deliver = std::string(kId) + " delivered";
  const auto accept2 = std::string(kOther) + " accepted", bounce = std::string(kOther) + " bounced";
  CHECK(trace.find(query("bob@EXAMPLE.net")) == Names{deliver, defer, accept});
  CHECK(trace.find(query("ann@example.org")) == Names{bounce, deliver, accept2, defer, accept});
  CHECK(trace.find(query("@example.org")) == Names{bounce, deliver, accept2, defer, accept});
  CHECK(trace.find(query("@ample.org")).empty());
  CHECK(trace.find(query("<two@example.org>")) == Names{accept2});
  CHECK(trace.find(query("one@example.org")) == Names{accept});
  CHECK(trace.find(query("<>")) == Names{bounce, accept2});
  CHECK(trace.find(between("ann@example.org", "@example.net")) == Names{deliver, defer, accept});
  CHECK(trace.find(between("ann@example.org", "ann@example.org")).empty());
  CHECK(trace.find(between("<>", "ann@example.org")) == Names{bounce, accept2});
  CHECK(trace.story(kId) == Names{"accepted", "deferred", "delivered"});
  CHECK(trace.story("1k1bx3f7q2b") == Names{"accepted", "bounced"});
  CHECK(trace.story("1K1BX3F7Q2C").empty());
  TraceWords words;
  words.rejected = true;
  CHECK(trace.find(*parse_trace_query(words, kNow)) == Names{" rejected"});
  words.to = "ann@example.org";
  CHECK(trace.find(*parse_trace_query(words, kNow)).size() == 1);
  words.to = "bob@example.org";
  CHECK(trace.find(*parse_trace_query(words, kNow)).empty());
}

TEST_CASE("a notice is found by its own id, and by that of its message", "[trace]") {
  Filled trace;
  trace.add({at(LogEvent(Level::info, "notice_created", kId)
                    .add("notice", kOther)
                    .add("kind", "failure")
                    .add("to", "ann@example.org"),
                kNow),
             attempted(kOther, "", "ann@example.org")});
  CHECK(trace.story(kId) == Names{"notice_created"});
  CHECK(trace.story(kOther) == Names{"notice_created", "delivered"});
}

TEST_CASE("what happened before a time is left out, whatever the clock does", "[trace]") {
  Filled trace;
  trace.add({accepted(kId, "a@b", "c@d", "", kNow + std::chrono::hours(2)),
             attempted(kId, "a@b", "c@d", "sent", kNow - std::chrono::hours(2))});
  CHECK(trace.story(kId) == Names{"accepted", "delivered"});  // in the order in which they came
  auto recent = query("a@b");
  recent.since = kNow;
  CHECK(trace.find(recent) == Names{std::string(kId) + " accepted"});
  recent.since = kNow + std::chrono::hours(3);
  CHECK(trace.find(recent).empty());
  // A Message-ID says which one is meant: it is found however old it is, and its steps since then.
  auto named = query("<old@b>");
  named.since = kNow + std::chrono::hours(3);
  trace.add({accepted(kOther, "a@b", "c@d", "<old@b>", kNow - std::chrono::hours(2))});
  CHECK(trace.find(named) == Names{std::string(kOther) + " accepted"});
  CHECK((*trace.reader().begin() == std::optional(kNow - std::chrono::hours(2))));
}

TEST_CASE("what is too old goes, and what is younger stays", "[trace]") {
  TraceLimits limits;
  limits.keep = std::chrono::hours(16);
  Filled trace(limits);
  for (int hour = 0; hour < 40; ++hour)
    trace.add({attempted(kId, "a@b", std::to_string(hour) + "@d", "sent",
                         kNow + std::chrono::hours(hour))});
  const auto now = kNow + std::chrono::hours(40);
  trace.trim(now);
  CHECK(trace.find(query("10@d")).empty());
  CHECK(trace.find(query("25@d")).size() == 1);
  CHECK(trace.story(kId).size() >= 16);
  CHECK(trace.story(kId).size() <= 18);
  CHECK(*trace.reader().begin() >= now - limits.keep - std::chrono::hours(2));
  trace.trim(now + std::chrono::hours(100));
  CHECK(trace.story(kId).empty());
  CHECK_FALSE(trace.reader().begin()->has_value());
  // It goes on behind that, in segments of new numbers.
  trace.add({attempted(kId, "a@b", "new@d", "sent", now)});
  CHECK(trace.find(query("new@d")).size() == 1);
  CHECK(trace.find(query("39@d")).empty());
}

TEST_CASE("what came while the clock was ahead goes with what came after it", "[trace]") {
  TraceLimits limits;
  limits.keep = std::chrono::hours(16);
  Filled trace(limits);
  trace.add({attempted(kId, "a@b", "ahead@d", "sent", kNow + std::chrono::hours(9000))});
  trace.add({attempted(kId, "a@b", "back@d")});
  trace.trim(kNow + std::chrono::hours(1));
  CHECK(trace.story(kId).size() == 2);
  trace.add({attempted(kId, "a@b", "later@d", "sent", kNow + std::chrono::hours(20))});
  trace.trim(kNow + std::chrono::hours(20));
  CHECK(trace.find(query("ahead@d")).empty());
  CHECK(trace.find(query("back@d")).empty());
  CHECK(trace.find(query("later@d")).size() == 1);
}

TEST_CASE("the file stays below its size, and refused mail below a quarter of it", "[trace]") {
  TraceLimits limits;
  limits.size = 8U << 20U;
  Filled trace(limits);
  trace.add({attempted(kId, "a@b", "first@d")});
  std::vector<LogEvent> lines;
  const std::string text(900, 'x');
  for (int i = 0; i < 1000; ++i)
    lines.push_back(rejected("spam" + std::to_string(i) + "@x", "all@d").add("reason", text));
  for (int round = 0; round < 15; ++round) {
    trace.add(lines);
    trace.trim(kNow);
  }
  {
    auto database = queue::Database::open(trace.path(), queue::Database::Mode::reader);
    REQUIRE(database.has_value());
    const auto refused = database->value("SELECT sum(bytes) FROM segment WHERE lane = 1");
    REQUIRE(refused.has_value());
    CHECK(*refused > 0);
    CHECK(*refused <= static_cast<std::int64_t>(limits.size / 4));
  }
  CHECK(trace.find(query("first@d")).size() == 1);  // no flood of refusals pushes it out
  struct stat file {};
  REQUIRE(::stat(trace.path().c_str(), &file) == 0);
  CHECK(static_cast<std::uint64_t>(file.st_size) < limits.size);
  lines.clear();
  for (int i = 0; i < 1000; ++i)
    lines.push_back(attempted(kOther, "a@b", std::to_string(i) + "@d").add("detail", text));
  for (int round = 0; round < 15; ++round) {
    trace.add(lines);
    trace.trim(kNow);
  }
  CHECK(trace.find(query("first@d")).empty());
  CHECK(trace.find(query("999@d")).size() >= 1);
  REQUIRE(::stat(trace.path().c_str(), &file) == 0);
  CHECK(static_cast<std::uint64_t>(file.st_size) <= limits.size + (2U << 20U));
}

TEST_CASE("a message with 50,000 recipients is one story, in pieces", "[trace]") {
  Filled trace;
  std::vector<LogEvent> lines{accepted(kId, "list@b", "0@d", "<list@b>")};
  for (int i = 0; i < 50'000; ++i)
    lines.push_back(attempted(kId, "list@b", std::to_string(i) + "@d"));
  for (int i = 0; i < 20'000; ++i)
    lines.push_back(attempted(kOther, "x@b", std::to_string(i) + "@d"));
  trace.add(lines);  // more than a segment
  CHECK(trace.story(kId).size() == 50'001);
  CHECK(trace.find(between("list@b", "49999@d")).size() == 1);
  CHECK(trace.find(between("list@b", "19999@d")).size() == 1);
  CHECK(trace.find(query("@d")).size() == 70'001);
}

TEST_CASE("whatever the batches were, look-ups find what a list of all steps would", "[trace]") {
  TraceLimits limits;
  limits.keep = std::chrono::hours(1600);
  Filled trace(limits);
  std::vector<LogEvent> all;
  std::mt19937 random(7);  // NOLINT: the same each time
  // One step at a time, as on a quiet machine, until runs of runs have been merged; then many.
  for (int batch = 0; batch < 640; ++batch) {
    std::vector<LogEvent> lines;
    const int count = batch < 600 ? 1 + batch % 2 : 900;
    for (int i = 0; i < count; ++i) {
      const auto number = all.size() + lines.size();
      lines.push_back(
          attempted(number % 3 == 0 ? kId : kOther, std::to_string(random() % 50) + "@from",
                    std::to_string(random() % 500) + "@to" + std::to_string(number % 4)));
    }
    trace.add(lines);
    all.insert(all.end(), lines.begin(), lines.end());
  }
  const auto count = [&](std::string_view key, std::string_view value) {
    return std::count_if(all.begin(), all.end(), [&](const LogEvent& line) {
      const auto step = queue::decode_fact(encode_trace(line));
      return key == "domain" ? mail::domain_of(step->value("to")) == value
                             : step->value(key) == value;
    });
  };
  for (int i = 0; i < 50; i += 7) {
    const auto from = std::to_string(i) + "@from";
    CAPTURE(from);
    CHECK(static_cast<std::ptrdiff_t>(trace.find(between(from, "")).size()) == count("from", from));
  }
  for (const char* to : {"1@to1", "499@to3", "77@to0", "500@to0"})
    CHECK(static_cast<std::ptrdiff_t>(trace.find(between("", to)).size()) == count("to", to));
  for (const char* domain : {"to0", "to1", "to3", "to4"})
    CHECK(static_cast<std::ptrdiff_t>(trace.find(query(std::string("@") + domain)).size()) ==
          count("domain", domain));
  CHECK(trace.story(kId).size() == (all.size() + 2) / 3);
  // Few runs, each of many keys: what makes a look-up short.
  auto database = queue::Database::open(trace.path(), queue::Database::Mode::reader);
  CHECK(*database->value("SELECT count(*) FROM run") < 3 * 16);
  CHECK(*database->value("SELECT max(blocks) FROM (SELECT length(firsts) / 8 AS blocks FROM run)") >
        10);
  // Nothing of the runs that were merged is left.
  CHECK(*database->value("SELECT count(*) FROM block") ==
        *database->value("SELECT sum(length(firsts) / 8) FROM run"));
}

TEST_CASE("a full segment has one run, and when it goes nothing of it is left", "[trace]") {
  TraceLimits limits;
  limits.keep = std::chrono::hours(16);
  Filled trace(limits);
  for (int hour = 0; hour < 3; ++hour)
    for (int batch = 0; batch < 5; ++batch) {
      std::vector<LogEvent> lines;
      for (int i = 0; i < 3000; ++i)
        lines.push_back(attempted(kId, "a@b", std::to_string(i) + "@d", "sent",
                                  kNow + std::chrono::hours(2 * hour)));
      trace.add(lines);
    }
  auto database = queue::Database::open(trace.path(), queue::Database::Mode::reader);
  CHECK(*database->value("SELECT count(*) FROM segment") == 3);
  CHECK(*database->value("SELECT count(*) FROM run") == 1 + 1 + 5);
  CHECK(trace.find(query("2999@d")).size() == 15);
  trace.trim(kNow + std::chrono::hours(19));
  CHECK(trace.find(query("2999@d")).size() == 5);
  trace.trim(kNow + std::chrono::hours(100));
  for (const char* table : {"segment", "chunk", "run", "block"}) {
    CAPTURE(table);
    CHECK(*database->value((std::string("SELECT count(*) FROM ") + table).c_str()) == 0);
  }
}

TEST_CASE("who looks things up while runs are merged misses nothing", "[trace][threads]") {
  Filled trace;
  trace.add({attempted(kId, "a@b", "sought@d")});
  std::atomic<bool> is_over{false};
  std::atomic<int> looks{0}, misses{0};
  std::thread reader([&] {
    auto reader = TraceReader::open(trace.path());
    while (!is_over) {
      const auto key = key_of_recipient("sought@d");
      const auto places = reader->places(1, {key, key});
      ++looks;
      misses += places && places->size() == 1 ? 0 : 1;
    }
  });
  for (int i = 0; i < 600; ++i)
    trace.add({attempted(kOther, "a@b", std::to_string(i) + "@d")});
  is_over = true;
  reader.join();
  CHECK(looks > 0);
  CHECK(misses == 0);
}

TEST_CASE("blocks and chunks are read as far as they are whole", "[trace]") {
  const std::vector<TraceEntry> entries{
      {0, 0}, {1, 65535}, {0x0102030405060708U, 9}, {~TraceKey{0}, 1}};
  const auto block = encode_block(entries.data(), entries.size());
  CHECK(block.size() == entries.size() * kEntryBytes);
  CHECK(block.substr(20, 10) == std::string("\1\2\3\4\5\6\7\x8\0\x9", 10));
  CHECK(decode_block(block) == entries);
  CHECK(decode_block(block.substr(0, 25)).size() == 2);
  CHECK(decode_block("").empty());
  std::string chunk;
  for (const auto size : {std::size_t{1}, std::size_t{127}, std::size_t{128}, std::size_t{70'000}})
    append_step(std::string(size, 'x'), chunk);
  const auto steps = steps_of(chunk);
  REQUIRE(steps.size() == 4);
  CHECK((steps[1].size() == 127 && steps[2].size() == 128 && steps[3].size() == 70'000));
  CHECK(steps_of(chunk.substr(0, 200)).size() == 2);
  CHECK(steps_of("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff").empty());
  CHECK(steps_of("").empty());
}

TEST_CASE("what is damaged in the file is passed over, or an error, and never more", "[trace]") {
  Filled trace;
  trace.add({attempted(kId, "a@b", "c@d")});
  SECTION("the index") {
    auto database = queue::Database::open(trace.path(), queue::Database::Mode::writer);
    const auto look = [&](const char* sql) {
      REQUIRE(database->execute(sql).has_value());
      CHECK(trace.find(query("c@d")).empty());
      CHECK(trace.story(kId).empty());
    };
    look("UPDATE block SET bytes = x'00'");
    look("UPDATE run SET block = 9223372036854775807");
    look("UPDATE run SET block = -9223372036854775807, level = -1");
    look("UPDATE run SET firsts = x'0000000000000000ffffffffffffffff'");
    CHECK(trace.store().append({encode_trace(attempted(kOther, "a@b", "e@f"))}).has_value());
    look("UPDATE segment SET number = 9223372036854775807");
  }
  SECTION("numbers that have no next") {
    auto database = queue::Database::open(trace.path(), queue::Database::Mode::writer);
    REQUIRE(database->execute("UPDATE block SET number = 9223372036854775807").has_value());
    const auto done = trace.store().append({encode_trace(attempted(kOther, "a@b", "e@f"))});
    CHECK((!done.has_value() && is_damaged(done.error())));
  }
  SECTION("a step") {
    auto database = queue::Database::open(trace.path(), queue::Database::Mode::writer);
    REQUIRE(database->execute("UPDATE chunk SET bytes = x'ff00ff'").has_value());
    CHECK(trace.find(query("c@d")).empty());
    CHECK(trace.story(kId).empty());
  }
  SECTION("a segment") {
    {
      auto database = queue::Database::open(trace.path(), queue::Database::Mode::writer);
      REQUIRE(database->execute("UPDATE segment SET steps = 999999999").has_value());
    }
    const auto again = TraceStore::open(trace.path(), {}, nullptr, KeptDatabase::Check::some);
    REQUIRE_FALSE(again.has_value());
    CHECK(is_damaged(again.error()));
    auto all = query("c@d");
    all.any.reset();
    all.since = TimePoint();
    CHECK(trace.find(all).size() == 1);  // what a reader makes of that has an end
  }
  SECTION("fewer steps than there are") {
    {
      auto database = queue::Database::open(trace.path(), queue::Database::Mode::writer);
      REQUIRE(database->execute("UPDATE segment SET steps = 0").has_value());
    }
    auto again = TraceStore::open(trace.path(), {}, nullptr, KeptDatabase::Check::some);
    REQUIRE(again.has_value());
    const auto done = again->append({encode_trace(attempted(kId, "a@b", "c@d"))});
    CHECK((!done.has_value() && is_damaged(done.error())));
  }
  SECTION("another's database") {
    {
      auto database = queue::Database::open(trace.path(), queue::Database::Mode::writer);
      REQUIRE(database->execute("PRAGMA application_id = 1").has_value());
    }
    const auto again = TraceStore::open(trace.path(), {}, nullptr, KeptDatabase::Check::some);
    CHECK((!again.has_value() && is_damaged(again.error())));
    CHECK_FALSE(TraceReader::open(trace.path()).has_value());
  }
}

TEST_CASE("a batch that could not be written leaves nothing behind, and is written later",
          "[trace]") {
  const TemporaryFolder folder;
  FailingVfs vfs;
  const auto path = folder / "trace.db";
  auto store = TraceStore::open(path, {}, vfs.name(), KeptDatabase::Check::some);
  REQUIRE(store.has_value());
  const std::vector<std::string> first{encode_trace(attempted(kId, "a@b", "c@d"))};
  for (std::uint64_t number = 1; number < 6; ++number) {
    vfs.fail_at(number, SQLITE_FULL, FailingVfs::Mode::once);
    const auto done = store->append(first);
    if (done)
      break;  // it takes no more writes than that
    auto reader = TraceReader::open(path);
    if (!reader)
      continue;
    CHECK(reader->segments(TraceLane::mail)->empty());
  }
  vfs.heal();
  store = TraceStore::open(path, {}, vfs.name(), KeptDatabase::Check::some);
  REQUIRE(store.has_value());
  REQUIRE(store->append(first).has_value());
  REQUIRE(store->append({encode_trace(attempted(kOther, "a@b", "e@f"))}).has_value());
  // A power cut: what was committed is there.
  vfs.fail_at(1, SQLITE_IOERR, FailingVfs::Mode::cut);
  (void)store->append({encode_trace(attempted(kOther, "a@b", "g@h"))});
  vfs.heal();
  auto after = TraceStore::open(path, {}, nullptr, KeptDatabase::Check::all);
  REQUIRE(after.has_value());
  auto reader = TraceReader::open(path);
  REQUIRE(reader.has_value());
  const auto segments = reader->segments(TraceLane::mail);
  REQUIRE((segments.has_value() && segments->size() == 1));
  CHECK(segments->front().steps >= 2);
}
