#include "base/net/http/http.h"

#include "base/net/task.h"
#include "base/text.h"

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>

namespace postrider {

namespace {

namespace http = boost::beast::http;

constexpr std::uint32_t kMostHeader = 16U << 10U;

Error refused(const boost::system::error_code& code) {
  if (code == http::error::body_limit || code == http::error::header_limit)
    return Error(Errc::too_long, "read the HTTP answer: it is too large");
  return Error(Errc::malformed, "read the HTTP answer: " + code.message());
}

}  // namespace

std::string encode(const HttpRequest& request) {
  const bool is_v6 = request.host.find(':') != request.host.npos;
  std::string out = request.method + " " + request.target +
                    " HTTP/1.1\r\nHost: " + (is_v6 ? "[" + request.host + "]" : request.host);
  if (request.port != (request.is_https ? 443 : 80))
    out += ":" + std::to_string(request.port);
  out += "\r\nConnection: close\r\n";
  for (const auto& [name, value] : request.fields)
    out += name + ": " + value + "\r\n";
  if (!request.body.empty() || request.method == "POST")
    out += "Content-Length: " + std::to_string(request.body.size()) + "\r\n";
  return out + "\r\n" + request.body;
}

struct HttpResponseReader::Parser {
  http::response_parser<http::string_body> parser;
  std::string waiting;  // came, and not taken by the parser yet
  bool failed = false;
};

HttpResponseReader::HttpResponseReader(std::size_t most_body)
    : parser_(std::make_unique<Parser>()) {
  parser_->parser.body_limit(most_body);
  parser_->parser.header_limit(kMostHeader);
  parser_->parser.eager(true);
}

HttpResponseReader::~HttpResponseReader() = default;

Result<bool> HttpResponseReader::feed(std::string_view bytes) {
  auto& parser = parser_->parser;
  auto& waiting = parser_->waiting;
  if (parser_->failed)
    return Error(Errc::malformed, "read the HTTP answer");
  waiting.append(bytes);
  while (!waiting.empty() && !parser.is_done()) {
    boost::system::error_code code;
    const auto taken = parser.put(asio::buffer(waiting), code);
    waiting.erase(0, taken);
    if (code == http::error::need_more || (!code && taken == 0))
      break;
    if (code) {
      parser_->failed = true;
      return refused(code);
    }
  }
  return parser.is_done();
}

Result<void> HttpResponseReader::end() {
  boost::system::error_code code;
  if (!parser_->parser.got_some())
    return Error(Errc::malformed, "read the HTTP answer: there is none");
  parser_->parser.put_eof(code);
  if (code)
    return refused(code);
  return {};
}

HttpResponse HttpResponseReader::take() {
  auto& message = parser_->parser.get();
  HttpResponse response;
  response.status = message.result_int();
  const std::string_view type(message[http::field::content_type].data(),
                              message[http::field::content_type].size());
  response.content_type = ascii_lower(trim(type.substr(0, type.find(';'))));
  response.body = std::move(message.body());
  return response;
}

}  // namespace postrider
