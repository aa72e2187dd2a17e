#include "mail/notice_text.h"

#include "base/text.h"
#include "mail/header.h"
#include "mail/smtp_command.h"

#include <algorithm>

namespace postrider::mail::notice {

namespace {

constexpr std::size_t kWidth = 76;

// RFC 6533 §3: utf-8-addr-xtext, for reports that are ASCII.
std::string embedded_unicode(std::string_view address) {
  constexpr char kHex[] = "0123456789ABCDEF";
  std::string out;
  for (std::size_t i = 0; i < address.size(); ++i) {
    const auto byte = static_cast<unsigned char>(address[i]);
    if (byte < 0x80 && byte > 0x20 && byte != 0x7F && byte != '+' && byte != '=' && byte != '\\') {
      out.push_back(address[i]);
      continue;
    }
    // The address is UTF-8, checked by the caller: the lead byte tells the length.
    const std::size_t more = byte < 0xC0 ? 0U : byte < 0xE0 ? 1U : byte < 0xF0 ? 2U : 3U;
    unsigned point = more == 0 ? byte : byte & (0x3FU >> more);
    for (std::size_t k = 0; k < more; ++k)
      point = (point << 6U) | (static_cast<unsigned char>(address[++i]) & 0x3FU);
    std::string digits;
    for (; point != 0 || digits.size() < 2; point >>= 4U)
      digits.insert(digits.begin(), kHex[point & 0x0FU]);
    out.append("\\x{").append(digits).append("}");
  }
  return out;
}

// At most `most` octets, not ending within a character.
std::size_t whole_characters(std::string_view text, std::size_t most) {
  if (text.size() <= most)
    return text.size();
  std::size_t at = most;
  while (at + 3 > most && at > 1 && (static_cast<unsigned char>(text[at]) & 0xC0U) == 0x80U)
    --at;
  return at;
}

// Where to break a text of more than `width` octets: at a space, else behind a whole character,
// else (nothing to break at for long) at the hard limit.
std::size_t break_at(std::string_view text, std::size_t width) {
  const auto space = text.rfind(' ', width);
  if (space != std::string_view::npos && space > 0)
    return space;
  return std::min(text.find(' ', width), whole_characters(text, kMostLine - 16));
}

}  // namespace

std::string one_line(std::string_view text, bool utf8) {
  std::string out(text);
  const bool keep_8bit = utf8 && is_utf8(text);
  for (char& c : out) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '\n' || c == '\t')
      c = ' ';
    else if (byte < 0x20 || byte == 0x7F || (byte >= 0x80 && !keep_8bit))
      c = '?';
  }
  return out;
}

void append_wrapped(std::string_view text, std::string_view indent, std::string& out) {
  std::size_t width = kWidth;
  while (text.size() > width) {
    const auto at = break_at(text, width);
    out.append(text.substr(0, at)).append("\r\n");
    text.remove_prefix(at);
    while (text.starts_with(' '))
      text.remove_prefix(1);
    if (text.empty())
      return;
    out.append(indent);
    width = kWidth - indent.size();
  }
  out.append(text).append("\r\n");
}

std::string beginning(std::string_view text, std::size_t most) {
  const auto size = whole_characters(text, most);
  return std::string(text.substr(0, size)).append(size < text.size() ? "..." : "");
}

std::string typed_address(std::string_view address, bool utf8) {
  if (is_ascii(address))
    return "rfc822; " + one_line(address, false);
  if (utf8 || !is_utf8(address))
    return "utf-8; " + one_line(address, utf8);
  return "utf-8; " + embedded_unicode(address);
}

std::string original_recipient(std::string_view orcpt, bool utf8) {
  const auto semicolon = std::min(orcpt.find(';'), orcpt.size());
  const auto type = one_line(orcpt.substr(0, semicolon), false);
  const auto address = orcpt.substr(std::min(semicolon + 1, orcpt.size()));
  if (const auto decoded = decode_xtext(address))
    return type + ";" + one_line(*decoded, utf8);
  if (utf8 || !is_utf8(address))
    return type + ";" + one_line(address, utf8);
  return type + ";" + embedded_unicode(address);
}

std::string remote_host(std::string_view remote) {
  const auto bracket = remote.find('[');
  if (bracket == 0)
    return one_line(remote.substr(0, remote.find(']') + 1), false);
  return one_line(remote.substr(0, bracket), false);
}

std::string clean_quote(std::string_view text) {
  LineEndCleaner cleaner;
  std::string clean;
  clean.reserve(text.size() + 2);
  cleaner.feed(text, clean);
  cleaner.finish(clean);
  std::string out;
  out.reserve(clean.size());
  std::string_view rest = clean;
  while (!rest.empty()) {
    const auto line = rest.substr(0, rest.find('\n') + 1);
    rest.remove_prefix(line.size());
    std::string_view left = line;
    for (std::size_t room = kMostLine; left.size() > room + 2; room = kMostLine - 1) {
      const auto at = whole_characters(left, room);
      out.append(left.substr(0, at)).append("\r\n\t");
      left.remove_prefix(at);
    }
    out.append(left);
  }
  return out;
}

}  // namespace postrider::mail::notice
