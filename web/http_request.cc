#include "web/http_request.h"

#include "base/text.h"

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>

#include <algorithm>
#include <utility>

namespace postrider::web {

namespace asio = boost::asio;
namespace http = boost::beast::http;

namespace {

constexpr std::uint32_t kMostHeader = 16U << 10U;
constexpr std::uint64_t kUsualBody = 64U << 10U;
constexpr std::uint64_t kMostBody = 256U << 20U;  // whoever admits it
// A request in hand, and as much of the next ones: who sends more waits for answers first.
constexpr std::size_t kMostWaiting = 128U << 10U;

std::string text_of(boost::beast::string_view text) {
  return {text.data(), text.size()};
}

Error refused(const boost::system::error_code& code) {
  const bool is_long = code == http::error::header_limit || code == http::error::body_limit ||
                       code == http::error::buffer_overflow;
  return Error(is_long ? Errc::too_long : Errc::malformed,
               "read an HTTP request: " + code.message());
}

std::size_t count_of(const http::fields& fields, http::field name) {
  const auto [first, last] = fields.equal_range(name);
  return static_cast<std::size_t>(std::distance(first, last));
}

Request head_of(const http::request_header<>& fields) {
  Request request;
  request.method = text_of(fields.method_string());
  request.target = text_of(fields.target());
  request.host = text_of(fields[http::field::host]);
  request.origin = text_of(fields[http::field::origin]);
  request.authorization = text_of(fields[http::field::authorization]);
  request.content_type = text_of(fields[http::field::content_type]);
  request.accept = text_of(fields[http::field::accept]);
  request.cookie = text_of(fields[http::field::cookie]);
  request.session_key = text_of(fields["Postrider-Session-Key"]);
  request.idempotency_key = text_of(fields["Idempotency-Key"]);
  if (fields.count("traceparent") == 1)
    request.trace_parent = text_of(fields["traceparent"]);
  return request;
}

}  // namespace

struct RequestReader::Parser {
  Parser() {
    parser.header_limit(kMostHeader);
    parser.body_limit(kMostBody);  // the usual one is ours, once the header is there
    parser.eager(false);
  }
  http::request_parser<http::string_body> parser;
};

RequestReader::RequestReader(Admit admit)
    : admit_(std::move(admit)), parser_(std::make_unique<Parser>()) {}
RequestReader::~RequestReader() = default;

bool RequestReader::has_begun() const {
  return parser_->parser.got_some() || !waiting_.empty();
}

Result<bool> RequestReader::feed(std::string_view bytes) {
  auto& parser = parser_->parser;
  if (failed_)
    return Error(Errc::malformed, "read an HTTP request");
  if (waiting_.size() + bytes.size() > kMostWaiting) {
    failed_ = true;
    return Error(Errc::too_long, "read an HTTP request: more than one at a time");
  }
  waiting_.append(bytes);
  while (!waiting_.empty() && !parser.is_done()) {
    boost::system::error_code code;
    const bool had_head = parser.is_header_done();
    const auto taken = parser.put(asio::buffer(waiting_), code);
    waiting_.erase(0, taken);
    if (!code && !had_head && parser.is_header_done()) {
      if (auto judged = judge_head(); !judged) {
        failed_ = true;
        return judged.error();
      }
      continue;
    }
    if (code == http::error::need_more || (!code && taken == 0))
      break;
    if (code) {
      failed_ = true;
      return refused(code);
    }
  }
  // The parser's own limit counts complete lines.
  if (!parser.is_header_done() && waiting_.size() > kMostHeader) {
    failed_ = true;
    return Error(Errc::too_long, "read an HTTP request");
  }
  return parser.is_done();
}

// Before anything of the body is kept.
Result<void> RequestReader::judge_head() {
  auto& parser = parser_->parser;
  const auto& fields = parser.get();
  // Whether they mean the same to a proxy in front of us is not to be found out here.
  if (fields.count(http::field::transfer_encoding) > 0 || count_of(fields, http::field::host) != 1)
    return Error(Errc::malformed,
                 "read an HTTP request: it has one Host field and no Transfer-Encoding");
  const auto given = parser.content_length();
  const std::uint64_t octets = given ? *given : 0;
  if (octets > kUsualBody && !(admit_ && admit_(head_of(fields), octets)))
    return Error(Errc::too_long, "read an HTTP request: its body");
  is_expected_ = octets > 0 && waiting_.empty() &&
                 equals_ignoring_case(text_of(fields[http::field::expect]), "100-continue");
  parser.eager(true);
  return {};
}

bool RequestReader::wants_continue() {
  return std::exchange(is_expected_, false);
}

Request RequestReader::take() {
  auto& message = parser_->parser.get();
  auto request = head_of(message);
  request.body = std::move(message.body());
  keeps_alive_ = message.keep_alive();
  is_expected_ = false;
  parser_ = std::make_unique<Parser>();
  return request;
}

bool RequestReader::keeps_alive() const {
  return keeps_alive_;
}

const char* reason_of(unsigned status) {
  const auto text = http::obsolete_reason(static_cast<http::status>(status));
  return text.data();  // of a literal
}

std::string encode(const Response& response, std::size_t length, bool keeps_alive) {
  std::string out = "HTTP/1.1 " + std::to_string(response.status) + " " +
                    reason_of(response.status) + "\r\nContent-Length: " + std::to_string(length) +
                    "\r\n";
  if (!response.content_type.empty())
    out += "Content-Type: " + response.content_type + "\r\n";
  for (const auto& [name, value] : response.fields)
    out += name + ": " + value + "\r\n";
  out += keeps_alive ? "Connection: keep-alive\r\n\r\n" : "Connection: close\r\n\r\n";
  return out + response.body;
}

}  // namespace postrider::web
