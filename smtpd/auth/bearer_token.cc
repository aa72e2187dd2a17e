#include "smtpd/auth/bearer_token.h"

#include "base/base64.h"
#include "base/digest.h"
#include "base/json.h"
#include "base/text.h"
#include "smtpd/auth/token_keys.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include <algorithm>
#include <array>

namespace postrider::smtpd::auth {

namespace {

namespace json = boost::json;

constexpr std::size_t kMostJson = 64U << 10U;
constexpr auto kClockSkew = std::chrono::seconds(60);
constexpr double kLatest = 253402300799.0;  // the year 9999

Error bad(const char* what) {
  return Error(Errc::refused, what);
}

std::optional<json::object> parse_object(std::string_view text) {
  if (text.size() > kMostJson)
    return std::nullopt;
  auto object = parse_json_object(text);
  return object ? std::optional(std::move(*object)) : std::nullopt;
}

std::string text_of(const json::object& object, std::string_view key) {
  const auto* value = object.if_contains({key.data(), key.size()});
  if (value == nullptr || !value->is_string())
    return {};
  return {value->get_string().data(), value->get_string().size()};
}

// A NumericDate; nothing if it is absent, or no number.
std::optional<TimePoint> time_of(const json::object& object, std::string_view key) {
  const auto* value = object.if_contains({key.data(), key.size()});
  if (value == nullptr || !value->is_number())
    return std::nullopt;
  const auto seconds = value->to_number<double>();
  if (!(seconds >= 0 && seconds <= kLatest))
    return std::nullopt;
  return TimePoint(Duration(static_cast<std::int64_t>(seconds) * 1000));
}

// One text, or a list that contains it (RFC 7519 §4.1.3).
bool has(const json::object& object, std::string_view key, std::string_view wanted) {
  const auto* value = object.if_contains({key.data(), key.size()});
  const auto is_it = [&](const json::value& item) {
    return item.is_string() &&
           std::string_view(item.get_string().data(), item.get_string().size()) == wanted;
  };
  if (value == nullptr)
    return false;
  if (value->is_array())
    return std::any_of(value->get_array().begin(), value->get_array().end(), is_it);
  return is_it(*value);
}

// "scope" is a text of words (RFC 8693 §4.2); "scp" a list, with some issuers.
bool has_scope(const json::object& object, std::string_view wanted) {
  for (const char* key : {"scope", "scp"}) {
    const auto text = text_of(object, key);
    const auto words = split(text, ' ');
    if (has(object, key, wanted) || std::find(words.begin(), words.end(), wanted) != words.end())
      return true;
  }
  return false;
}

Result<Token> judge_claims(const json::object& claims, const OauthRules& rules, TimePoint now,
                           bool needs_expiry) {
  const auto expires = time_of(claims, "exp");
  const auto begins = time_of(claims, "nbf");
  if (!expires && (needs_expiry || claims.contains("exp")))
    return bad("the token has no usable expiry");
  if (expires && *expires + kClockSkew <= now)
    return bad("the token has expired");
  if ((!begins && claims.contains("nbf")) || (begins && *begins > now + kClockSkew))
    return bad("the token is not valid yet");
  if (!rules.issuer.empty() && text_of(claims, "iss") != rules.issuer)
    return bad("the token is of another issuer");
  if (!rules.audience.empty() && !has(claims, "aud", rules.audience))
    return bad("the token is for another audience");
  if (!rules.scope.empty() && !has_scope(claims, rules.scope))
    return bad("the token lacks the scope");
  // Some issuers send the claim as a text.
  const auto* verified = claims.if_contains("email_verified");
  if (rules.user == "email" && verified != nullptr && *verified != json::value(true) &&
      *verified != json::value("true"))
    return bad("the token's address is not verified");
  Token token;
  token.user = text_of(claims, rules.user);
  if (token.user.empty())
    return bad("the token does not name a user");
  token.expires = expires.value_or(now);
  return token;
}

bool is_signed_by(const TokenKeys::Key& key, std::string_view signed_part,
                  std::string_view signature) {
  if (key.algorithm == "HS256")
    return equal_in_constant_time(hmac_sha256(key.secret, signed_part), signature);
  return verify_signature(key, signed_part, signature);
}

}  // namespace

bool looks_like_jwt(std::string_view token) {
  return std::count(token.begin(), token.end(), '.') == 2;
}

Result<Token> read_jwt(std::string_view jwt, const TokenKeys& keys, const OauthRules& rules,
                       TimePoint now) {
  const auto parts = split(jwt, '.');
  if (parts.size() != 3)
    return bad("the token is not a JWT");
  const auto header_text = decode_base64url(parts[0]);
  const auto claims_text = decode_base64url(parts[1]);
  const auto signature = decode_base64url(parts[2]);
  if (!header_text || !claims_text || !signature)
    return bad("the token is not a JWT");
  const auto header = parse_object(*header_text);
  if (!header || header->contains("crit"))  // RFC 7515 §4.1.11: we know no extension
    return bad("the token's header is not understood");
  const auto algorithm = text_of(*header, "alg");
  const auto id = text_of(*header, "kid");
  const auto signed_part = jwt.substr(0, parts[0].size() + 1 + parts[1].size());
  const bool is_signed = std::any_of(keys.all().begin(), keys.all().end(), [&](const auto& key) {
    return key.algorithm == algorithm && (id.empty() || key.id.empty() || id == key.id) &&
           is_signed_by(key, signed_part, *signature);
  });
  if (!is_signed)
    return bad("the token is not signed by a known key");
  const auto claims = parse_object(*claims_text);
  if (!claims)
    return bad("the token's claims are no JSON object");
  return judge_claims(*claims, rules, now, true);
}

Result<Token> read_introspection(std::string_view text, const OauthRules& rules, TimePoint now) {
  const auto answer = parse_object(text);
  if (!answer)
    return malformed("the introspection's answer is not a JSON object");
  const auto* active = answer->if_contains("active");
  if (active == nullptr || !active->is_bool())
    return malformed("the introspection's answer does not say whether the token is active");
  if (!active->get_bool())
    return bad("the token is not active");
  return judge_claims(*answer, rules, now, false);
}

}  // namespace postrider::smtpd::auth
