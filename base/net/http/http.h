// HTTP/1.1 from the asking side, without the connection (RFC 9112): what a request looks like on
// the wire, and what an answer says. Pure. One request a connection, no redirects, no compression.
#pragma once

#include "base/result.h"

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace postrider {

// All of it is ours: nothing is escaped. Host, Content-Length and Connection are added.
struct HttpRequest {
  std::string method = "GET";
  bool is_https = true;
  // For the Host field and, over HTTPS, what the certificate must name; IPv6 without brackets.
  std::string host;
  std::uint16_t port = 443;
  std::string target = "/";
  std::vector<std::pair<std::string, std::string>> fields;
  std::string body;
};
std::string encode(const HttpRequest& request);

struct HttpResponse {
  unsigned status = 0;
  std::string content_type;  // the media type alone, lower case: "text/plain"
  std::string body;
};

// Takes an answer in pieces of any size. The header section is limited to 16 KiB.
class HttpResponseReader {
 public:
  explicit HttpResponseReader(std::size_t most_body);
  ~HttpResponseReader();
  HttpResponseReader(const HttpResponseReader&) = delete;
  HttpResponseReader& operator=(const HttpResponseReader&) = delete;

  // True: the answer is complete. Errc::too_long, or Errc::malformed; then nothing more is taken.
  Result<bool> feed(std::string_view bytes);
  // The connection has ended, which ends an answer of unknown length.
  Result<void> end();
  // Once it is complete.
  HttpResponse take();

 private:
  struct Parser;
  std::unique_ptr<Parser> parser_;
};

}  // namespace postrider
