#include "tables/lines.h"

#include <catch2/catch.hpp>

#include <vector>

using namespace postrider::tables;

namespace {

std::vector<std::string> lines_of(std::string_view text) {
  LineReader reader(text);
  Line line;
  std::vector<std::string> out;
  while (reader.next(line))
    out.push_back(std::to_string(line.number) + " " + line.text);
  if (!reader.problem().empty())
    out.push_back(std::to_string(reader.number()) + "! " + reader.problem());
  return out;
}

}  // namespace

TEST_CASE("lines are continued by space, comments and empty lines do not count", "[tables]") {
  struct Case {
    std::string text;
    std::vector<std::string> want;
  };
  const std::vector<Case> cases = {
      {"", {}},
      {"a: b", {"1 a: b"}},
      {"a: b\r\nc: d\r\n", {"1 a: b", "2 c: d"}},
      {"a: b,\n  c,\n\td\ne: f\n", {"1 a: b, c, d", "4 e: f"}},
      {"# note\n\na: b\n # note\n\n c\n", {"3 a: b c"}},
      {"  a: b\n", {"1 a: b"}},
      {"a: # no comment\n", {"1 a: # no comment"}},
      {std::string("a: b\nc\0d: e\n", 12), {"1 a: b", "2! there is a NUL octet in the line"}},
  };
  for (const auto& c : cases) {
    INFO(c.text);
    CHECK(lines_of(c.text) == c.want);
  }
  const auto long_line = "a: " + std::string(kMostLine, 'x') + "\n y\n";
  CHECK(lines_of(long_line).back().substr(0, 4) == "2! t");
}

TEST_CASE("a name and its value are told apart", "[tables]") {
  struct Case {
    std::string line, key, value, problem;
  };
  const std::vector<Case> cases = {
      {"Root: ann", "root", "ann", ""},
      {"root:ann,bob", "root", "ann,bob", ""},
      {"root : ann", "root", "ann", ""},
      {"\"John Q: Public\": john", "john q: public", "john", ""},
      {"\"a\\\"b\" : c", "a\"b", "c", ""},
      {"root ann", "", "", "a colon must follow the name"},
      {"\"root: ann", "", "", "the closing quote of the name is missing"},
      {"\"root\" ann", "", "", "a colon must follow the name"},
      {"two words: ann", "", "", "a name with spaces or quotes must stand in double quotes"},
      {": ann", "", "", "the name is missing"},
      {"root:", "", "", "\"root\" has no value"},
  };
  for (const auto& c : cases) {
    INFO(c.line);
    KeyValue got;
    CHECK(split_alias(c.line, got) == c.problem);
    if (c.problem.empty()) {
      CHECK(got.key == c.key);
      CHECK(got.value == c.value);
    }
  }
  KeyValue entry;
  CHECK(split_entry("Ann@Example.org \t bob, carl", entry).empty());
  CHECK(entry.key == "ann@example.org");
  CHECK(entry.value == "bob, carl");
  CHECK(split_entry("\"a b\"@x", entry).empty());
  CHECK(split_entry("ann", entry) == "\"ann\" has no value");
}
