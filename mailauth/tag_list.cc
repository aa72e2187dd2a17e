#include "mailauth/tag_list.h"

#include "base/base64.h"
#include "base/text.h"

#include <algorithm>

namespace postrider::mailauth {

namespace {

constexpr std::string_view kWhiteSpace = " \t\r\n";

bool is_white_space(char c) {
  return kWhiteSpace.find(c) != std::string_view::npos;
}

bool is_letter(char c) {
  const char lower = ascii_lower(c);
  return lower >= 'a' && lower <= 'z';
}

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

bool is_tag_name(std::string_view name) {
  return !name.empty() && is_letter(name.front()) &&
         std::all_of(name.begin(), name.end(),
                     [](char c) { return is_letter(c) || is_digit(c) || c == '_'; });
}

// VALCHAR, and white space between.
bool is_tag_value(std::string_view value) {
  return std::all_of(value.begin(), value.end(), [](char c) {
    return is_white_space(c) || (static_cast<unsigned char>(c) > 0x20 && c != 0x7F);
  });
}

int hex_value(char c) {
  if (is_digit(c))
    return c - '0';
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

}  // namespace

std::string_view trim_white_space(std::string_view text) {
  const auto first = text.find_first_not_of(kWhiteSpace);
  if (first == std::string_view::npos)
    return {};
  return text.substr(first, text.find_last_not_of(kWhiteSpace) + 1 - first);
}

std::string without_white_space(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  std::copy_if(text.begin(), text.end(), std::back_inserter(out),
               [](char c) { return !is_white_space(c); });
  return out;
}

std::vector<std::string_view> split_trimmed(std::string_view text, char separator) {
  auto parts = split(text, separator);
  for (auto& part : parts)
    part = trim_white_space(part);
  return parts;
}

Result<TagList> TagList::parse(std::string_view text) {
  if (text.size() > kMostTagListSize)
    return Error(Errc::too_long, "tag list too long");
  TagList list;
  for (std::size_t at = 0; at < text.size();) {
    const auto end = std::min(text.find(';', at), text.size());
    const auto part = text.substr(at, end - at);
    if (end == text.size() && trim_white_space(part).empty())
      break;  // behind the last semicolon
    const auto equals = part.find('=');
    if (equals == std::string_view::npos)
      return malformed("tag without \"=\"");
    Tag tag;
    tag.name = trim_white_space(part.substr(0, equals));
    tag.value = trim_white_space(part.substr(equals + 1));
    tag.begin = at + equals + 1;
    tag.end = end;
    if (!is_tag_name(tag.name))
      return malformed("invalid tag name");
    if (!is_tag_value(tag.value))
      return malformed("invalid character in tag " + std::string(tag.name));
    if (list.find(tag.name) != nullptr)
      return malformed("tag " + std::string(tag.name) + " given twice");
    if (list.tags_.size() == kMostTags)
      return Error(Errc::too_long, "too many tags");
    list.tags_.push_back(tag);
    at = end + 1;
  }
  if (list.tags_.empty())
    return malformed("empty tag list");
  return list;
}

const Tag* TagList::find(std::string_view name) const {
  const auto found =
      std::find_if(tags_.begin(), tags_.end(), [&](const Tag& tag) { return tag.name == name; });
  return found == tags_.end() ? nullptr : &*found;
}

std::optional<std::string_view> TagList::value(std::string_view name) const {
  const auto* tag = find(name);
  return tag == nullptr ? std::nullopt : std::optional(tag->value);
}

std::optional<std::string> decode_folded_base64(std::string_view text) {
  auto plain = without_white_space(text);
  if (plain.size() % 4 != 0 && !plain.ends_with('='))
    plain.append(4 - plain.size() % 4, '=');
  return decode_base64(plain);
}

std::optional<std::string> decode_dkim_quoted_printable(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (is_white_space(text[i]))
      continue;
    if (text[i] != '=') {
      out.push_back(text[i]);
      continue;
    }
    if (text.size() - i < 3 || hex_value(text[i + 1]) < 0 || hex_value(text[i + 2]) < 0)
      return std::nullopt;
    out.push_back(static_cast<char>(hex_value(text[i + 1]) * 16 + hex_value(text[i + 2])));
    i += 2;
  }
  return out;
}

}  // namespace postrider::mailauth
