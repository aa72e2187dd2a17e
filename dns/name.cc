#include "dns/name.h"

#include "base/text.h"

namespace postrider::dns {

namespace {

bool is_printable(char c) {
  return c > ' ' && c <= '~';
}

bool is_host_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

void append_escaped(std::string& text, char c) {
  const auto octet = static_cast<unsigned char>(c);
  if (c == '.' || c == '\\') {
    text += '\\';
    text += c;
  } else if (is_printable(c)) {
    text += c;
  } else {
    text += '\\';
    text += static_cast<char>('0' + octet / 100);
    text += static_cast<char>('0' + octet / 10 % 10);
    text += static_cast<char>('0' + octet % 10);
  }
}

}  // namespace

bool Name::append_label(std::string_view label) {
  if (label.empty() || label.size() > kMostLabel ||
      wire_.size() + 1 + label.size() + 1 > kMostOctets)
    return false;
  wire_ += static_cast<char>(label.size());
  for (const char c : label)
    wire_ += ascii_lower(c);
  return true;
}

std::optional<Name> Name::from_text(std::string_view text) {
  if (text.ends_with('.'))
    text.remove_suffix(1);
  if (text.empty() || text.size() >= kMostOctets)
    return std::nullopt;
  Name name;
  name.wire_.reserve(text.size() + 1);
  for (;;) {
    const auto dot = text.find('.');
    const auto label = text.substr(0, dot);
    for (const char c : label)
      if (!is_printable(c) || c == '\\')
        return std::nullopt;
    if (!name.append_label(label))
      return std::nullopt;
    if (dot == text.npos)
      return name;
    text.remove_prefix(dot + 1);
  }
}

std::string Name::text() const {
  std::string text;
  text.reserve(wire_.size());
  for (std::size_t at = 0; at < wire_.size();) {
    const auto size = static_cast<unsigned char>(wire_[at]);
    if (at > 0)
      text += '.';
    for (std::size_t i = at + 1; i <= at + size; ++i)
      append_escaped(text, wire_[i]);
    at += 1U + size;
  }
  return text;
}

bool Name::is_host() const {
  for (std::size_t at = 0; at < wire_.size();) {
    const auto size = static_cast<unsigned char>(wire_[at]);
    for (std::size_t i = at + 1; i <= at + size; ++i)
      if (!is_host_character(wire_[i]))
        return false;
    at += 1U + size;
  }
  return !is_root();
}

bool Name::is_at_or_below(const Name& ancestor) const {
  const std::string_view suffix = ancestor.wire_;
  for (std::size_t at = 0; at < wire_.size(); at += 1U + static_cast<unsigned char>(wire_[at]))
    if (std::string_view(wire_).substr(at) == suffix)
      return true;
  return suffix.empty();
}

}  // namespace postrider::dns
