#include "tables/tcp_reply.h"

#include "base/text.h"

namespace postrider::tables {

namespace {

constexpr char kDigits[] = "0123456789ABCDEF";

int digit_of(char c) {
  const char small = ascii_lower(c);
  if (small >= '0' && small <= '9')
    return small - '0';
  return small >= 'a' && small <= 'f' ? small - 'a' + 10 : -1;
}

// Nothing: a "%" without its two digits.
std::optional<std::string> decoded(std::string_view text) {
  std::string out;
  for (std::size_t at = 0; at < text.size(); ++at) {
    if (text[at] != '%') {
      out.push_back(text[at]);
      continue;
    }
    const int high = at + 2 < text.size() ? digit_of(text[at + 1]) : -1;
    const int low = high >= 0 ? digit_of(text[at + 2]) : -1;
    if (low < 0)
      return std::nullopt;
    out.push_back(static_cast<char>(high * 16 + low));
    at += 2;
  }
  return out;
}

}  // namespace

std::string tcp_request(std::string_view key) {
  std::string out = "get ";
  for (const char c : key) {
    const auto octet = static_cast<unsigned char>(c);
    if (octet > ' ' && octet < 0x7f && c != '%')
      out.push_back(c);
    else
      out.append({'%', kDigits[octet >> 4U], kDigits[octet & 15U]});
  }
  return out + "\n";
}

Result<std::optional<std::string>> take_tcp_reply(std::string_view bytes) {
  const auto end = bytes.find('\n');
  if (end == bytes.npos && bytes.size() < kMostTcpReply)
    return std::optional<std::string>();
  if (end == bytes.npos || end >= kMostTcpReply)
    return malformed("it says too much");
  if (end + 1 != bytes.size())
    return malformed("it says more than it was asked for");
  auto line = bytes.substr(0, end);
  if (line.ends_with('\r'))
    line.remove_suffix(1);
  return std::optional<std::string>(line);
}

Result<std::optional<std::string>> parse_tcp_reply(std::string_view line) {
  const auto code = line.substr(0, 3);
  const bool is_whole = line.size() == 3 || (line.size() > 3 && line[3] == ' ');
  const auto rest = line.size() > 4 ? line.substr(4) : std::string_view();
  const auto text = decoded(rest);
  if (is_whole && text && code == "200")
    return std::optional<std::string>(*text);
  if (is_whole && code == "500")
    return std::optional<std::string>();
  if (is_whole && code == "400")
    return Error(Errc::storage,
                 "it says 400" + (rest.empty() ? "" : ": " + escaped(text ? *text : rest, 100)));
  return malformed("it says nonsense: " + escaped(line, 100));
}

}  // namespace postrider::tables
