#include "daemon/config/listened.h"

#include "base/text.h"

#include <algorithm>

namespace postrider::daemon {

namespace {

// So many bits or fewer: "0.0.0.0/0", both halves of it, and 2000::/3, where all of IPv6 lives.
constexpr std::uint64_t kEverybody = 3;

bool is_loopback(const IpAddress& address) {
  static const auto v4 = Network::parse("127.0.0.0/8");
  static const auto v6 = Network::parse("::1/128");
  return v4->contains(address) || v6->contains(address);
}

bool is_from_outside(const ListenerConfig& listener) {
  if (listener.address.empty() || listener.address.starts_with("unix:"))
    return false;
  const auto place = listener_place(listener.address);
  return !place || !is_loopback(place->address);
}

}  // namespace

bool ListenerPlace::is_any() const {
  return address == IpAddress::parse("0.0.0.0") || address == IpAddress::parse("::");
}

std::optional<ListenerPlace> listener_place(std::string_view address) {
  const auto colon = address.rfind(':');
  if (colon == std::string_view::npos || address.starts_with("unix:"))
    return std::nullopt;
  auto host = address.substr(0, colon);
  const auto port = parse_unsigned(address.substr(colon + 1));
  if (!port || *port > 65535)
    return std::nullopt;
  if (host.starts_with('[') && host.ends_with(']'))
    host = host.substr(1, host.size() - 2);
  const auto parsed = IpAddress::parse(host == "localhost" ? "127.0.0.1"
                                       : host == "*"       ? "::"
                                                           : host);
  if (!parsed)
    return std::nullopt;
  return ListenerPlace{*parsed, static_cast<std::uint16_t>(*port)};
}

bool is_reached_from_outside(const Config& config) {
  return std::any_of(config.listeners.begin(), config.listeners.end(), is_from_outside);
}

bool is_everybody(std::string_view network) {
  const auto slash = network.find('/');
  if (slash == std::string_view::npos)
    return false;
  const auto bits = parse_unsigned(network.substr(slash + 1));
  return bits && *bits <= kEverybody;
}

}  // namespace postrider::daemon
