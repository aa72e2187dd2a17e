// Where a message broker is. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace postrider::events {

struct BrokerUrl {
  std::string protocol;  // "amqp", with TLS too; "amqp10" is AMQP 1.0
  bool is_tls = false;
  std::string user;  // decoded
  std::string host;  // lower case; an IPv6 address without its brackets
  std::uint16_t port = 0;
  std::string
      path;  // decoded, without the first slash: of both AMQP and STOMP the virtual host; empty: "/"
};
// "amqp://user@host:port/vhost", or so with amqp10, stomp, kafka and mqtt; with TLS "amqps://" and so on.
// Nothing: another protocol, a password (it has a file of its own), a query, a port out of range,
// or an octet that is no printable ASCII.
std::optional<BrokerUrl> parse_broker_url(std::string_view url);

}  // namespace postrider::events
