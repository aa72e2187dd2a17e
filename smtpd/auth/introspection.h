// Token introspection (RFC 7662): one POST over HTTP or HTTPS, on the connection's loop.
#pragma once

#include "base/loop.h"
#include "base/tls_context.h"
#include "smtpd/auth/token.h"

#include <boost/asio/ip/tcp.hpp>

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace postrider::smtpd::auth {

struct HttpPlace {
  bool is_https = false;
  std::string host;  // without brackets
  std::string port;
  std::string target;
  std::string host_field;  // as in the URL
};
// "https://host:port/path". Pure.
std::optional<HttpPlace> parse_http_url(std::string_view url);
// "token=..." as RFC 7662 §2.1 wants it. Pure.
std::string introspection_form(std::string_view token);

// Blocks as long as the system's resolver does.
Result<std::vector<asio::ip::tcp::endpoint>> look_up(const HttpPlace& place);

// Errc::refused: the token is no good; any other error: cannot tell. tls: null for http. Ends
// within 20 seconds. now: when the question was asked.
Task<Result<Token>> introspect(Loop& loop, std::vector<asio::ip::tcp::endpoint> hosts,
                               std::shared_ptr<const TlsContext> tls, OauthRules rules,
                               std::string token, TimePoint now);

}  // namespace postrider::smtpd::auth
