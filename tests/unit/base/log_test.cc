#include "base/log.h"

#include "base/file.h"
#include "base/text.h"
#include "tests/unit/base/temporary_folder.h"

#include <catch2/catch.hpp>

#include <thread>

namespace postrider {
namespace {

using namespace std::chrono_literals;
using namespace std::string_literals;

LogEvent sample(std::string_view value) {
  LogEvent event = LogEvent(Level::info, "accepted", "4F2").add("from", value).add("size", 4096);
  event.when = TimePoint(1795440884123ms);
  return event;
}

std::string formatted(const LogFormat& format, const LogEvent& event) {
  std::string line;
  format(event, line);
  return line;
}

TEST_CASE("an event is one line of text", "[base][log]") {
  CHECK(formatted(format_text, sample("<a@b>")) ==
        "2026-11-23T13:34:44.123Z info accepted id=4F2 from=<a@b> size=4096");
  CHECK(formatted(format_text, sample("a b")) ==
        "2026-11-23T13:34:44.123Z info accepted id=4F2 from=\"a b\" size=4096");
  CHECK(formatted(format_text, sample("")) ==
        "2026-11-23T13:34:44.123Z info accepted id=4F2 from=\"\" size=4096");
}

TEST_CASE("an event is one JSON object", "[base][log]") {
  CHECK(formatted(format_json, sample("<a@b>")) ==
        "{\"time\":\"2026-11-23T13:34:44.123Z\",\"level\":\"info\",\"event\":\"accepted\","
        "\"id\":\"4F2\",\"from\":\"<a@b>\",\"size\":\"4096\"}");
}

TEST_CASE("I06: hostile values stay within their line and their quotes", "[base][log]") {
  for (const auto& evil :
       {"\r\n2026-01-01 forged"s, "\x1b[2J"s, "\x1b]0;x\x07"s, "\xe2\x80\xa8"s, "\xe2\x80\xae"s,
        "\" forged=\"1"s, "\\\""s, "a\0b"s, "\xff"s, std::string(65536, 'x'), "%s%n{}{0}"s}) {
    for (const LogFormat& format : {LogFormat(format_text), LogFormat(format_json)}) {
      LogEvent event = LogEvent(Level::info, "e", evil).add("key", evil).add("last", "1");
      const auto line = formatted(format, event);
      CHECK(line.find_first_of("\r\n\x1b\x07") == std::string::npos);
      CHECK(line.find("forged=\"") == std::string::npos);
      CHECK(line.size() < 5000);
      CHECK(is_utf8(line));
    }
  }
  // Every backslash in JSON begins one of its escapes.
  CHECK(formatted(format_json, sample("\"\\\n")).find(R"("from":"\\x22\\x5c\\x0a")") !=
        std::string::npos);
}

TEST_CASE("an event gives its fields back", "[base][log]") {
  const auto event = sample("<a@b>");
  CHECK(event.id() == "4F2");
  CHECK(event.value("from") == "<a@b>");
  CHECK(event.value("size") == "4096");
  CHECK(event.value("none").empty());
}

std::vector<std::string_view> lines_of(const std::string& text) {
  auto lines = split(text, '\n');
  lines.pop_back();
  return lines;
}

TEST_CASE("the background log writes in order and survives rotation", "[base][log]") {
  const TemporaryFolder folder;
  const auto name_only = [](const LogEvent& event, std::string& line) { line += event.name(); };
  {
    BackgroundLog log({LogTarget::Kind::file, folder / "log"}, name_only, Level::info);
    CHECK_FALSE(log.enabled(Level::debug));
    log.write(LogEvent(Level::info, "first"));
    log.write(LogEvent(Level::debug, "silent"));
    log.flush();
    CHECK(*read_file(folder / "log") == "first\n");
    std::filesystem::rename(folder / "log", folder / "log.1");
    log.reopen();
    log.write(LogEvent(Level::info, "second"));
    log.flush();
    CHECK(*read_file(folder / "log") == "second\n");
    log.reconfigure(format_text, Level::debug);
    CHECK(log.enabled(Level::debug));
    log.write(LogEvent(Level::debug, "third"));
  }
  CHECK(read_file(folder / "log")->find("debug third\n") != std::string::npos);
  CHECK(*read_file(folder / "log.1") == "first\n");
}

TEST_CASE("a log whose file cannot be opened again keeps the old one", "[base][log]") {
  TemporaryFolder folder;
  REQUIRE(make_folder(folder / "logs", 0700).has_value());
  BackgroundLog log({LogTarget::Kind::file, folder / "logs/log"}, format_text, Level::info);
  log.write(LogEvent(Level::info, "first"));
  log.flush();
  std::filesystem::rename(folder / "logs", folder / "moved");
  REQUIRE(replace_file(folder / "logs", "a file where the folder was", 0600).has_value());
  log.reopen();
  log.flush();
  CHECK(read_file(folder / "moved/log")->find("log_not_reopened") != std::string::npos);
}

TEST_CASE("X15: events from many threads all arrive, during reloads too", "[base][log]") {
  const TemporaryFolder folder;
  {
    BackgroundLog log({LogTarget::Kind::file, folder / "log"}, format_text, Level::info);
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t)
      threads.emplace_back([&] {
        for (int i = 0; i < 2000; ++i)
          log.write(LogEvent(Level::info, "event", "id").add("i", static_cast<std::uint64_t>(i)));
      });
    for (int i = 0; i < 20; ++i) {
      log.reconfigure(i % 2 == 0 ? LogFormat(format_json) : LogFormat(format_text), Level::info);
      log.reopen();
    }
    for (auto& thread : threads)
      thread.join();
  }
  CHECK(lines_of(*read_file(folder / "log")).size() == 8000);
}

}  // namespace
}  // namespace postrider
