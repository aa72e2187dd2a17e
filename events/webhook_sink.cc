#include "events/webhook_sink.h"

#include <optional>
#include <utility>

namespace postrider::events {

namespace {

Task<void> ask(Loop& loop, std::shared_ptr<const TlsContext> tls,
               std::vector<asio::ip::address> addresses, HttpRequest request, HttpLimits limits,
               std::shared_ptr<HttpCall> call, std::optional<Result<HttpResponse>>& answer) {
  answer = co_await http_request(loop, std::move(tls), std::move(addresses), std::move(request),
                                 limits, std::move(call));
  loop.finish();
}

}  // namespace

WebhookSink::WebhookSink(WebhookSettings settings, Resolve resolve, const Clock& clock, Log& log)
    : settings_(std::move(settings)), resolve_(std::move(resolve)), clock_(clock), log_(log) {}

Result<void> WebhookSink::deliver(const std::string& id, const std::vector<std::string>& events) {
  if (is_gone_)
    return Error(Errc::refused, settings_.url.host + " wants no more events");
  auto addresses = resolve_(settings_.url.host, is_stopping_);
  if (!addresses)
    return addresses.error();
  Loop loop(0);
  auto call = std::make_shared<HttpCall>();
  {
    const std::lock_guard lock(mutex_);
    if (is_stopping_)
      return Error(Errc::stopped, "ask " + settings_.url.host);
    loop_ = &loop;
    call_ = call;
  }
  std::optional<Result<HttpResponse>> answer;
  loop.spawn(
      ask(loop, settings_.tls, *std::move(addresses),
          webhook_request(settings_.url, settings_.keys, id, clock_.now(), webhook_body(events)),
          settings_.limits, std::move(call), answer),
      log_, "webhook");
  loop.run();
  {
    const std::lock_guard lock(mutex_);
    loop_ = nullptr;
    call_.reset();
  }
  if (!answer)
    return Error(Errc::stopped, "ask " + settings_.url.host);
  if (!*answer)
    return answer->error().during("post to " + settings_.url.host);
  const auto judged = judge_webhook((*answer)->status);
  is_gone_ = judged == WebhookAnswer::gone;
  if (judged == WebhookAnswer::taken)
    return {};
  return Error(Errc::refused,
               "post to " + settings_.url.host + ": status " + std::to_string((*answer)->status));
}

void WebhookSink::stop() {
  const std::lock_guard lock(mutex_);
  is_stopping_ = true;
  if (loop_ != nullptr)
    loop_->post([call = call_] { call->abort(); });
}

}  // namespace postrider::events
