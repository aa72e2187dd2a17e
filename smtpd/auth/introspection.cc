#include "smtpd/auth/introspection.h"

#include "base/base64.h"
#include "base/url.h"

namespace postrider::smtpd::auth {

namespace {

constexpr Duration kConnect{5000};
constexpr Duration kPatience{15000};

}  // namespace

Result<HttpRequest> introspection_request(const OauthRules& rules, std::string_view token) {
  auto url = parse_http_url(rules.introspect);
  if (!url)
    return malformed("the URL of the endpoint");
  HttpRequest request;
  request.method = "POST";
  request.is_https = url->is_https;
  request.host = std::move(url->host);
  request.port = url->port;
  request.target = std::move(url->target);
  request.fields.emplace_back("Accept", "application/json");
  request.fields.emplace_back("Content-Type", "application/x-www-form-urlencoded");
  if (!rules.client_id.empty())  // RFC 6749 §2.3.1
    request.fields.emplace_back("Authorization",
                                "Basic " + encode_base64(percent_encoded(rules.client_id) + ":" +
                                                         percent_encoded(rules.client_secret)));
  request.body = "token=" + percent_encoded(token) + "&token_type_hint=access_token";
  return request;
}

Result<Token> judge_introspection(const HttpResponse& response, const OauthRules& rules,
                                  TimePoint now) {
  if (response.status != 200)
    return malformed("the endpoint answers " + std::to_string(response.status));
  return read_introspection(response.body, rules, now);
}

Task<Result<Token>> introspect(Loop& loop, dns::Resolver& resolver,
                               std::shared_ptr<const TlsContext> tls, OauthRules rules,
                               std::string token, TimePoint now) {
  auto request = introspection_request(rules, token);
  if (!request)
    co_return request.error();
  HttpLimits limits;
  limits.connect = kConnect;
  limits.whole = kPatience;
  auto call = std::make_shared<HttpCall>();
  auto answer = co_await dns::http_request(loop, resolver, dns::Families::both, std::move(tls),
                                           *std::move(request), limits, std::move(call));
  if (!answer)
    co_return answer.error();
  co_return judge_introspection(*answer, rules, now);
}

}  // namespace postrider::smtpd::auth
