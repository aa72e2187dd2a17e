// Small pure helpers for text. ASCII only: nothing here depends on the locale.
#pragma once

#include "base/time.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace postrider {

char ascii_lower(char c);
std::string ascii_lower(std::string_view text);
bool equals_ignoring_case(std::string_view a, std::string_view b);
bool starts_with_ignoring_case(std::string_view text, std::string_view prefix);
bool ends_with_ignoring_case(std::string_view text, std::string_view suffix);
std::string_view trim(std::string_view text);  // space and tab
std::vector<std::string_view> split(std::string_view text, char separator);
bool is_ascii(std::string_view text);
bool is_utf8(std::string_view text);  // strict: no overlong forms, no surrogates

// Digits only, no sign, no overflow; nothing else is a number.
std::optional<std::uint64_t> parse_unsigned(std::string_view text);

// The one escaping function for outside bytes that people read, in listings, sentences and notices:
// printable ASCII and valid UTF-8 letters stay; controls, DEL, bidi and line separators and invalid
// bytes become \xNN, so twice is as once. Cut at `most` input bytes, with "..." as the mark.
std::string escaped(std::string_view outside, std::size_t most = 512);
void append_escaped(std::string_view outside, std::string& out, std::size_t most = 512);

// "5d", "90m", "1h30m", "250ms"; a number without a unit is refused.
std::optional<Duration> parse_duration(std::string_view text);
std::string format_duration(Duration value);  // the shortest exact form: "1h30m"
// "50MiB", "64KiB", "10MB", "512B"; a number without a unit is refused.
std::optional<std::uint64_t> parse_size(std::string_view text);
std::string format_size(std::uint64_t bytes);  // exact in the largest binary unit: "50MiB"

std::string format_rfc3339(TimePoint when);  // 2026-11-23T13:34:44.123Z

}  // namespace postrider
