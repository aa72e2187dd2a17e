#include "smtpd/auth/introspection.h"

#include "base/base64.h"
#include "base/stream.h"
#include "base/text.h"

#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>

#include <array>
#include <cstring>
#include <netdb.h>

namespace postrider::smtpd::auth {

namespace {

namespace http = boost::beast::http;
using Parser = http::response_parser<http::string_body>;

constexpr Duration kConnect{5000};
constexpr Duration kPatience{15000};
constexpr std::size_t kMostAnswer = 64U << 10U;
constexpr std::size_t kMostAddresses = 3;

std::string percent_encoded(std::string_view text) {
  constexpr const char* kHex = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const auto octet = static_cast<unsigned char>(c);
    const bool is_plain = (ascii_lower(c) >= 'a' && ascii_lower(c) <= 'z') ||
                          (c >= '0' && c <= '9') ||
                          std::string_view("-._~").find(c) != std::string_view::npos;
    if (is_plain)
      out.push_back(c);
    else
      out.append({'%', kHex[octet >> 4U], kHex[octet & 15U]});
  }
  return out;
}

std::string compose(const HttpPlace& place, const OauthRules& rules, std::string_view token) {
  const auto form = introspection_form(token);
  auto request = "POST " + place.target + " HTTP/1.1\r\nHost: " + place.host_field +
                 "\r\nAccept: application/json\r\nConnection: close"
                 "\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: " +
                 std::to_string(form.size());
  if (!rules.client_id.empty())  // RFC 6749 §2.3.1
    request += "\r\nAuthorization: Basic " + encode_base64(percent_encoded(rules.client_id) + ":" +
                                                           percent_encoded(rules.client_secret));
  return request + "\r\n\r\n" + form;
}

Task<Result<std::string>> read_answer(Stream& stream) {
  Parser parser;
  parser.body_limit(kMostAnswer);
  parser.eager(true);
  std::string have;
  std::array<char, 4096> room{};
  while (!parser.is_done()) {
    auto got = co_await stream.read_some(room.data(), room.size());
    boost::system::error_code error;
    if (!got && got.error().code() == asio::error::eof)
      parser.put_eof(error);
    else if (!got)
      co_return got.error().during("read the HTTP answer");
    else
      have.append(room.data(), *got);
    if (got)
      have.erase(0, parser.put(asio::buffer(have), error));
    if (error && error != http::error::need_more)
      co_return Error(error, "read the HTTP answer");
    if (have.size() > kMostAnswer)
      co_return malformed("the HTTP answer is too long");
  }
  if (parser.get().result_int() != 200)
    co_return malformed("the endpoint answers " + std::to_string(parser.get().result_int()));
  co_return std::move(parser.get().body());
}

Task<Result<std::unique_ptr<Stream>>> open(Loop& loop, std::vector<asio::ip::tcp::endpoint> hosts) {
  Error last(Errc::not_found, "connect");
  for (const auto& host : hosts) {
    const asio::generic::stream_protocol::endpoint to(host);
    auto stream = co_await Stream::connect(loop, to, kConnect);
    if (stream)
      co_return std::move(*stream);
    last = stream.error();
  }
  co_return last;
}

}  // namespace

std::optional<HttpPlace> parse_http_url(std::string_view url) {
  HttpPlace place;
  place.is_https = url.starts_with("https://");
  if (!place.is_https && !url.starts_with("http://"))
    return std::nullopt;
  url.remove_prefix(place.is_https ? 8 : 7);
  const auto slash = url.find('/');
  place.target = slash == std::string_view::npos ? "/" : std::string(url.substr(slash));
  auto host = url.substr(0, slash);
  place.host_field = host;
  place.port = place.is_https ? "443" : "80";
  const auto colon = host.rfind(':');
  if (colon != std::string_view::npos && host.find(']', colon) == std::string_view::npos) {
    place.port = host.substr(colon + 1);
    host = host.substr(0, colon);
  }
  if (host.starts_with('[') && host.ends_with(']'))
    host = host.substr(1, host.size() - 2);
  place.host = host;
  const auto number = parse_unsigned(place.port);
  if (place.host.empty() || !number || *number == 0 || *number > 65535)
    return std::nullopt;
  return place;
}

std::string introspection_form(std::string_view token) {
  return "token=" + percent_encoded(token) + "&token_type_hint=access_token";
}

Result<std::vector<asio::ip::tcp::endpoint>> look_up(const HttpPlace& place) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_ADDRCONFIG | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int failed = getaddrinfo(place.host.c_str(), place.port.c_str(), &hints, &found);
  if (failed != 0)
    return Error(Errc::not_found, "look up " + place.host + ": " + gai_strerror(failed));
  std::vector<asio::ip::tcp::endpoint> hosts;
  for (const auto* at = found; at != nullptr && hosts.size() < kMostAddresses; at = at->ai_next) {
    asio::ip::tcp::endpoint host;
    if (at->ai_addrlen > host.capacity())
      continue;
    host.resize(at->ai_addrlen);
    std::memcpy(host.data(), at->ai_addr, at->ai_addrlen);
    hosts.push_back(host);
  }
  freeaddrinfo(found);
  return hosts;
}

Task<Result<Token>> introspect(Loop& loop, std::vector<asio::ip::tcp::endpoint> hosts,
                               std::shared_ptr<const TlsContext> tls, OauthRules rules,
                               std::string token, TimePoint now) {
  const auto place = parse_http_url(rules.introspect);
  if (!place)
    co_return malformed("the URL of the endpoint");
  auto stream = co_await open(loop, std::move(hosts));
  if (!stream)
    co_return stream.error().during("connect to " + place->host);
  (*stream)->set_deadline(kPatience);
  if (place->is_https) {
    TlsClientOptions options;
    options.server_name = place->host;
    options.verify = TlsClientOptions::Verify::pkix;
    options.names = {place->host};
    auto secured = co_await (*stream)->start_tls_client(std::move(tls), std::move(options));
    if (!secured)
      co_return secured.error().during("set up TLS with " + place->host);
  }
  const auto request = compose(*place, rules, token);
  auto sent = co_await (*stream)->write(request);
  if (!sent)
    co_return sent.error().during("send the HTTP request");
  auto answer = co_await read_answer(**stream);
  if (!answer)
    co_return answer.error();
  co_return read_introspection(*answer, rules, now);
}

}  // namespace postrider::smtpd::auth
