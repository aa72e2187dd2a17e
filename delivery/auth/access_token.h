// Access tokens of OAuth 2.0: what is asked of a token endpoint, and what endpoints and commands
// answer. Pure; the answers come from outside.
#pragma once

#include "base/net/http/http.h"
#include "base/result.h"
#include "base/time.h"
#include "delivery/auth/credentials.h"

#include <string>
#include <string_view>

namespace postrider::delivery {

inline constexpr std::size_t kMostToken = 16U << 10U;  // octets

struct Token {
  std::string text;      // printable ASCII without a space
  Duration lifetime{0};  // as told, at most 30 days; 0: not told, good until it is refused
  std::string refresh;   // a new refresh token (RFC 6749 §6); usually empty
};

// Trades the refresh token in (RFC 6749 §6). Requires file.token_endpoint to be a URL.
HttpRequest token_request(const CredentialsFile& file, const std::string& refresh);
// RFC 6749 §5. Errc::refused: the endpoint says no, and why.
Result<Token> judge_token_answer(const HttpResponse& response);
// The JSON of a good answer (RFC 6749 §5.1).
Result<Token> parse_token_answer(std::string_view json);
// What a token command printed: one line with a token, or that JSON.
Result<Token> parse_token_output(std::string_view output);

}  // namespace postrider::delivery
