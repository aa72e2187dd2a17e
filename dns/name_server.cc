#include "dns/name_server.h"

#include "base/text.h"

namespace postrider::dns {

namespace {

constexpr std::size_t kLongestServer = 128;

Error not_a_server(std::string_view text) {
  return malformed("read DNS server \"" + escaped(text, kLongestServer) +
                   "\", want ADDRESS, ADDRESS:PORT or [IPv6]:PORT");
}

}  // namespace

Result<Server> parse_server(std::string_view text) {
  if (text.size() > kLongestServer)
    return not_a_server(text);
  std::string_view address = text;
  std::string_view port = "53";
  if (text.starts_with('[')) {
    const auto end = text.find(']');
    if (end == text.npos)
      return not_a_server(text);
    address = text.substr(1, end - 1);
    if (address.find(':') == address.npos)
      return not_a_server(text);
    if (end + 1 < text.size()) {
      if (text[end + 1] != ':')
        return not_a_server(text);
      port = text.substr(end + 2);
    }
  } else if (const auto colon = text.find(':'); colon != text.npos && colon == text.rfind(':')) {
    address = text.substr(0, colon);
    port = text.substr(colon + 1);
  }
  boost::system::error_code failed;
  Server server;
  server.address = asio::ip::make_address(std::string(address), failed);
  const auto number = parse_unsigned(port);
  if (failed || address.find('\0') != address.npos || !number || *number < 1 || *number > 65535)
    return not_a_server(text);
  server.port = static_cast<std::uint16_t>(*number);
  return server;
}

std::string to_string(const Server& server) {
  std::string text = server.address.to_string();
  if (server.address.is_v6())
    text = "[" + text + "]";
  return text + ":" + std::to_string(server.port);
}

}  // namespace postrider::dns
