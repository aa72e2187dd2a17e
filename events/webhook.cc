#include "events/webhook.h"

#include "base/base64.h"
#include "base/digest.h"
#include "base/version.h"

#include <algorithm>
#include <chrono>

namespace postrider::events {

namespace {

constexpr std::string_view kSecretPrefix = "whsec_";
constexpr std::size_t kLeastKey = 24, kMostKey = 64;
constexpr auto kFirstPause = std::chrono::seconds(5);
constexpr auto kLongestPause = std::chrono::hours(1);

}  // namespace

Result<std::string> parse_webhook_secret(std::string_view text) {
  if (!text.starts_with(kSecretPrefix))
    return malformed("webhook secret: it does not begin with whsec_");
  auto key = decode_base64(text.substr(kSecretPrefix.size()));
  if (!key || key->size() < kLeastKey || key->size() > kMostKey)
    return malformed("webhook secret: not 24 to 64 octets in base64");
  return *std::move(key);
}

std::string webhook_signature(const std::vector<std::string>& keys, std::string_view id,
                              std::string_view timestamp, std::string_view body) {
  std::string text;
  text.reserve(id.size() + timestamp.size() + body.size() + 2);
  text.append(id).append(".").append(timestamp).append(".").append(body);
  std::string signatures;
  for (const auto& key : keys) {
    if (!signatures.empty())
      signatures.push_back(' ');
    signatures.append("v1,").append(encode_base64(hmac_sha256(key, text)));
  }
  return signatures;
}

std::string webhook_body(const std::vector<std::string>& events) {
  std::string body = "[";
  for (const auto& event : events)
    body.append(body.size() == 1 ? "" : ",").append(event);
  return body.append("]");
}

HttpRequest webhook_request(const HttpUrl& url, const std::vector<std::string>& keys,
                            std::string_view id, TimePoint now, std::string body) {
  const auto seconds =
      std::chrono::duration_cast<std::chrono::seconds>(now.time_since_epoch()).count();
  const auto timestamp = std::to_string(seconds);
  HttpRequest request;
  request.method = "POST";
  request.is_https = url.is_https;
  request.host = url.host;
  request.port = url.port;
  request.target = url.target;
  request.fields = {{"Content-Type", "application/cloudevents-batch+json"},
                    {"User-Agent", "Postrider/" + std::string(version())},
                    {"webhook-id", std::string(id)},
                    {"webhook-timestamp", timestamp}};
  if (!keys.empty())
    request.fields.emplace_back("webhook-signature", webhook_signature(keys, id, timestamp, body));
  request.body = std::move(body);
  return request;
}

WebhookAnswer judge_webhook(unsigned status) {
  if (status >= 200 && status < 300)
    return WebhookAnswer::taken;
  return status == 410 ? WebhookAnswer::gone : WebhookAnswer::again;
}

Duration webhook_pause(unsigned failures, unsigned random) {
  Duration pause = kFirstPause;
  for (unsigned count = 1; count < failures && pause < kLongestPause; ++count)
    pause *= 2;
  pause = std::min<Duration>(pause, kLongestPause);
  return pause * 4 / 5 + pause * 2 / 5 * (random % 1000) / 1000;
}

}  // namespace postrider::events
