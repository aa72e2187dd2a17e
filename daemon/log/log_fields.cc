#include "daemon/log/log_fields.h"

#include "base/text.h"

#include <algorithm>
#include <cstddef>
#include <iterator>

namespace postrider::daemon {

namespace {

constexpr std::string_view kNumbers[] = {"attempt",
                                         "bits",
                                         "commands",
                                         "count",
                                         "delay",
                                         "drop_folder",
                                         "dropped",
                                         "entries",
                                         "envelope",
                                         "failures",
                                         "header",
                                         "held",
                                         "hidden_transactions",
                                         "line",
                                         "lost",
                                         "max_age",
                                         "messages",
                                         "milliseconds",
                                         "nrcpt",
                                         "old_files",
                                         "pid",
                                         "port",
                                         "queued",
                                         "recipients",
                                         "records",
                                         "rule",
                                         "score",
                                         "sessions",
                                         "size",
                                         "suppressed",
                                         "threads",
                                         "uid",
                                         "under_way",
                                         "valid_frames",
                                         "wanted"};
constexpr std::string_view kFlags[] = {"cached", "complete", "resumed", "reused"};
constexpr char kHex[] = "0123456789abcdef";

template <std::size_t Count>
bool has(const std::string_view (&names)[Count], std::string_view name) {
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

// "0", "12", "-3", "0.05": what the daemon writes, all of which JSON takes.
bool is_number(std::string_view value) {
  if (value.starts_with('-'))
    value.remove_prefix(1);
  const auto whole = value.substr(0, value.find('.'));
  const auto is_digits = [](std::string_view text) {
    return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
  };
  if (!is_digits(whole) || (whole.size() > 1 && whole.front() == '0'))
    return false;
  return whole.size() == value.size() || is_digits(value.substr(whole.size() + 1));
}

// Of the UTF-8 sequence that begins with this byte; 1 for what begins none.
std::size_t sequence_length(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  return byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : byte >= 0xC0 ? 2 : 1;
}

// character: valid UTF-8.
char32_t code_point_of(std::string_view character) {
  const auto lead = static_cast<unsigned char>(character.front());
  if (character.size() == 1)
    return lead;
  auto point = static_cast<char32_t>(lead & (0xFFU >> (character.size() + 1)));
  for (const char c : character.substr(1))
    point = point << 6U | (static_cast<unsigned char>(c) & 0x3FU);
  return point;
}

void append_unit(char32_t unit, std::string& out) {
  out.append("\\u");
  for (const unsigned shift : {12U, 8U, 4U, 0U})
    out.push_back(kHex[unit >> shift & 0x0FU]);
}

// Beyond 16 bits as two surrogates (RFC 8259, section 7).
void append_json_escape(char32_t point, std::string& out) {
  if (point < 0x10000)
    return append_unit(point, out);
  append_unit(0xD800 + ((point - 0x10000) >> 10U), out);
  append_unit(0xDC00 + (point & 0x3FFU), out);
}

void append_character(std::string_view character, std::string& out) {
  if (character == "\"" || character == "\\")
    out.append("\\").append(character);
  else if (!is_utf8(character))
    append_json_escape(0xFFFD, out);
  else if (escaped(character, character.size()) == character)
    out.append(character);
  else
    append_json_escape(code_point_of(character), out);
}

// What is left of the first `most` bytes when no character is cut in two.
std::string_view cut_at_character(std::string_view text, std::size_t most) {
  if (text.size() <= most)
    return text;
  while (most > 0 && (static_cast<unsigned char>(text[most]) & 0xC0U) == 0x80U)
    --most;
  return text.substr(0, most);
}

bool is_plain(char c) {
  return c >= ' ' && c <= '~' && c != '"' && c != '\\';
}

}  // namespace

FieldType type_of_field(std::string_view key) {
  if (has(kNumbers, key))
    return FieldType::number;
  return has(kFlags, key) ? FieldType::flag : FieldType::text;
}

void append_json_value(std::string_view key, std::string_view value, std::string& out,
                       std::size_t most) {
  const auto type = type_of_field(key);
  if (type == FieldType::text)
    append_json_string(value, out, most);
  else if (type == FieldType::number)
    out.append(is_number(value) ? value : "null");
  else
    out.append(value == "yes" ? "true" : value == "no" ? "false" : "null");
}

void append_json_string(std::string_view value, std::string& out, std::size_t most) {
  auto rest = cut_at_character(value, most);
  const bool is_cut = rest.size() < value.size();
  out.push_back('"');
  while (!rest.empty()) {
    // Nearly always everything: a run of printable ASCII.
    const auto* const end = std::find_if_not(rest.begin(), rest.end(), is_plain);
    const auto plain = static_cast<std::size_t>(end - rest.begin());
    out.append(rest.substr(0, plain));
    rest.remove_prefix(plain);
    if (rest.empty())
      break;
    auto character = rest.substr(0, sequence_length(rest.front()));
    if (!is_utf8(character))
      character = rest.substr(0, 1);
    append_character(character, out);
    rest.remove_prefix(character.size());
  }
  out.append(is_cut ? "...\"" : "\"");
}

}  // namespace postrider::daemon
