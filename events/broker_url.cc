#include "events/broker_url.h"

#include "base/text.h"

#include <algorithm>

namespace postrider::events {

namespace {

struct Scheme {
  std::string_view name;
  const char* protocol;
  bool is_tls;
  std::uint16_t port;
};
constexpr Scheme kSchemes[] = {{"amqp", "amqp", false, 5672},     {"amqps", "amqp", true, 5671},
                               {"amqp10", "amqp10", false, 5672}, {"amqp10s", "amqp10", true, 5671},
                               {"kafka", "kafka", false, 9092},   {"kafkas", "kafka", true, 9093},
                               {"mqtt", "mqtt", false, 1883},     {"mqtts", "mqtt", true, 8883},
                               {"stomp", "stomp", false, 61613},  {"stomps", "stomp", true, 61614}};

std::optional<unsigned> hex_digit(char c) {
  if (c >= '0' && c <= '9')
    return c - '0';
  if (c >= 'a' && c <= 'f')
    return c - 'a' + 10;
  if (c >= 'A' && c <= 'F')
    return c - 'A' + 10;
  return std::nullopt;
}

// "%2F" is "/"; NUL is nothing that a name has.
std::optional<std::string> percent_decoded(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out.push_back(text[i]);
      continue;
    }
    if (i + 2 >= text.size())
      return std::nullopt;
    const auto high = hex_digit(text[i + 1]), low = hex_digit(text[i + 2]);
    if (!high || !low || *high * 16 + *low == 0)
      return std::nullopt;
    out.push_back(static_cast<char>(*high * 16 + *low));
    i += 2;
  }
  return out;
}

// "host", "host:port" or "[address]:port".
bool take_host(std::string_view text, BrokerUrl& url) {
  auto end = text.rfind(':');
  if (text.starts_with('[')) {
    const auto bracket = text.find(']');
    if (bracket == std::string_view::npos)
      return false;
    url.host = ascii_lower(text.substr(1, bracket - 1));
    end = bracket + 1 == text.size() ? std::string_view::npos : bracket + 1;
    if (end != std::string_view::npos && text[end] != ':')
      return false;
  } else {
    url.host = ascii_lower(text.substr(0, end));
    if (url.host.find(':') != std::string::npos)
      return false;
  }
  if (end == std::string_view::npos)
    return !url.host.empty();
  const auto port = parse_unsigned(text.substr(end + 1));
  if (!port || *port == 0 || *port > 65535)
    return false;
  url.port = static_cast<std::uint16_t>(*port);
  return !url.host.empty();
}

}  // namespace

std::optional<BrokerUrl> parse_broker_url(std::string_view text) {
  const bool is_printable =
      std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < '\x7f'; });
  const auto separator = text.find("://");
  if (!is_printable || separator == std::string_view::npos ||
      text.find_first_of("?#") != std::string_view::npos)
    return std::nullopt;
  const auto* const scheme = std::find_if(
      std::begin(kSchemes), std::end(kSchemes),
      [&](const Scheme& one) { return equals_ignoring_case(one.name, text.substr(0, separator)); });
  if (scheme == std::end(kSchemes))
    return std::nullopt;
  BrokerUrl url;
  url.protocol = scheme->protocol;
  url.is_tls = scheme->is_tls;
  url.port = scheme->port;
  auto rest = text.substr(separator + 3);
  const auto slash = rest.find('/');
  const auto path = percent_decoded(slash == std::string_view::npos ? "" : rest.substr(slash + 1));
  rest = rest.substr(0, slash);
  const auto at = rest.rfind('@');
  const auto user_text = at == std::string_view::npos ? std::string_view() : rest.substr(0, at);
  const auto user = percent_decoded(user_text);
  if (!path || !user || user_text.find(':') != std::string_view::npos ||
      (at != std::string_view::npos && user->empty()) ||
      !take_host(at == std::string_view::npos ? rest : rest.substr(at + 1), url))
    return std::nullopt;
  url.user = *user;
  url.path = *path;
  return url;
}

}  // namespace postrider::events
