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

namespace {

constexpr std::string_view kEndsOfUrl = " \t\r\n\"'`<>";

bool is_of_scheme(char c) {
  const char lower = ascii_lower(c);
  return (lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9') || c == '+' || c == '-' ||
         c == '.';
}

bool is_of_user(char c) {
  return is_unreserved(c) || std::string_view("%!$&*+,;=").find(c) != std::string_view::npos;
}

// Behind "scheme://", or of a text without: "user:password@" and what follows. A password may hold what should have
// been encoded, so it goes to the last "@" there is.
std::string hide_in(std::string_view rest) {
  const auto at = rest.rfind('@');
  const auto colon = rest.find(':');
  if (at == rest.npos || colon == rest.npos || colon > at)
    return std::string(rest);
  return std::string(rest.substr(0, colon + 1)).append(kHiddenPassword).append(rest.substr(at));
}

// "user:secret@host", and no address with a colon elsewhere, nor a path.
bool is_login_at_host(std::string_view text) {
  const auto colon = text.find(':');
  const auto at = text.rfind('@');
  return colon != text.npos && at != text.npos && colon > 0 && colon + 1 < at &&
         at + 1 < text.size() && text[colon + 1] != '/' &&
         text.find_first_of(kEndsOfUrl) == text.npos &&
         std::all_of(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(colon), is_of_user);
}

bool begins_with_scheme(std::string_view text, std::size_t separator) {
  return separator > 0 &&
         std::all_of(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(separator),
                     is_of_scheme);
}

}  // namespace

std::string without_passwords(std::string_view text) {
  constexpr std::string_view kSeparator = "://";
  const auto first = text.find(kSeparator);
  if (first == text.npos)
    return is_login_at_host(text) ? hide_in(text) : std::string(text);
  if (begins_with_scheme(text, first) && text.find(kSeparator, first + 1) == text.npos) {
    const auto behind = first + kSeparator.size();
    const auto rest = text.substr(behind);
    // A sentence begins so, too: then the "@" is one of its own.
    const auto blank = rest.find_first_of(kEndsOfUrl);
    const auto at = rest.rfind('@');
    if (blank == rest.npos || (at != rest.npos && at > blank && rest.find(':') < blank))
      return std::string(text.substr(0, behind)) + hide_in(rest);
  }
  std::string shown;
  while (!text.empty()) {
    const auto separator = text.find(kSeparator);
    const auto behind = separator == text.npos ? text.size() : separator + kSeparator.size();
    shown.append(text.substr(0, behind));
    text.remove_prefix(behind);
    const auto end = std::min(text.find_first_of(kEndsOfUrl), text.size());
    shown.append(hide_in(text.substr(0, end)));
    text.remove_prefix(end);
  }
  return shown;
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
