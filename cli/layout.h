// How text stands on a screen: lines as wide as it is, and colours where a person looks at them.
// Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace postrider::cli {

inline constexpr std::size_t kColumns = 80;  // where the screen does not say how many it has

// The text in lines of at most `width` columns, divided between words; the first one begins behind
// `indent` columns that are written already, all others behind so many spaces. A word that is too
// long for a line stands alone, whole. Without an end of line behind the last.
std::string wrapped(std::string_view text, std::size_t indent, std::size_t width);

// Whole lines, each of those that are too long divided as above: behind the label that it begins
// with ("oldest        3d4h ..."), or behind its own indentation.
std::string wrapped_lines(std::string_view text, std::size_t width);

// Columns that a text takes: one for each character of UTF-8.
std::size_t columns_of(std::string_view text);

// Lines that begin with ALARM, or say that no mail is taken, in red, headings of tables in bold.
// Requires: the text cannot steer a terminal.
std::string coloured_lines(std::string_view text);

// no_color, term: of the environment, null if they are not set (no-color.org).
bool are_colours_wanted(bool is_terminal, const char* no_color, const char* term);

// Times in UTC as RFC 3339 has them ("2026-11-23T13:34:44.123Z"), which the daemon gives in its
// sentences, as local ones, like all others that are shown.
std::string with_local_times(std::string_view text);

}  // namespace postrider::cli
