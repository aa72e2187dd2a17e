// What a token (RFC 6750) says, and whether it is good here. Pure but for OpenSSL.
#pragma once

#include "base/result.h"
#include "base/time.h"
#include "smtpd/auth/auth_settings.h"

#include <memory>
#include <string>
#include <string_view>
#include <vector>

struct evp_pkey_st;

namespace postrider::smtpd::auth {

struct Token {
  std::string user;
  TimePoint expires;
};

// The keys that tokens are signed with.
class TokenKeys {
 public:
  // A JWKS or a JWK (RFC 7517) with RSA, P-256 and octet keys; PEM public keys or certificates; or
  // one line of "secret:" and a secret for HS256 of 32 octets at least. What is none of these, as a
  // whole, is an error: nothing becomes a secret that does not say so.
  static Result<TokenKeys> parse(std::string_view bytes);
  std::size_t size() const { return keys_.size(); }

  struct Key {
    std::string id;         // "kid"; may be empty
    std::string algorithm;  // "RS256", "ES256", "HS256": the only one that it is good for
    std::shared_ptr<evp_pkey_st> key;
    std::string secret;
  };
  const std::vector<Key>& all() const { return keys_; }

 private:
  std::vector<Key> keys_;
};

// A JWT (RFC 7519) signed by one of the keys (RFC 7515, RS256, ES256 or HS256), not expired, and as
// the rules ask. "alg" must be what the key is for; "crit" is refused; "exp" is needed.
Result<Token> read_jwt(std::string_view jwt, const TokenKeys& keys, const OauthRules& rules,
                       TimePoint now);
// The answer of an introspection endpoint (RFC 7662 §2.2).
Result<Token> read_introspection(std::string_view json, const OauthRules& rules, TimePoint now);
bool looks_like_jwt(std::string_view token);

}  // namespace postrider::smtpd::auth
