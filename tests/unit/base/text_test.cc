#include "base/text.h"

#include "base/escaped_text.h"
#include "base/shell_word.h"

#include <catch2/catch.hpp>

#include <vector>

namespace postrider {
namespace {

using namespace std::string_literals;
using namespace std::chrono_literals;

TEST_CASE("outside bytes are escaped to one harmless line (I06)", "[base][text]") {
  struct Case {
    std::string name;
    std::string outside;
    std::string want;
  };
  const std::vector<Case> cases = {
      {"plain", "user@example.org", "user@example.org"},
      {"empty", "", ""},
      {"a forged line", "\r\n2026-01-01 forged", "\\x0d\\x0a2026-01-01 forged"},
      {"clear screen", "\x1b[2J", "\\x1b[2J"},
      {"window title", "\x1b]0;x\x07", "\\x1b]0;x\\x07"},
      {"line separator", "\xe2\x80\xa8", "\\xe2\\x80\\xa8"},
      {"right to left", "\xe2\x80\xae", "\\xe2\\x80\\xae"},
      {"Arabic letter mark", "\xd8\x9c", "\\xd8\\x9c"},
      {"isolates", "\xe2\x81\xa6", "\\xe2\\x81\\xa6"},
      {"zero width", "\xe2\x80\x8b", "\\xe2\\x80\\x8b"},
      {"byte order mark", "\xef\xbb\xbf", "\\xef\\xbb\\xbf"},
      {"C1 control", "\xc2\x85", "\\xc2\\x85"},
      {"tags", "\xf3\xa0\x81\x81", "\\xf3\\xa0\\x81\\x81"},
      {"NUL", "a\0b"s, "a\\x00b"},
      {"DEL", "\x7f", "\\x7f"},
      {"quote and backslash", "550 \"no\" such\\user", "550 \"no\" such\\user"},
      {"letters of any language", "gr\xc3\xbc\xc3\x9f \xe7\x94\xa8",
       "gr\xc3\xbc\xc3\x9f \xe7\x94\xa8"},
      {"invalid", "\xff\xc3", "\\xff\\xc3"},
      {"overlong", "\xc0\xaf", "\\xc0\\xaf"},
      {"surrogate", "\xed\xa0\x80", "\\xed\\xa0\\x80"},
  };
  for (const auto& c : cases)
    DYNAMIC_SECTION(c.name) {
      CHECK(escaped(c.outside) == c.want);
      CHECK(escaped(c.want) == c.want);  // in a sentence that is put into another
    }
  CHECK(escaped(std::string(65536, 'x')) == std::string(512, 'x') + "...");
  CHECK(escaped("\xc3\xbc\xc3\xbc", 3) == "\xc3\xbc\\xc3...");
}

TEST_CASE("a value between quotes cannot end before its last quote", "[base][text]") {
  struct Case {
    std::string outside;
    std::string want;
  };
  const std::vector<Case> cases = {
      {"user@example.org", "user@example.org"},
      {"550 \"no\" such\\user", "550 \\x22no\\x22 such\\x5cuser"},
      {"a\" forged=\"b", "a\\x22 forged=\\x22b"},
      {"\x1b[2J\r\n", "\\x1b[2J\\x0d\\x0a"},
      {"gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f"},
      {"\xff\xc3", "\\xff\\xc3"},
      {"", ""},
  };
  for (const auto& c : cases)
    DYNAMIC_SECTION(c.outside) {
      std::string value = "=";
      append_escaped_value(c.outside, value);
      CHECK(value == "=" + c.want);
    }
  std::string cut;
  append_escaped_value("\"\"\"", cut, 2);
  CHECK(cut == "\\x22\\x22...");
}

TEST_CASE("a word is what a shell reads of it", "[base][text]") {
  const struct {
    const char* word;
    const char* want;
  } cases[] = {{"example.org", "example.org"},
               {"ann+x@b.test", "ann+x@b.test"},
               {"", "''"},
               {"<>", "'<>'"},
               {"a'b@x.test", "'a'\\''b@x.test'"},
               {"\"a b\"@x.test", "'\"a b\"@x.test'"},
               {"$(x)", "'$(x)'"},
               {"~root", "'~root'"},
               {"b\xc3\xbc@x.test", "b\xc3\xbc@x.test"}};
  for (const auto& c : cases)
    CHECK(shell_word(c.word) == c.want);
}

TEST_CASE("durations need units and fall in order", "[base][text]") {
  CHECK(parse_duration("5d") == 120h);
  CHECK(parse_duration("90m") == 90min);
  CHECK(parse_duration("1h30m") == 90min);
  CHECK(parse_duration("250ms") == 250ms);
  CHECK(parse_duration("1w2d3h4m5s6ms") == 168h + 51h + 4min + 5s + 6ms);
  CHECK(parse_duration("0s") == 0ms);
  for (const auto* bad : {"", "5", "d", "5x", "30m1h", "1h1h", "-5s", "+5s", "1.5h", "5 d", "5d ",
                          "99999999999999999999d", "9223372036854775807s"})
    DYNAMIC_SECTION("refused: " << bad) {
      CHECK_FALSE(parse_duration(bad).has_value());
    }
  for (const auto* text : {"5d", "1h30m", "250ms", "1d1s", "0s"})
    CHECK(format_duration(*parse_duration(text)) == text);
  CHECK(format_duration(-90min) == "-1h30m");
}

TEST_CASE("sizes need a unit", "[base][text]") {
  CHECK(parse_size("50MiB") == 50U << 20U);
  CHECK(parse_size("64KiB") == 65536U);
  CHECK(parse_size("10MB") == 10000000U);
  CHECK(parse_size("512B") == 512U);
  CHECK(parse_size("1GiB") == 1U << 30U);
  for (const auto* bad : {"", "5", "MiB", "5Mi", "1MiB1KiB", "-1B", "1.5MiB", "99999999999999GiB"})
    DYNAMIC_SECTION("refused: " << bad) {
      CHECK_FALSE(parse_size(bad).has_value());
    }
  CHECK(format_size(50U << 20U) == "50MiB");
  CHECK(format_size(1536) == "1536B");
  CHECK(format_size(0) == "0B");
}

TEST_CASE("numbers are digits and nothing else", "[base][text]") {
  CHECK(parse_unsigned("0") == 0U);
  CHECK(parse_unsigned("18446744073709551615") == 18446744073709551615U);
  for (const auto& bad :
       {""s, "-1"s, "+1"s, " 1"s, "1 "s, "0x10"s, "1e3"s, "18446744073709551616"s, "1\0"s})
    CHECK_FALSE(parse_unsigned(bad).has_value());
}

TEST_CASE("UTF-8 is checked strictly (L12)", "[base][text]") {
  for (const auto* good :
       {"", "a", "\xc3\xbc", "\xe7\x94\xa8", "\xf0\x9f\x98\x80", "\xf4\x8f\xbf\xbf"})
    CHECK(is_utf8(good));
  for (const auto* bad : {"\x80", "\xc3", "\xc0\x80", "\xc1\xbf", "\xe0\x80\xaf", "\xed\xa0\x80",
                          "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xe7\x94", "a\xff"})
    CHECK_FALSE(is_utf8(bad));
}

TEST_CASE("text helpers know ASCII only", "[base][text]") {
  CHECK(ascii_lower("AbC\xc3\x9c") == "abc\xc3\x9c");
  CHECK(equals_ignoring_case("FROM:", "from:"));
  CHECK_FALSE(equals_ignoring_case("a", "ab"));
  CHECK(starts_with_ignoring_case("MAIL FROM", "mail"));
  CHECK_FALSE(starts_with_ignoring_case("MA", "mail"));
  CHECK(ends_with_ignoring_case("x.Example", ".example"));
  CHECK(trim(" \ta b \t") == "a b");
  CHECK(trim(" \t").empty());
  CHECK(split("a,,b", ',') == std::vector<std::string_view>{"a", "", "b"});
  CHECK(split("", ',') == std::vector<std::string_view>{""});
  CHECK(is_ascii("a\x7f"));
  CHECK_FALSE(is_ascii("\x80"));
}

TEST_CASE("times are written in UTC with milliseconds", "[base][text]") {
  CHECK(format_rfc3339(TimePoint(1795440884123ms)) == "2026-11-23T13:34:44.123Z");
  CHECK(format_rfc3339(TimePoint(-1ms)) == "1969-12-31T23:59:59.999Z");
}

}  // namespace
}  // namespace postrider
