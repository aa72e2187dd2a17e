// Token introspection (RFC 7662): one POST over HTTP or HTTPS, on the connection's loop.
#pragma once

#include "dns/fetch.h"
#include "smtpd/auth/bearer_token.h"

#include <memory>
#include <string>

namespace postrider::smtpd::auth {

// What introspect() sends, and how it is answered. Pure.
Result<HttpRequest> introspection_request(const OauthRules& rules, std::string_view token);
Result<Token> judge_introspection(const HttpResponse& response, const OauthRules& rules,
                                  TimePoint now);

// Errc::refused: the token is no good; any other error: cannot tell. resolver: of the loop. tls:
// null for http. now: when the question was asked.
Task<Result<Token>> introspect(Loop& loop, dns::Resolver& resolver,
                               std::shared_ptr<const TlsContext> tls, OauthRules rules,
                               std::string token, TimePoint now);

}  // namespace postrider::smtpd::auth
