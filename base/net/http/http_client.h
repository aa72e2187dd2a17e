// One request over HTTPS, or over HTTP where the request says so. Over HTTPS the certificate must
// be trusted and name the host; there is no way to ask for less.
#pragma once

#include "base/net/http/http.h"
#include "base/net/loop.h"
#include "base/net/tls/tls_context.h"

#include <boost/asio/ip/address.hpp>

#include <memory>
#include <vector>

namespace postrider {

struct HttpLimits {
  Duration connect{3000};  // for each address
  Duration whole{20000};   // for the handshake, the request and the answer at one address
  std::size_t body = 64U << 10U;
};

class Stream;

// Ends a request from outside, as a stop does. On the loop's thread.
class HttpCall {
 public:
  void abort();
  bool is_aborted() const { return is_aborted_; }

 private:
  friend struct HttpCallAccess;
  Stream* stream_ = nullptr;  // while there is one
  bool is_aborted_ = false;
};

// Tries the addresses in order until one can be connected to, four at most. Any status is an
// answer. Errc::untrusted: the certificate is not good for the host; asio::error::timed_out; else
// as base/net/http/http.h and base/net/tls/stream.h say. tls: may be null for HTTP. On the loop's
// thread.
Task<Result<HttpResponse>> http_request(Loop& loop, std::shared_ptr<const TlsContext> tls,
                                        std::vector<asio::ip::address> addresses,
                                        HttpRequest request, HttpLimits limits,
                                        std::shared_ptr<HttpCall> call);

}  // namespace postrider
