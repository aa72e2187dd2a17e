#include "delivery/auth/access_token.h"

#include "base/assert.h"
#include "base/base64.h"
#include "base/json.h"
#include "base/text.h"
#include "base/url.h"

#include <algorithm>
#include <optional>

namespace postrider::delivery {

namespace {

constexpr std::uint64_t kLongestLife = 30U * 86400U;  // seconds
constexpr std::size_t kMostReason = 300;

// What may stand in a bearer token (RFC 6750 §2.1), and so in our SASL messages.
bool is_token(std::string_view text) {
  return !text.empty() && text.size() <= kMostToken &&
         std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c <= '~'; });
}

std::optional<boost::json::object> parse_object(std::string_view json) {
  auto object = parse_json_object(json);
  return object ? std::optional(std::move(*object)) : std::nullopt;
}

std::string text_of(const boost::json::object& object, const char* key) {
  const auto* value = object.if_contains(key);
  if (value == nullptr || !value->is_string())
    return {};
  return std::string(value->get_string().data(), value->get_string().size());
}

// A number, or one in quotes, as some endpoints have it.
Duration lifetime_of(const boost::json::object& object) {
  const auto* value = object.if_contains("expires_in");
  std::optional<std::uint64_t> told;
  if (value != nullptr && value->is_int64() && value->get_int64() > 0)
    told = static_cast<std::uint64_t>(value->get_int64());
  else if (value != nullptr && value->is_uint64())
    told = value->get_uint64();
  else if (value != nullptr && value->is_double() && value->get_double() >= 1)
    told = static_cast<std::uint64_t>(
        std::min(value->get_double(), static_cast<double>(kLongestLife)));
  else if (value != nullptr && value->is_string())
    told = parse_unsigned(text_of(object, "expires_in"));
  return std::chrono::seconds(std::min(told.value_or(0), kLongestLife));
}

// RFC 6749 §5.2: "invalid_grant: Token has been revoked."; empty: the answer does not say.
std::string reason_of(const boost::json::object& object) {
  auto reason = text_of(object, "error");
  const auto more = text_of(object, "error_description");
  if (!reason.empty() && !more.empty())
    reason += ": " + more;
  return escaped(reason, kMostReason);
}

}  // namespace

HttpRequest token_request(const CredentialsFile& file, const std::string& refresh) {
  auto url = parse_http_url(file.token_endpoint);
  POSTRIDER_ASSERT(url.has_value());
  HttpRequest request;
  request.method = "POST";
  request.host = std::move(url->host);
  request.port = url->port;
  request.target = std::move(url->target);
  request.fields.emplace_back("Accept", "application/json");
  request.fields.emplace_back("Content-Type", "application/x-www-form-urlencoded");
  request.body = "grant_type=refresh_token&refresh_token=" + percent_encoded(refresh);
  if (file.client_auth_basic) {  // RFC 6749 §2.3.1
    request.fields.emplace_back("Authorization",
                                "Basic " + encode_base64(percent_encoded(file.client_id) + ":" +
                                                         percent_encoded(file.client_secret)));
  } else {
    request.body += "&client_id=" + percent_encoded(file.client_id);
    if (!file.client_secret.empty())
      request.body += "&client_secret=" + percent_encoded(file.client_secret);
  }
  if (!file.scope.empty())
    request.body += "&scope=" + percent_encoded(file.scope);
  return request;
}

Result<Token> judge_token_answer(const HttpResponse& response) {
  if (response.status == 200)
    return parse_token_answer(response.body);
  auto what = "HTTP status " + std::to_string(response.status);
  if (const auto object = parse_object(response.body))
    if (const auto reason = reason_of(*object); !reason.empty())
      what += ", " + reason;
  return Error(Errc::refused, std::move(what));
}

Result<Token> parse_token_answer(std::string_view json) {
  const auto object = parse_object(json);
  if (!object)
    return malformed("the answer is not a JSON object");
  if (auto reason = reason_of(*object); !reason.empty())
    return Error(Errc::refused, std::move(reason));
  Token token;
  token.text = text_of(*object, "access_token");
  if (!is_token(token.text))
    return malformed("the answer has no usable access_token");
  // RFC 6749 §7.1: what we do not understand must not be used.
  const auto type = text_of(*object, "token_type");
  if (!type.empty() && !equals_ignoring_case(type, "bearer"))
    return Error(Errc::unsupported, "a token of type " + escaped(type, 64));
  token.lifetime = lifetime_of(*object);
  token.refresh = text_of(*object, "refresh_token");
  if (token.refresh.size() > kMostToken)
    return malformed("the answer's refresh_token is too long");
  return token;
}

Result<Token> parse_token_output(std::string_view output) {
  constexpr std::string_view kSpace = " \t\r\n";
  const auto begin = output.find_first_not_of(kSpace);
  if (begin == output.npos)
    return malformed("it prints nothing");
  output = output.substr(begin, output.find_last_not_of(kSpace) + 1 - begin);
  if (output.front() == '{')
    return parse_token_answer(output);
  if (!is_token(output))
    return malformed("what it prints is not a token on one line");
  Token token;
  token.text = std::string(output);
  return token;
}

}  // namespace postrider::delivery
