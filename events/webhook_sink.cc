#include "events/webhook_sink.h"

#include "base/network.h"

#include <netdb.h>
#include <optional>
#include <sys/socket.h>
#include <utility>

namespace postrider::events {

namespace {

struct FreeAddresses {
  void operator()(addrinfo* list) const { ::freeaddrinfo(list); }
};

Task<void> ask(Loop& loop, std::shared_ptr<const TlsContext> tls,
               std::vector<asio::ip::address> addresses, HttpRequest request, HttpLimits limits,
               std::optional<Result<HttpResponse>>& answer) {
  answer = co_await http_request(loop, std::move(tls), std::move(addresses), std::move(request),
                                 limits, std::make_shared<HttpCall>());
  loop.finish();
}

}  // namespace

Result<std::vector<asio::ip::address>> resolve_by_system(const std::string& host) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (const int code = ::getaddrinfo(host.c_str(), nullptr, &hints, &found); code != 0)
    return Error(Errc::not_found, "resolve " + host + ": " + ::gai_strerror(code));
  const std::unique_ptr<addrinfo, FreeAddresses> list(found);
  std::vector<asio::ip::address> addresses;
  for (const auto* one = list.get(); one != nullptr; one = one->ai_next) {
    const auto text = IpAddress::from(one->ai_addr).str();
    boost::system::error_code bad;
    const auto address = asio::ip::make_address(text, bad);
    if (!bad)
      addresses.push_back(address);
  }
  if (addresses.empty())
    return Error(Errc::not_found, "resolve " + host);
  return addresses;
}

WebhookSink::WebhookSink(WebhookSettings settings, Resolve resolve, const Clock& clock, Log& log)
    : settings_(std::move(settings)), resolve_(std::move(resolve)), clock_(clock), log_(log) {}

Result<void> WebhookSink::deliver(const std::string& id, const std::vector<std::string>& events) {
  if (is_gone_)
    return Error(Errc::refused, settings_.url.host + " wants no more events");
  auto addresses = resolve_(settings_.url.host);
  if (!addresses)
    return addresses.error();
  Loop loop(0);
  std::optional<Result<HttpResponse>> answer;
  loop.spawn(
      ask(loop, settings_.tls, *std::move(addresses),
          webhook_request(settings_.url, settings_.keys, id, clock_.now(), webhook_body(events)),
          settings_.limits, answer),
      log_, "webhook");
  loop.run();
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

}  // namespace postrider::events
