#include "smtpd/proxy_protocol.h"

#include "base/text.h"

#include <vector>

namespace postrider::smtpd {

namespace {

using Parsed = Result<std::optional<ProxyHeader>>;

constexpr std::string_view kSignature("\r\n\r\n\0\r\nQUIT\n", 12);
constexpr std::string_view kVersion1 = "PROXY ";
constexpr std::size_t kMostVersion1 = 107;

std::optional<std::uint16_t> parse_port(std::string_view text) {
  const auto number = parse_unsigned(text);
  if (!number || *number > 65535 || text.size() > 5)
    return std::nullopt;
  return static_cast<std::uint16_t>(*number);
}

unsigned octet(std::string_view bytes, std::size_t at) {
  return static_cast<unsigned char>(bytes[at]);
}

Parsed parse_version_1(std::string_view bytes, std::size_t& used) {
  const auto end = bytes.substr(0, kMostVersion1).find("\r\n");
  if (end == std::string_view::npos) {
    if (bytes.size() >= kMostVersion1)
      return malformed("PROXY line too long");
    return std::optional<ProxyHeader>{};
  }
  used = end + 2;
  const auto words = split(bytes.substr(0, end), ' ');
  ProxyHeader header;
  if (words.size() >= 2 && words[1] == "UNKNOWN") {
    header.is_local = true;
    return std::optional(header);
  }
  if (words.size() != 6 || (words[1] != "TCP4" && words[1] != "TCP6"))
    return malformed("PROXY line");
  const auto source = IpAddress::parse(words[2]);
  const auto target = IpAddress::parse(words[3]);
  const auto port = parse_port(words[4]);
  const bool has_colon = words[2].find(':') != std::string_view::npos;
  if (!source || !target || !port || !parse_port(words[5]) || has_colon != (words[1] == "TCP6"))
    return malformed("addresses of the PROXY line");
  header.source = *source;
  header.source_port = *port;
  return std::optional(header);
}

Parsed parse_version_2(std::string_view bytes, std::size_t& used) {
  if (bytes.size() < 16)
    return std::optional<ProxyHeader>{};
  const auto length = octet(bytes, 14) << 8U | octet(bytes, 15);
  const auto command = octet(bytes, 12);
  const auto family = octet(bytes, 13);
  if (command != 0x20 && command != 0x21)
    return malformed("PROXY version or command");
  if (16 + length > kMostProxyHeader)
    return malformed("PROXY header too long");
  if (bytes.size() < 16 + length)
    return std::optional<ProxyHeader>{};
  used = 16 + length;
  ProxyHeader header;
  const auto body = bytes.substr(16, length);
  const auto* address = reinterpret_cast<const std::uint8_t*>(body.data());
  if (command == 0x20 || family == 0x00) {
    header.is_local = true;
  } else if (family == 0x11 && length >= 12) {
    header.source = IpAddress::v4(address);
    header.source_port = static_cast<std::uint16_t>(octet(body, 8) << 8U | octet(body, 9));
  } else if (family == 0x21 && length >= 36) {
    header.source = IpAddress::v6(address);
    header.source_port = static_cast<std::uint16_t>(octet(body, 32) << 8U | octet(body, 33));
  } else {
    return malformed("PROXY address family");
  }
  return std::optional(header);
}

bool agree(std::string_view bytes, std::string_view start) {
  const auto size = std::min(bytes.size(), start.size());
  return bytes.substr(0, size) == start.substr(0, size);
}

}  // namespace

Parsed parse_proxy_header(std::string_view bytes, std::size_t& used) {
  used = 0;
  const bool maybe_1 = agree(bytes, kVersion1);
  const bool maybe_2 = agree(bytes, kSignature);
  if (maybe_1 && bytes.size() >= kVersion1.size())
    return parse_version_1(bytes, used);
  if (maybe_2 && bytes.size() >= kSignature.size())
    return parse_version_2(bytes, used);
  if (maybe_1 || maybe_2)
    return std::optional<ProxyHeader>{};
  return malformed("no PROXY header");
}

}  // namespace postrider::smtpd
