#include "base/net/http/http_client.h"

#include "base/net/tls/stream.h"
#include "base/net/tls/tls_channel.h"

#include <boost/asio/ip/tcp.hpp>

#include <array>

namespace postrider {

// Lets the call reach the stream as long as this lives.
struct HttpCallAccess {
  HttpCallAccess(HttpCall& call, Stream& stream) : call_(call) { call_.stream_ = &stream; }
  ~HttpCallAccess() { call_.stream_ = nullptr; }
  HttpCall& call_;
};

void HttpCall::abort() {
  is_aborted_ = true;
  if (stream_ != nullptr)
    stream_->close();
}

namespace {

constexpr std::size_t kMostAddresses = 4;

Task<Result<HttpResponse>> read_answer(Stream& stream, std::size_t most_body) {
  HttpResponseReader reader(most_body);
  std::array<char, 4096> room{};
  for (;;) {
    auto got = co_await stream.read_some(room.data(), room.size());
    if (!got && got.error().code() == asio::error::eof) {
      auto ended = reader.end();
      if (!ended)
        co_return ended.error();
      co_return reader.take();
    }
    if (!got)
      co_return got.error().during("read the HTTP answer");
    auto complete = reader.feed(std::string_view(room.data(), *got));
    if (!complete)
      co_return complete.error();
    if (*complete)
      co_return reader.take();
  }
}

Task<Result<HttpResponse>> ask(Stream& stream, std::shared_ptr<const TlsContext> tls,
                               const HttpRequest& request, const HttpLimits& limits) {
  stream.set_deadline(limits.whole);
  if (request.is_https) {
    auto options = options_for_host(request.host);
    auto secured = co_await stream.start_tls_client(std::move(tls), std::move(options));
    if (!secured)
      co_return secured.error().during("set up TLS");
  }
  const auto wire = encode(request);
  auto sent = co_await stream.write(wire);
  if (!sent)
    co_return sent.error().during("send the HTTP request");
  auto answer = co_await read_answer(stream, limits.body);
  co_return answer;
}

}  // namespace

Task<Result<HttpResponse>> http_request(Loop& loop, std::shared_ptr<const TlsContext> tls,
                                        std::vector<asio::ip::address> addresses,
                                        HttpRequest request, HttpLimits limits,
                                        std::shared_ptr<HttpCall> call) {
  if (request.is_https && !tls)
    co_return Error(Errc::unsupported, "ask " + request.host + " over HTTPS without trusted roots");
  Error last(asio::error::host_not_found, "connect to " + request.host);
  if (addresses.size() > kMostAddresses)
    addresses.resize(kMostAddresses);
  for (const auto& address : addresses) {
    const asio::generic::stream_protocol::endpoint to(
        asio::ip::tcp::endpoint(address, request.port));
    if (call->is_aborted())
      co_return Error(Errc::stopped, "connect to " + request.host);
    auto stream = co_await Stream::connect(loop, to, limits.connect);
    if (!stream) {
      last = stream.error().during("connect to " + address.to_string());
      continue;
    }
    const HttpCallAccess access(*call, **stream);
    if (call->is_aborted())
      co_return Error(Errc::stopped, "connect to " + request.host);
    auto answer = co_await ask(**stream, tls, request, limits);
    (*stream)->close();
    co_return answer;
  }
  co_return last;
}

}  // namespace postrider
