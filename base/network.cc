#include "base/network.h"

#include "base/text.h"

#include <algorithm>
#include <arpa/inet.h>
#include <cstring>
#include <netinet/in.h>
#include <string_view>
#include <sys/socket.h>

namespace postrider {

IpAddress IpAddress::v4(const std::uint8_t* bytes) {
  IpAddress address;
  address.family_ = 4;
  std::copy_n(bytes, 4, address.bytes_.begin());
  return address;
}

IpAddress IpAddress::v6(const std::uint8_t* bytes) {
  constexpr std::uint8_t kMapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  if (std::equal(kMapped, kMapped + 12, bytes))
    return v4(bytes + 12);
  IpAddress address;
  address.family_ = 6;
  std::copy_n(bytes, 16, address.bytes_.begin());
  return address;
}

std::optional<IpAddress> IpAddress::parse(std::string_view text) {
  char terminated[INET6_ADDRSTRLEN];
  if (text.size() >= sizeof terminated || text.find('\0') != std::string_view::npos)
    return std::nullopt;
  *std::copy(text.begin(), text.end(), terminated) = '\0';
  std::uint8_t bytes[16];
  if (inet_pton(AF_INET, terminated, bytes) == 1)
    return v4(bytes);
  if (inet_pton(AF_INET6, terminated, bytes) == 1)
    return v6(bytes);
  return std::nullopt;
}

IpAddress IpAddress::from(const sockaddr* address) {
  std::uint8_t bytes[16];
  if (address->sa_family == AF_INET) {
    sockaddr_in in{};
    std::memcpy(&in, address, sizeof in);
    std::memcpy(bytes, &in.sin_addr, 4);
    return v4(bytes);
  }
  if (address->sa_family == AF_INET6) {
    sockaddr_in6 in{};
    std::memcpy(&in, address, sizeof in);
    std::memcpy(bytes, &in.sin6_addr, 16);
    return v6(bytes);
  }
  return {};
}

std::string IpAddress::str() const {
  char text[INET6_ADDRSTRLEN] = "";
  if (!is_none())
    inet_ntop(is_v4() ? AF_INET : AF_INET6, bytes_.data(), text, sizeof text);
  return text;
}

std::string IpAddress::literal() const {
  if (is_none())
    return {};
  return (is_v4() ? "[" : "[IPv6:") + str() + "]";
}

IpAddress IpAddress::masked(unsigned bits) const {
  IpAddress result = *this;
  for (unsigned i = 0; i < result.bytes_.size(); ++i) {
    if (i * 8 >= bits)
      result.bytes_[i] = 0;
    else if (bits - i * 8 < 8)
      result.bytes_[i] &= static_cast<std::uint8_t>(0xff00U >> (bits - i * 8));
  }
  return result;
}

std::size_t IpAddress::hash() const {
  return std::hash<std::string_view>()(
      std::string_view(reinterpret_cast<const char*>(bytes_.data()), bytes_.size()));
}

Result<Network> Network::parse(std::string_view text) {
  Network network;
  const auto slash = text.find('/');
  const auto base = IpAddress::parse(text.substr(0, slash));
  if (!base)
    return malformed("'" + escaped(text) + "' is not an address or a network like 192.0.2.0/24");
  network.base_ = *base;
  network.bits_ = base->width();
  if (slash == std::string_view::npos)
    return network;
  const auto bits = parse_unsigned(text.substr(slash + 1));
  if (!bits || *bits > base->width())
    return malformed("'" + escaped(text) + "' needs a prefix of 0 to " +
                     std::to_string(base->width()) + " bits");
  network.bits_ = static_cast<unsigned>(*bits);
  network.base_ = base->masked(network.bits_);
  if (network.base_ != *base)
    return malformed("'" + escaped(text) + "' has bits behind its prefix; did you mean " +
                     network.str() + "?");
  return network;
}

std::string Network::str() const {
  return base_.str() + "/" + std::to_string(bits_);
}

}  // namespace postrider
