// The header that a front proxy sends before the client's bytes (HAProxy's PROXY protocol, versions
// 1 and 2). Pure. Only ever asked for peers that are listed (attacks.md I16).
#pragma once

#include "base/network.h"
#include "base/result.h"

#include <cstdint>
#include <optional>
#include <string_view>

namespace postrider::smtpd {

struct ProxyHeader {
  bool is_local = false;  // the proxy speaks for itself (health checks): its own address counts
  IpAddress source;
  std::uint16_t source_port = 0;
};

inline constexpr std::size_t kMostProxyHeader = 16 + 520;  // TLVs are read over; longer is refused

// nullopt: more bytes are needed. used: octets of the header; what follows is the client's.
Result<std::optional<ProxyHeader>> parse_proxy_header(std::string_view bytes, std::size_t& used);

}  // namespace postrider::smtpd
