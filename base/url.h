// URLs of HTTP, as far as we ask them, and percent-encoding. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace postrider {

struct HttpUrl {
  bool is_https = false;
  std::string host;  // lower case; an IPv6 address without its brackets
  std::uint16_t port = 443;
  std::string target;  // path and query; at least "/"
};
// "https://host:port/path?query", or http://. Nothing: another scheme, a user, a port out of range,
// or an octet that is no printable ASCII. A fragment is left out.
std::optional<HttpUrl> parse_http_url(std::string_view url);

// What stands for a password.
inline constexpr std::string_view kHiddenPassword = "***";
// The text with kHiddenPassword instead of each password of a URL in it: "smtp://user:***@host". Whoever repeats a
// value that may be a URL, right or wrong, repeats it so, before it is cut. A text that has neither blanks nor quotes
// may lack the scheme ("user:secret@host:25"); a password with either is known where the text is the URL alone.
std::string without_passwords(std::string_view text);

// RFC 3986 §2.1: all but letters, digits and "-._~" as %XX, which is good for the values of
// application/x-www-form-urlencoded too.
std::string percent_encoded(std::string_view text);

}  // namespace postrider
