// IP addresses and networks as values, without sockets: for policy, limits and Received fields.
// An IPv4 address mapped into IPv6 is the IPv4 address.
#pragma once

#include "base/result.h"

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

struct sockaddr;

namespace postrider {

class IpAddress {
 public:
  IpAddress() = default;  // none: a local client
  // Canonical forms only: no scope, no shortened IPv4, no brackets.
  static std::optional<IpAddress> parse(std::string_view text);
  static IpAddress from(const sockaddr* address);  // none for other families
  static IpAddress v4(const std::uint8_t* bytes);
  static IpAddress v6(const std::uint8_t* bytes);

  bool is_none() const { return family_ == 0; }
  bool is_v4() const { return family_ == 4; }
  bool is_v6() const { return family_ == 6; }
  unsigned width() const { return is_v4() ? 32 : 128; }  // in bits
  std::string str() const;                               // "192.0.2.1", "2001:db8::1", ""
  std::string literal() const;                           // "[192.0.2.1]", "[IPv6:2001:db8::1]", ""
  // All bits behind the first `bits` cleared.
  IpAddress masked(unsigned bits) const;
  std::size_t hash() const;
  friend auto operator<=>(const IpAddress&, const IpAddress&) = default;

 private:
  std::uint8_t family_ = 0;
  std::array<std::uint8_t, 16> bytes_{};  // IPv4 uses the first four
};

class Network {
 public:
  // "192.0.2.0/24", "2001:db8::/32", or one address. Bits behind the prefix must be zero.
  static Result<Network> parse(std::string_view text);
  bool contains(const IpAddress& address) const {
    return address.width() == base_.width() && address.masked(bits_) == base_;
  }
  std::string str() const;

 private:
  IpAddress base_;
  unsigned bits_ = 0;
};

}  // namespace postrider
