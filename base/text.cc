#include "base/text.h"

#include "base/escaped_text.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <ctime>
#include <limits>

namespace postrider {

namespace {

constexpr char kHex[] = "0123456789abcdef";

// Length of the valid UTF-8 sequence at the start of text, 0 if there is none; sets its code point.
std::size_t utf8_sequence(std::string_view text, char32_t& code_point) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  std::size_t length = 0;
  char32_t least = 0;
  if (lead < 0x80) {
    code_point = lead;
    return 1;
  }
  if (lead >= 0xC2 && lead <= 0xDF) {
    length = 2, least = 0x80, code_point = lead & 0x1FU;
  } else if ((lead & 0xF0U) == 0xE0U) {
    length = 3, least = 0x800, code_point = lead & 0x0FU;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    length = 4, least = 0x10000, code_point = lead & 0x07U;
  } else {
    return 0;
  }
  if (text.size() < length)
    return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0U) != 0x80U)
      return 0;
    code_point = (code_point << 6U) | (byte(i) & 0x3FU);
  }
  const bool surrogate = code_point >= 0xD800 && code_point <= 0xDFFF;
  return code_point < least || code_point > 0x10FFFF || surrogate ? 0 : length;
}

// Code points that a terminal or a reader of logs could take for layout.
bool disturbs(char32_t c) {
  return c < 0x20 || (c >= 0x7F && c < 0xA0) || c == 0xAD || c == 0x61C || c == 0x180E ||
         (c >= 0x200B && c <= 0x200F) || (c >= 0x2028 && c <= 0x202E) ||
         (c >= 0x2060 && c <= 0x206F) || c == 0xFEFF || (c >= 0xFFF0 && c <= 0xFFFF) ||
         (c >= 0xE0000 && c <= 0xE007F);
}

struct Unit {
  std::string_view name;
  std::uint64_t factor;
};

// Sum of "<number><unit>" terms, each unit smaller than the one before.
std::optional<std::uint64_t> parse_terms(std::string_view text, const Unit* units,
                                         std::size_t count, bool several) {
  std::uint64_t sum = 0;
  std::size_t next_unit = 0;
  bool any = false;
  while (!text.empty()) {
    if (any && !several)
      return std::nullopt;
    const auto digits = text.find_first_not_of("0123456789");
    if (digits == 0 || digits == std::string_view::npos)
      return std::nullopt;
    const auto number = parse_unsigned(text.substr(0, digits));
    text.remove_prefix(digits);
    const auto unit_end = text.find_first_of("0123456789");
    const auto unit = text.substr(0, unit_end);
    text.remove_prefix(unit.size());
    std::size_t found = next_unit;
    while (found < count && !equals_ignoring_case(units[found].name, unit))
      ++found;
    if (!number || found == count)
      return std::nullopt;
    if (*number > (std::numeric_limits<std::int64_t>::max() - sum) / units[found].factor)
      return std::nullopt;
    sum += *number * units[found].factor;
    next_unit = found + 1;
    any = true;
  }
  return any ? std::optional(sum) : std::nullopt;
}

constexpr Unit kTimeUnits[] = {{"w", 604'800'000}, {"d", 86'400'000}, {"h", 3'600'000},
                               {"m", 60'000},      {"s", 1'000},      {"ms", 1}};
constexpr Unit kSizeUnits[] = {{"GiB", 1ULL << 30},
                               {"MiB", 1ULL << 20},
                               {"KiB", 1ULL << 10},
                               {"GB", 1'000'000'000},
                               {"MB", 1'000'000},
                               {"KB", 1'000},
                               {"B", 1}};

bool is_plain(char c) {
  return c >= ' ' && c <= '~' && c != '"' && c != '\\';
}

}  // namespace

char ascii_lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c;
}

std::string ascii_lower(std::string_view text) {
  std::string lowered(text);
  for (char& c : lowered)
    c = ascii_lower(c);
  return lowered;
}

bool equals_ignoring_case(std::string_view a, std::string_view b) {
  if (a.size() != b.size())
    return false;
  for (std::size_t i = 0; i < a.size(); ++i)
    if (ascii_lower(a[i]) != ascii_lower(b[i]))
      return false;
  return true;
}

bool starts_with_ignoring_case(std::string_view text, std::string_view prefix) {
  return text.size() >= prefix.size() &&
         equals_ignoring_case(text.substr(0, prefix.size()), prefix);
}

bool ends_with_ignoring_case(std::string_view text, std::string_view suffix) {
  return text.size() >= suffix.size() &&
         equals_ignoring_case(text.substr(text.size() - suffix.size()), suffix);
}

std::string_view trim(std::string_view text) {
  const auto first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos)
    return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (;;) {
    const auto end = text.find(separator);
    parts.push_back(text.substr(0, end));
    if (end == std::string_view::npos)
      return parts;
    text.remove_prefix(end + 1);
  }
}

bool is_ascii(std::string_view text) {
  for (const char c : text)
    if (static_cast<unsigned char>(c) >= 0x80)
      return false;
  return true;
}

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    char32_t code_point = 0;
    const auto length = utf8_sequence(text, code_point);
    if (length == 0)
      return false;
    text.remove_prefix(length);
  }
  return true;
}

std::optional<std::uint64_t> parse_unsigned(std::string_view text) {
  std::uint64_t value = 0;
  if (text.empty() || text[0] == '+' || text[0] == '-')
    return std::nullopt;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size())
    return std::nullopt;
  return value;
}

std::string escaped(std::string_view outside, std::size_t most) {
  std::string out;
  append_escaped(outside, out, most);
  return out;
}

namespace {

// marks: printable characters that are escaped as well.
void append_escaped_but(std::string_view outside, std::string_view marks, std::string& out,
                        std::size_t most) {
  const bool cut = outside.size() > most;
  if (cut)
    outside = outside.substr(0, most);
  while (!outside.empty()) {
    // Nearly always everything: a run of printable ASCII.
    const auto end = std::find_if_not(outside.begin(), outside.end(), is_plain);
    const auto plain = static_cast<std::size_t>(end - outside.begin());
    out.append(outside.substr(0, plain));
    outside.remove_prefix(plain);
    if (outside.empty())
      break;
    char32_t code_point = 0;
    const auto length = utf8_sequence(outside, code_point);
    const bool keep = length > 0 && !disturbs(code_point) &&
                      marks.find(outside.front()) == std::string_view::npos;
    const std::size_t taken = length == 0 ? 1 : length;
    if (keep) {
      out.append(outside.substr(0, taken));
    } else {
      for (const char c : outside.substr(0, taken)) {
        const auto byte = static_cast<unsigned char>(c);
        out.append("\\x").append(1, kHex[byte >> 4U]).append(1, kHex[byte & 0x0FU]);
      }
    }
    outside.remove_prefix(taken);
  }
  if (cut)
    out.append("...");
}

}  // namespace

void append_escaped(std::string_view outside, std::string& out, std::size_t most) {
  append_escaped_but(outside, "", out, most);
}

void append_escaped_value(std::string_view outside, std::string& out, std::size_t most) {
  append_escaped_but(outside, "\"\\", out, most);
}

namespace {

// keeps: characters that stay although they are controls; code: how to write the others.
template <class Code>
std::string with_codes(std::string_view text, std::string_view keeps, const Code& code) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    char32_t code_point = 0;
    const auto length = utf8_sequence(text, code_point);
    const auto taken = text.substr(0, length == 0 ? 1 : length);
    const bool keep = length > 0 && (!disturbs(code_point) || keeps.find(taken) != keeps.npos);
    if (keep)
      out.append(taken);
    else
      code(taken, length > 0 ? std::optional(code_point) : std::nullopt, out);
    text.remove_prefix(taken.size());
  }
  return out;
}

void append_unit(std::string& out, unsigned unit) {
  out.append("\\u");
  for (int shift = 12; shift >= 0; shift -= 4)
    out.push_back(kHex[(unit >> static_cast<unsigned>(shift)) & 0x0FU]);
}

}  // namespace

std::string escaped_text(std::string_view text) {
  return with_codes(text, "\n\t", [](std::string_view taken, auto, std::string& out) {
    for (const char c : taken) {
      const auto byte = static_cast<unsigned char>(c);
      out.append("\\x").append(1, kHex[byte >> 4U]).append(1, kHex[byte & 0x0FU]);
    }
  });
}

std::string escaped_json(std::string_view json) {
  return with_codes(json, "\n", [](std::string_view, std::optional<char32_t> point, auto& out) {
    const auto code = point.value_or(0xFFFD);
    if (code < 0x10000)
      return append_unit(out, code);
    append_unit(out, 0xD800U + ((code - 0x10000U) >> 10U));
    append_unit(out, 0xDC00U + ((code - 0x10000U) & 0x3FFU));
  });
}

std::optional<Duration> parse_duration(std::string_view text) {
  const auto value = parse_terms(text, kTimeUnits, std::size(kTimeUnits), true);
  return value ? std::optional(Duration(static_cast<std::int64_t>(*value))) : std::nullopt;
}

std::string format_duration(Duration value) {
  auto rest = static_cast<std::uint64_t>(value.count() < 0 ? -value.count() : value.count());
  std::string out = value.count() < 0 ? "-" : "";
  for (const auto& unit : kTimeUnits) {
    if (unit.name == "w" || rest < unit.factor)
      continue;
    out.append(std::to_string(rest / unit.factor)).append(unit.name);
    rest %= unit.factor;
  }
  return out.empty() ? "0s" : out;
}

std::optional<std::uint64_t> parse_size(std::string_view text) {
  return parse_terms(text, kSizeUnits, std::size(kSizeUnits), false);
}

std::string format_size(std::uint64_t bytes) {
  for (std::size_t i = 0; i < 3; ++i)
    if (bytes >= kSizeUnits[i].factor && bytes % kSizeUnits[i].factor == 0)
      return std::to_string(bytes / kSizeUnits[i].factor).append(kSizeUnits[i].name);
  return std::to_string(bytes) + "B";
}

std::string format_rfc3339(TimePoint when) {
  // Many lines of a log fall into one second: its text is kept.
  struct Second {
    std::time_t at = -1;
    std::array<char, 48> text{};
    std::size_t size = 0;
  };
  thread_local Second kept;
  const auto millis = when.time_since_epoch().count();
  const auto seconds =
      static_cast<std::time_t>(millis >= 0 ? millis / 1000 : (millis - 999) / 1000);
  if (kept.size == 0 || kept.at != seconds) {
    std::tm broken{};
    gmtime_r(&seconds, &broken);
    kept.size =
        std::strftime(kept.text.data(), kept.text.size(), "%Y-%m-%dT%H:%M:%S.000Z", &broken);
    kept.at = seconds;
  }
  std::string out(kept.text.data(), kept.size);
  const auto part = static_cast<int>(millis - seconds * 1000);
  const auto digit = [](int value) { return static_cast<char>('0' + value % 10); };
  out[out.size() - 4] = digit(part / 100);
  out[out.size() - 3] = digit(part / 10);
  out[out.size() - 2] = digit(part);
  return out;
}

}  // namespace postrider
