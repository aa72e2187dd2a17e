#include "mailauth/reverse_name.h"

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <cstdint>
#include <vector>

namespace postrider::mailauth {

namespace {

std::vector<std::string> parts_of(const IpAddress& address) {
  static constexpr std::string_view kHex = "0123456789abcdef";
  std::vector<std::string> parts;
  for (const char c : octets_of(address)) {
    const auto octet = static_cast<std::uint8_t>(c);
    if (address.is_v4()) {
      parts.push_back(std::to_string(octet));
    } else {
      parts.emplace_back(1, kHex[octet >> 4U]);
      parts.emplace_back(1, kHex[octet & 15U]);
    }
  }
  return parts;
}

std::string joined(const std::vector<std::string>& parts) {
  std::string text;
  for (const auto& part : parts)
    text.append(text.empty() ? "" : ".").append(part);
  return text;
}

}  // namespace

std::string octets_of(const IpAddress& address) {
  std::array<char, 16> octets{};
  if (address.is_none() ||
      inet_pton(address.is_v4() ? AF_INET : AF_INET6, address.str().c_str(), octets.data()) != 1)
    return {};
  return std::string(octets.data(), address.width() / 8);
}

std::string reversed_parts(const IpAddress& address) {
  auto parts = parts_of(address);
  std::reverse(parts.begin(), parts.end());
  return joined(parts);
}

std::string dotted_parts(const IpAddress& address) {
  return joined(parts_of(address));
}

std::string reverse_name(const IpAddress& address) {
  if (address.is_none())
    return {};
  return reversed_parts(address) + (address.is_v4() ? ".in-addr.arpa" : ".ip6.arpa");
}

}  // namespace postrider::mailauth
