#include "base/log.h"

#include "base/text.h"

#include <catch2/catch.hpp>

namespace postrider {
namespace {

using namespace std::chrono_literals;
using namespace std::string_literals;

LogEvent sample(std::string_view value) {
  LogEvent event = LogEvent(Level::info, "accepted", "4F2").add("from", value).add("size", 4096);
  event.when = TimePoint(1795440884123ms);
  return event;
}

std::string formatted(const LogEvent& event) {
  std::string line;
  format_text(event, line);
  return line;
}

TEST_CASE("an event is one line of text", "[base][log]") {
  CHECK(formatted(sample("<a@b>")) ==
        "2026-11-23T13:34:44.123Z info accepted id=4F2 from=<a@b> size=4096");
  CHECK(formatted(sample("a b")) ==
        "2026-11-23T13:34:44.123Z info accepted id=4F2 from=\"a b\" size=4096");
  CHECK(formatted(sample("")) ==
        "2026-11-23T13:34:44.123Z info accepted id=4F2 from=\"\" size=4096");
}

TEST_CASE("I06: hostile values stay within their line and their quotes", "[base][log]") {
  for (const auto& evil :
       {"\r\n2026-01-01 forged"s, "\x1b[2J"s, "\x1b]0;x\x07"s, "\xe2\x80\xa8"s, "\xe2\x80\xae"s,
        "\" forged=\"1"s, "\\\""s, "a\0b"s, "\xff"s, std::string(65536, 'x'), "%s%n{}{0}"s}) {
    LogEvent event = LogEvent(Level::info, "e", evil).add("key", evil).add("last", "1");
    const auto line = formatted(event);
    CHECK(line.find_first_of("\r\n\x1b\x07") == std::string::npos);
    CHECK(line.find("forged=\"") == std::string::npos);
    CHECK(line.size() < 5000);
    CHECK(is_utf8(line));
  }
}

TEST_CASE("an event gives its fields back", "[base][log]") {
  const auto event = sample("<a@b>");
  CHECK(event.id() == "4F2");
  CHECK(event.value("from") == "<a@b>");
  CHECK(event.value("size") == "4096");
  CHECK(event.value("none").empty());
}

}  // namespace
}  // namespace postrider
