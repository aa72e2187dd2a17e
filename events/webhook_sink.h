// Events to an HTTP server, one batch a request. Blocks its thread; has a loop of its own.
#pragma once

#include "events/pump.h"
#include "events/webhook.h"

#include "base/log.h"
#include "base/net/http/http_client.h"

#include <boost/asio/ip/address.hpp>

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace postrider::events {

struct WebhookSettings {
  HttpUrl url;
  std::vector<std::string> keys;          // of signatures; empty: not signed
  std::shared_ptr<const TlsContext> tls;  // for https; null for http
  HttpLimits limits{.connect = Duration(10'000), .whole = Duration(20'000), .body = 16U << 10U};
};

class WebhookSink : public Sink {
 public:
  // May block, but not beyond the moment at which is_over says so.
  using Resolve = std::function<Result<std::vector<asio::ip::address>>(
      const std::string& host, const std::atomic<bool>& is_over)>;
  // Log and clock outlive it.
  WebhookSink(WebhookSettings settings, Resolve resolve, const Clock& clock, Log& log);
  Result<void> deliver(const std::string& id, const std::vector<std::string>& events) override;
  void stop() override;
  // A receiver that said 410 is asked nothing more: each batch fails at once.
  bool is_gone() const { return is_gone_; }

 private:
  WebhookSettings settings_;
  Resolve resolve_;
  const Clock& clock_;
  Log& log_;
  bool is_gone_ = false;
  // Of the request that is under way.
  std::mutex mutex_;
  Loop* loop_ = nullptr;
  std::shared_ptr<HttpCall> call_;
  std::atomic<bool> is_stopping_{false};
};

}  // namespace postrider::events
