// How text stands on a screen, and the tables of a summary.
#include "cli/layout.h"

#include "cli/summary_view.h"

#include <boost/json/array.hpp>
#include <catch2/catch.hpp>

#include <cstdlib>
#include <ctime>
#include <string>

namespace postrider::cli {
namespace {

namespace json = boost::json;

TEST_CASE("a text is divided between words", "[cli][layout]") {
  const struct {
    const char* text;
    std::size_t indent, width;
    const char* want;
  } cases[] = {{"", 4, 10, ""},
               {"one", 0, 10, "one"},
               {"one two three", 0, 7, "one two\nthree"},
               {"one two three", 2, 9, "one two\n  three"},
               {"one two three", 2, 8, "one\n  two\n  three"},
               {"unbroken-and-long word", 0, 8, "unbroken-and-long\nword"},
               {"word unbroken-and-long", 3, 8, "word\n   unbroken-and-long"},
               {"\xc3\xa4\xc3\xb6 \xc3\xbc", 0, 4, "\xc3\xa4\xc3\xb6 \xc3\xbc"},
               {"a  b", 0, 80, "a  b"}};
  for (const auto& c : cases) {
    INFO(c.text);
    CHECK(wrapped(c.text, c.indent, c.width) == c.want);
  }
}

TEST_CASE("a line that is too long goes on behind its label", "[cli][layout]") {
  CHECK(wrapped_lines("short\n", 80) == "short\n");
  CHECK(wrapped_lines("ALARM         one two three four\nx\n", 28) ==
        "ALARM         one two three\n              four\nx\n");
  CHECK(wrapped_lines("       indented words here", 20) == "       indented\n       words here");
  CHECK(wrapped_lines("no label but long", 10) == "no label\nbut long");
  CHECK(wrapped_lines("", 10).empty());
}

TEST_CASE("colours are for people at terminals who want them", "[cli][layout]") {
  CHECK(are_colours_wanted(true, nullptr, "xterm"));
  CHECK(are_colours_wanted(true, "", "xterm"));
  CHECK_FALSE(are_colours_wanted(false, nullptr, "xterm"));
  CHECK_FALSE(are_colours_wanted(true, "1", "xterm"));
  CHECK_FALSE(are_colours_wanted(true, "0", "xterm"));
  CHECK_FALSE(are_colours_wanted(true, nullptr, "dumb"));
  CHECK_FALSE(are_colours_wanted(true, nullptr, nullptr));
}

TEST_CASE("alarms are red, also where they go on", "[cli][layout]") {
  CHECK(
      coloured_lines("ALARM         x\n              y\nqueue         empty\n") ==
      "\x1b[1;31mALARM         x\x1b[0m\n\x1b[1;31m              y\x1b[0m\nqueue         empty\n");
  CHECK(coloured_lines("no ALARM\n") == "no ALARM\n");
}

TEST_CASE("times of the daemon are shown as local ones", "[cli][layout]") {
  ::setenv("TZ", "UTC-2", 1);
  ::tzset();
  CHECK(with_local_times("until 2026-11-23T13:34:44.123Z, then") ==
        "until 2026-11-23 15:34:44, then");
  CHECK(with_local_times("2026-11-23T23:34:44Z") == "2026-11-24 01:34:44");
  for (const char* text :
       {"", "x", "2026-11-23", "2026-11-23T13:34:44", "2026-11-23T13:34:44+02:00",
        "2026-11-23T13:34:44.", "2026-11-23 13:34:44Z"})
    CHECK(with_local_times(text) == text);
  ::unsetenv("TZ");
  ::tzset();
}

json::object group(const char* key, int recipients, int messages) {
  json::object object;
  object["key"] = key;
  object["recipients"] = recipients;
  object["messages"] = messages;
  object["bytes"] = 2048;
  object["oldest"] = 1000;
  object["ages"] = json::array{recipients, 0, 0, 0, 0, 0, 0, 0, 0, 0};
  return object;
}

TEST_CASE("a summary is a table with its sum first", "[cli][summary]") {
  auto total = group("", 12, 9);
  total["by"] = "domain";
  total["groups"] = 3;
  CHECK(summary_view({group("one.test", 10, 8), group("", 2, 1)}, total, 4600) ==
        "RECIPIENTS MESSAGES SIZE OLDEST  DOMAIN\n"
        "        12        9 2.0K     1h  TOTAL\n"
        "        10        8 2.0K     1h  one.test\n"
        "         2        1 2.0K     1h  (none)\n"
        "2 of 3 domains; --limit 0 shows all\n");
  total["by"] = "reason";
  total["groups"] = 1;
  const auto text = summary_view({group("said: 451 4.7.1 greylisted, and then a text that goes on "
                                        "for more than one line",
                                        10, 8)},
                                 total, 4600);
  CHECK(text.find("then a text\n" + std::string(33, ' ') + "that goes on") != std::string::npos);
  total["recipients"] = 0;
  CHECK(summary_view({}, total, 4600) == "No message matches.\n");
}

TEST_CASE("by age a summary is qshape's table", "[cli][summary]") {
  auto total = group("", 12, 9);
  total["by"] = "age";
  total["groups"] = 1;
  CHECK(summary_view({group("one.test", 12, 9)}, total, 4600) ==
        " T  5 10 20 40 80 160 320 640 1280 1280+  DOMAIN\n"
        "12 12  0  0  0  0   0   0   0    0     0  TOTAL\n"
        "12 12  0  0  0  0   0   0   0    0     0  one.test\n");
}

TEST_CASE("what was paused and resumed is a sentence", "[cli][summary]") {
  json::object paused;
  paused["kind"] = "domain";
  paused["name"] = "one.test";
  paused["messages"] = 1;
  paused["recipients"] = 2;
  paused["under_way_messages"] = 2;
  CHECK(paused_view(paused) ==
        "mail to one.test is paused until it is resumed: 1 message (2 recipients) waits\n"
        "2 messages under way are not stopped\n");
  paused["kind"] = "all";
  paused["dry_run"] = true;
  paused.erase("under_way_messages");
  CHECK(paused_view(paused) ==
        "all mail would be paused until it is resumed: 1 message (2 recipients) waits\n");
  paused["ended"] = 0;
  CHECK(resumed_view(paused) == "all mail was not paused; what is, `postrider status` says\n");
}

}  // namespace
}  // namespace postrider::cli
