#include "base/toml_words.h"

#include <catch2/catch.hpp>

#include <string>

namespace postrider {
namespace {

TEST_CASE("what is not TOML is said with what is expected", "[base]") {
  struct Case {
    std::string description, expected;
  };
  // As toml++ 3.3 has them, behind what it was given.
  const Case cases[] = {
      {"value: could not determine value type",  // a = on
       "a text in quotes, a number, true, false or a list in brackets"},
      {"key-value pair: expected '=', saw 'b'", "key = value"},    // a b
      {"key-value pair: encountered end-of-file", "key = value"},  // a
      {"table header: encountered end-of-file",
       "[section] or [[section]] alone in its line"},            // [a
      {"string: encountered end-of-file", "the closing quote"},  // a = "x
      {"string: unknown escape sequence '\\q'",
       "\\\\ for a backslash, or the text in single quotes"},  // a = "\q"
      {"array: expected comma or closing ']', saw '2'",
       "commas between the items, and a closing ]"},  // a = [1 2]
      {"inline table: encountered end-of-file", "{ key = value, key = value }"},
      {"key-value pair: expected a comment or whitespace, saw 'M'",
       "one value, with quotes around a text and around a number with a unit"},  // a = 5 MiB
      {"decimal integer: expected digit, saw 'm'",
       "a whole number, or a text in quotes, as for a number with a unit"},  // a = 10m
      {"string: unescaped control characters other than TAB (U+0009) are explicitly prohibited",
       "the closing quote in the same line, and \\u and four hexadecimal digits for a control "
       "character"},
      {"table header: cannot redefine existing table 'listener' as array-of-tables",
       "each [section] once, and [[section]] for those that repeat"},
      {"root table: expected keys, tables, whitespace or comments, saw '='",
       "key = value, [section] or a comment"},
  };
  for (const auto& c : cases) {
    INFO(c.description);
    CHECK(toml_problem("Error while parsing " + c.description) ==
          "is not TOML (" + c.description + "); expected " + c.expected);
  }
  CHECK(toml_problem("Encountered invalid utf-8 sequence") ==
        "is not TOML (Encountered invalid utf-8 sequence); expected text in UTF-8");
  CHECK(toml_problem("") == "is not TOML (); expected key = value, as in postrider.toml(5)");
  CHECK(toml_problem(std::string(5000, '\x1b')).size() < 1000);
}

}  // namespace
}  // namespace postrider
