#include "web/http_request.h"

#include <catch2/catch.hpp>

#include <string>
#include <vector>

using namespace postrider;
using namespace postrider::web;

namespace {

const std::string kPost =
    "POST /api/v1/queue/hold?x=1 HTTP/1.1\r\nHost: a.test:8025\r\nOrigin: http://a.test\r\n"
    "Authorization: Bearer t\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";

}  // namespace

TEST_CASE("http: a request in pieces of any size, and the next behind it", "[web]") {
  const auto text = kPost + "GET /metrics HTTP/1.1\r\nHost: [::1]\r\nConnection: close\r\n\r\n";
  for (std::size_t size = 1; size <= text.size(); size += size < 8 ? 1 : 17) {
    INFO(size);
    RequestReader reader;
    std::vector<Request> requests;
    for (std::size_t at = 0; at < text.size(); at += size) {
      auto complete = reader.feed(std::string_view(text).substr(at, size));
      REQUIRE(complete);
      while (*complete) {
        requests.push_back(reader.take());
        CHECK(reader.keeps_alive() == (requests.size() == 1));
        complete = reader.feed({});
        REQUIRE(complete);
      }
    }
    REQUIRE(requests.size() == 2);
    CHECK(requests[0].method == "POST");
    CHECK(requests[0].target == "/api/v1/queue/hold?x=1");
    CHECK(requests[0].host == "a.test:8025");
    CHECK(requests[0].origin == "http://a.test");
    CHECK(requests[0].authorization == "Bearer t");
    CHECK(requests[0].content_type == "application/json");
    CHECK(requests[0].body == "{}");
    CHECK(requests[1].target == "/metrics");
    CHECK(requests[1].host == "[::1]");
  }
}

TEST_CASE("http: two traces are none", "[web]") {
  const std::string head = "GET / HTTP/1.1\r\nHost: a\r\n";
  for (const auto& [fields, wanted] : std::vector<std::pair<std::string, std::string>>{
           {"", ""},
           {"Traceparent: 00-a\r\n", "00-a"},
           {"traceparent: 00-a\r\nTRACEPARENT: 00-a\r\n", ""}}) {
    INFO(fields);
    RequestReader reader;
    REQUIRE(reader.feed(head + fields + "\r\n").value());
    CHECK(reader.take().trace_parent == wanted);
  }
}

TEST_CASE("http: what may mean two things is not a request", "[web]") {
  for (const std::string& wrong : std::vector<std::string>{
           "GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
           "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
           "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
           "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", "GET /\r\n\r\n",
           "\r\n\r\n\r\n", "GET / HTTP/1.1\nHost: a\n\n", "\x16\x03\x01\x02",
           "GET / HTTP/1.1\r\nHost : a\r\n\r\n"}) {
    INFO(wrong);
    RequestReader reader;
    const auto complete = reader.feed(wrong);
    const bool is_taken = complete && *complete;
    CHECK_FALSE(is_taken);
  }
}

TEST_CASE("http: sizes are limited", "[web]") {
  RequestReader header;
  CHECK_FALSE(
      header.feed("GET / HTTP/1.1\r\nHost: a\r\nX: " + std::string(20000, 'x') + "\r\n\r\n"));
  CHECK_FALSE(header.feed("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
  RequestReader line;
  bool is_taken = true;
  for (int i = 0; i < 100 && is_taken; ++i)
    is_taken = line.feed(std::string(1000, 'x')).has_value();
  CHECK_FALSE(is_taken);
  RequestReader whole;
  REQUIRE_FALSE(whole.feed("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 65536\r\n\r\n").value());
  CHECK(whole.feed(std::string(65536, 'x')).value());
  CHECK(whole.take().body.size() == 65536);
  RequestReader body;
  CHECK_FALSE(body.feed("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 65537\r\n\r\n"));
  RequestReader pipeline;
  std::string many;
  for (int i = 0; i < 10000; ++i)
    many += "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
  CHECK_FALSE(pipeline.feed(many));
}

TEST_CASE("http: a large body comes where somebody admits it, who sees the header first", "[web]") {
  const auto text = [](std::size_t octets, const std::string& more) {
    return "POST /api/v1/messages HTTP/1.1\r\nHost: a\r\nIdempotency-Key: k 1\r\n" + more +
           "Content-Length: " + std::to_string(octets) + "\r\n\r\n";
  };
  std::vector<std::uint64_t> asked;
  const auto admit = [&](const Request& head, std::uint64_t octets) {
    CHECK(head.target == "/api/v1/messages");
    CHECK(head.idempotency_key == "k 1");
    CHECK(head.body.empty());
    asked.push_back(octets);
    return octets <= 1'000'000;
  };
  {
    RequestReader reader(admit);
    CHECK_FALSE(reader.feed(text(1'000'000, "Expect: 100-continue\r\n")).value());
    CHECK(reader.wants_continue());
    CHECK_FALSE(reader.wants_continue());
    const std::string piece(100'000, 'x');
    for (int i = 0; i < 9; ++i)
      REQUIRE_FALSE(reader.feed(piece).value());
    REQUIRE(reader.feed(piece).value());
    CHECK(reader.take().body.size() == 1'000'000);
    CHECK(reader.feed(kPost).value());  // and the usual ones behind it
    CHECK(reader.take().body == "{}");
  }
  RequestReader refused(admit);
  const auto complete = refused.feed(text(1'000'001, "") + std::string(1000, 'x'));
  REQUIRE_FALSE(complete.has_value());
  CHECK(complete.error().code() == Errc::too_long);
  CHECK(asked == std::vector<std::uint64_t>{1'000'000, 1'000'001});
  RequestReader chunked(admit);
  CHECK_FALSE(chunked.feed(text(1'000'000, "Transfer-Encoding: chunked\r\n")).has_value());
  RequestReader small(admit);
  CHECK(small.feed(text(2, "Expect: 100-continue\r\n") + "{}").value());
  CHECK_FALSE(small.wants_continue());
  CHECK(asked.size() == 2);
}

TEST_CASE("http: an answer has its length and says whether more may follow", "[web]") {
  Response response{404, "text/plain", "none\n", {{"Allow", "GET"}}};
  CHECK(encode(response, 5, true) ==
        "HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\nContent-Type: text/plain\r\nAllow: GET\r\n"
        "Connection: keep-alive\r\n\r\nnone\n");
  response.body.clear();
  CHECK(encode(response, 5, false).ends_with("Connection: close\r\n\r\n"));
  CHECK(std::string(reason_of(421)) == "Misdirected Request");
}
