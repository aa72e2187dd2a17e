// Events by HTTP POST, as Standard Webhooks 1.0.0 sign them: what the request looks like, and what
// an answer means. Pure.
#pragma once

#include "base/net/http/http.h"
#include "base/result.h"
#include "base/time.h"
#include "base/url.h"

#include <string>
#include <string_view>
#include <vector>

namespace postrider::events {

// "whsec_" and base64 of 24 to 64 octets; the key is those octets. Errc::malformed.
Result<std::string> parse_webhook_secret(std::string_view text);

// "v1,BASE64" for each key, so that keys can be changed without a gap. id has no dots.
std::string webhook_signature(const std::vector<std::string>& keys, std::string_view id,
                              std::string_view timestamp, std::string_view body);

// The batch form of CloudEvents: an array of the texts, in their order.
std::string webhook_body(const std::vector<std::string>& events);
// id: the same for each attempt with the same body.
HttpRequest webhook_request(const HttpUrl& url, const std::vector<std::string>& keys,
                            std::string_view id, TimePoint now, std::string body);

enum class WebhookAnswer : std::uint8_t {
  taken,  // 2xx
  again,  // later, with the same body
  gone,   // 410: the receiver wants no more
};
// Redirects are not followed: 3xx is an error of configuration, and tried again.
WebhookAnswer judge_webhook(unsigned status);

// Before the attempt that follows `failures` of them, from 1: 5 seconds, then twice as long up to
// an hour, by up to a fifth less or more. `random` in [0, 1000).
Duration webhook_pause(unsigned failures, unsigned random);

}  // namespace postrider::events
