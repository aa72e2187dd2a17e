#include "base/toml_words.h"

#include "base/expected.h"
#include "base/text.h"

#include <algorithm>

namespace postrider {

namespace {

constexpr std::size_t kMostWords = 200;

// The first row counts of which both parts stand in the description.
struct Remedy {
  std::string_view where, what;
  const char* expected;
};
constexpr Remedy kRemedies[] = {
    {"", "utf-8", "text in UTF-8"},
    {"comment", "control characters", "a comment without control characters"},
    {"string", "control characters",
     "the closing quote in the same line, and \\u and four hexadecimal digits for a control "
     "character"},
    {"string", "end-of-file", "the closing quote"},
    {"string", "escape sequence", "\\\\ for a backslash, or the text in single quotes"},
    {"unicode scalar", "", "four hexadecimal digits behind \\u, or eight behind \\U"},
    {"inline table", "", "{ key = value, key = value }"},
    {"array", "", "commas between the items, and a closing ]"},
    {"table header", "redefine", "each [section] once, and [[section]] for those that repeat"},
    {"table header", "", "[section] or [[section]] alone in its line"},
    {"key-value pair", "redefine", "each key once"},
    {"key-value pair", "comment or whitespace",
     "one value, with quotes around a text and around a number with a unit"},
    {"key-value pair", "", "key = value"},
    {"root table", "", "key = value, [section] or a comment"},
    {"key", "", "key = value"},
    {"value", "", "a text in quotes, a number, true, false or a list in brackets"},
    {"integer", "representable", "a smaller number"},
    {"integer", "", "a whole number, or a text in quotes, as for a number with a unit"},
    {"floating-point", "", "digits on both sides of the point, or a text in quotes"},
    {"boolean", "", "true, false or a text in quotes"},
    {"date", "", "a text in quotes"},
    {"time", "", "a text in quotes"},
};

}  // namespace

std::string toml_problem(std::string_view description) {
  // The library begins with what it was parsing, behind words that say nothing.
  constexpr std::string_view kPrefix = "Error while parsing ";
  if (description.starts_with(kPrefix))
    description.remove_prefix(kPrefix.size());
  const auto colon = description.find(": ");
  const auto where =
      colon == std::string_view::npos ? std::string_view() : description.substr(0, colon);
  const auto what = colon == std::string_view::npos ? description : description.substr(colon + 2);
  const auto* const found =
      std::find_if(std::begin(kRemedies), std::end(kRemedies), [&](const Remedy& remedy) {
        return where.find(remedy.where) != std::string_view::npos &&
               what.find(remedy.what) != std::string_view::npos;
      });
  return but_expected(
      "is not TOML (" + escaped(description, kMostWords) + ")",
      found == std::end(kRemedies) ? "key = value, as in postrider.toml(5)" : found->expected);
}

}  // namespace postrider
