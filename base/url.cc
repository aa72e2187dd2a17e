#include "base/url.h"

#include "base/text.h"

#include <algorithm>

namespace postrider {

namespace {

constexpr std::string_view kDigits = "0123456789ABCDEF";

bool is_unreserved(char c) {
  const char lower = ascii_lower(c);
  return (lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9') ||
         std::string_view("-._~").find(c) != std::string_view::npos;
}

// Takes ":port" off the end, where there is one.
bool take_port(std::string_view& authority, std::uint16_t& port) {
  const auto colon = authority.rfind(':');
  const auto bracket = authority.rfind(']');
  if (colon == authority.npos || (bracket != authority.npos && bracket > colon))
    return true;
  const auto number = parse_unsigned(authority.substr(colon + 1));
  if (!number || *number == 0 || *number > 65535)
    return false;
  port = static_cast<std::uint16_t>(*number);
  authority = authority.substr(0, colon);
  return true;
}

bool is_host(std::string_view host) {
  return !host.empty() &&
         std::all_of(host.begin(), host.end(), [](char c) { return is_unreserved(c) || c == ':'; });
}

}  // namespace

std::optional<HttpUrl> parse_http_url(std::string_view url) {
  HttpUrl found;
  found.is_https = starts_with_ignoring_case(url, "https://");
  if (!found.is_https && !starts_with_ignoring_case(url, "http://"))
    return std::nullopt;
  if (!std::all_of(url.begin(), url.end(), [](char c) { return c > ' ' && c <= '~'; }))
    return std::nullopt;
  url = url.substr(url.find("//") + 2);
  url = url.substr(0, url.find('#'));
  const auto end = std::min(url.find_first_of("/?"), url.size());
  auto authority = url.substr(0, end);
  found.target = url.substr(end);
  if (!found.target.starts_with('/'))
    found.target.insert(0, "/");
  found.port = found.is_https ? 443 : 80;
  if (!take_port(authority, found.port))
    return std::nullopt;
  const bool has_brackets =
      authority.size() > 2 && authority.front() == '[' && authority.back() == ']';
  if (has_brackets)
    authority = authority.substr(1, authority.size() - 2);
  if (!is_host(authority) || has_brackets != (authority.find(':') != authority.npos))
    return std::nullopt;
  found.host = ascii_lower(authority);
  return found;
}

std::string percent_encoded(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const auto octet = static_cast<unsigned char>(c);
    if (is_unreserved(c))
      out.push_back(c);
    else
      out.append({'%', kDigits[octet >> 4U], kDigits[octet & 15U]});
  }
  return out;
}

}  // namespace postrider
