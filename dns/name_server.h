// The address of a resolver that we ask.
#pragma once

#include "base/result.h"

#include <boost/asio/ip/address.hpp>

#include <cstdint>
#include <string>
#include <string_view>

namespace postrider::dns {

namespace asio = boost::asio;

struct Server {
  asio::ip::address address;
  std::uint16_t port = 53;
  friend bool operator==(const Server&, const Server&) = default;
};

// "127.0.0.1", "127.0.0.1:5353", "::1", "[::1]:53", "[fe80::1%eth0]:53".
Result<Server> parse_server(std::string_view text);
std::string to_string(const Server& server);  // with the port, IPv6 in brackets

}  // namespace postrider::dns
