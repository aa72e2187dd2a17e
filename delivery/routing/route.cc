#include "delivery/routing/route.h"

#include "base/network.h"
#include "base/quoted.h"
#include "base/text.h"
#include "base/url.h"
#include "mail/address.h"
#include "mail/reply.h"

#include <algorithm>
#include <arpa/inet.h>
#include <array>

namespace postrider::delivery {

namespace {

Error bad(std::string_view text, const char* why) {
  return malformed("next hop " + escaped(quotable(text)) + ": " + why);
}

bool take_prefix(std::string_view& text, std::string_view prefix) {
  if (!starts_with_ignoring_case(text, prefix))
    return false;
  text.remove_prefix(prefix.size());
  return true;
}

// The usual form of an IPv4 or IPv6 address; empty if it is none.
std::string canonical_address(const std::string& text) {
  std::array<unsigned char, sizeof(in6_addr)> bytes{};
  std::array<char, INET6_ADDRSTRLEN> written{};
  for (const int family : {AF_INET, AF_INET6})
    if (::inet_pton(family, text.c_str(), bytes.data()) == 1)
      return ::inet_ntop(family, bytes.data(), written.data(), written.size());
  return {};
}

// "[192.0.2.1]", "[2001:db8::1]", "[IPv6:2001:db8::1]", "[relay.example.net]", or a name.
Result<std::string> parse_host(std::string_view text, std::string_view whole) {
  if (text.size() > 2 && text.front() == '[' && text.back() == ']') {
    text = text.substr(1, text.size() - 2);
    take_prefix(text, "IPv6:");
  }
  if (auto address = canonical_address(std::string(text)); !address.empty())
    return address;
  auto name = mail::to_ascii_domain(text);
  if (!name || !mail::is_host_name(*name))
    return bad(whole, "expected a host name or an address");
  return *name;
}

// Splits "host:port", "[host]:port" and "host".
Result<void> parse_host_and_port(std::string_view text, NextHop& hop) {
  const auto whole = text;
  if (!text.empty() && text.back() == '/')
    text.remove_suffix(1);
  const auto bracket = text.rfind(']');
  const auto colon = text.rfind(':');
  if (colon != text.npos && (bracket == text.npos || colon > bracket)) {
    const auto port = parse_unsigned(text.substr(colon + 1));
    if (!port || *port == 0 || *port > 65535)
      return bad(whole, "expected a port from 1 to 65535 behind the colon");
    hop.port = static_cast<std::uint16_t>(*port);
    text = text.substr(0, colon);
  }
  auto host = parse_host(text, whole);
  if (!host)
    return host.error();
  hop.host = *std::move(host);
  return {};
}

Result<NextHop> parse_error(std::string_view text, std::string_view whole) {
  NextHop hop;
  hop.kind = NextHop::Kind::error;
  text = trim(text);
  const auto space = text.find(' ');
  const auto code = mail::parse_enhanced_code(text.substr(0, space));
  if (!code || (code->klass != 4 && code->klass != 5))
    return bad(whole, "expected error:5.x.x or error:4.x.x and a text");
  hop.status = mail::to_string(*code);
  hop.text = space == text.npos ? "" : std::string(trim(text.substr(space)));
  if (hop.text.empty())
    hop.text = "Mail for this address is refused";
  return hop;
}

}  // namespace

Result<NextHop> parse_next_hop(std::string_view text) {
  const auto whole = text;
  NextHop hop;
  if (equals_ignoring_case(text, "mx"))
    return hop;
  if (take_prefix(text, "error:"))
    return parse_error(text, whole);
  if (equals_ignoring_case(text, "discard:")) {
    hop.kind = NextHop::Kind::discard;
    return hop;
  }
  if (starts_with_ignoring_case(text, "lmtp:///")) {
    hop.kind = NextHop::Kind::lmtp_socket;
    hop.host = std::string(text.substr(7));
    return hop;
  }
  if (take_prefix(text, "smtp://")) {
    hop.kind = NextHop::Kind::smtp;
  } else if (take_prefix(text, "smtps://")) {
    hop.kind = NextHop::Kind::smtps;
    hop.port = 465;
  } else if (take_prefix(text, "lmtp://")) {
    hop.kind = NextHop::Kind::lmtp;
    hop.port = 24;
  } else {
    return bad(whole, "expected mx, smtp://, smtps://, lmtp://, error: or discard:");
  }
  if (auto parsed = parse_host_and_port(text, hop); !parsed)
    return parsed.error();
  return hop;
}

std::string without_login(std::string_view place) {
  const auto at = place.rfind('@');
  if (at == place.npos)
    return std::string(place);
  const auto scheme = place.substr(0, std::min(place.find(':') + 1, at));
  return std::string(scheme).append(kHiddenPassword).append(place.substr(at));
}

// A login has no use there, and its password would stand wherever the place of mail is named.
Result<NextHop> lmtp_next_hop(std::string_view text) {
  const auto whole = text;
  const bool is_path = starts_with_ignoring_case(text, "unix:/") && text.find("//") == text.npos;
  if (text.starts_with('/') || (!is_path && text.find('@') != text.npos))
    return malformed(quote_value(without_login("lmtp:" + std::string(text)), 80) +
                     ": expected lmtp:unix:/path or lmtp:host:port");
  if (!take_prefix(text, "unix:"))
    return parse_next_hop("lmtp://" + std::string(text));
  if (text.empty() || text.front() != '/')
    return bad(whole, "expected the absolute path of a socket behind unix:");
  return parse_next_hop("lmtp://" + std::string(text));
}

bool NextHop::is_on_this_machine() const {
  if (kind == Kind::lmtp_socket || host == "localhost" || host == "::1")
    return true;
  const auto address = IpAddress::parse(host);
  return address && address->is_v4() && address->masked(8) == IpAddress::parse("127.0.0.0");
}

std::string NextHop::describe() const {
  const auto host_and_port = [this] {
    const bool ipv6 = host.find(':') != host.npos;
    return (ipv6 ? "[" + host + "]" : host) + ":" + std::to_string(port);
  };
  switch (kind) {
    case Kind::mx:
      return "mx";
    case Kind::smtp:
      return "smtp://" + host_and_port();
    case Kind::smtps:
      return "smtps://" + host_and_port();
    case Kind::lmtp:
      return "lmtp://" + host_and_port();
    case Kind::lmtp_socket:
      return "lmtp://" + host;
    case Kind::error:
      return "error:" + status + " " + text;
    case Kind::discard:
      return "discard:";
  }
  return {};
}

bool is_route_domain(std::string_view pattern) {
  if (pattern == "*")
    return true;
  if (!pattern.empty() && pattern.front() == '.')
    pattern.remove_prefix(1);
  return mail::is_host_name(pattern) || mail::is_address_literal(pattern);
}

bool matches(std::string_view pattern, std::string_view domain) {
  if (pattern == "*")
    return true;
  if (!pattern.empty() && pattern.front() == '.')
    return domain.size() > pattern.size() && ends_with_ignoring_case(domain, pattern);
  return equals_ignoring_case(pattern, domain);
}

bool is_of_sender(const Route& route, std::string_view sender) {
  if (route.senders.empty())
    return true;
  const auto at = sender.rfind('@');
  const auto domain = at == sender.npos ? std::string_view() : sender.substr(at + 1);
  return std::any_of(route.senders.begin(), route.senders.end(), [&](const std::string& pattern) {
    if (pattern == "<>")
      return sender.empty();
    if (pattern.find('@') != pattern.npos)
      return equals_ignoring_case(pattern, sender);
    return !domain.empty() && matches(pattern, domain);
  });
}

const Route* find_route(const std::vector<Route>& routes, std::string_view domain,
                        std::string_view sender) {
  for (const auto& route : routes)
    if (matches(route.domain, domain) && is_of_sender(route, sender))
      return &route;
  return nullptr;
}

const Route* find_route(const std::vector<Route>& routes, std::string_view domain) {
  for (const auto& route : routes)
    if (matches(route.domain, domain) && route.senders.empty())
      return &route;
  return nullptr;
}

bool depends_on_sender(const std::vector<Route>& routes, std::string_view domain) {
  for (const auto& route : routes)
    if (matches(route.domain, domain))
      return !route.senders.empty();
  return false;
}

std::string connection_tag(const Route* route) {
  std::string tag;
  if (route == nullptr)
    return tag;
  for (const auto& source : route->sources)
    tag.append(tag.empty() ? " from " : ",").append(source.str());
  if (!route->helo.empty())
    tag.append(" as ").append(route->helo);
  return tag;
}

}  // namespace postrider::delivery
