#include "base/net/http/http.h"

#include <catch2/catch.hpp>

using namespace postrider;

namespace {

// The body, or what is wrong.
std::string read(std::string_view answer, std::size_t piece = 1, std::size_t most = 100) {
  HttpResponseReader reader(most);
  for (std::size_t at = 0; at < answer.size(); at += piece) {
    const auto complete = reader.feed(answer.substr(at, piece));
    if (!complete)
      return complete.error().code() == make_error_code(Errc::too_long) ? "too long" : "malformed";
    if (*complete)
      return reader.take().body;
  }
  if (!reader.end())
    return "cut short";
  return reader.take().body;
}

}  // namespace

TEST_CASE("a request is what RFC 9112 asks for", "[base][http]") {
  HttpRequest request;
  request.host = "mta-sts.example.test";
  request.target = "/x";
  request.fields.emplace_back("Accept", "text/plain");
  CHECK(encode(request) ==
        "GET /x HTTP/1.1\r\nHost: mta-sts.example.test\r\nConnection: close\r\n"
        "Accept: text/plain\r\n\r\n");
  request.is_https = false;
  request.port = 80;
  request.host = "::1";
  CHECK(encode(request) ==
        "GET /x HTTP/1.1\r\nHost: [::1]\r\nConnection: close\r\nAccept: text/plain\r\n\r\n");
  request.is_https = true;
  request.host = "mta-sts.example.test";
  request.method = "POST";
  request.port = 8443;
  request.fields.clear();
  request.body = "abc";
  CHECK(encode(request) ==
        "POST /x HTTP/1.1\r\nHost: mta-sts.example.test:8443\r\nConnection: close\r\n"
        "Content-Length: 3\r\n\r\nabc");
}

TEST_CASE("an answer is read however it is cut", "[base][http]") {
  const std::string head = "HTTP/1.1 200 OK\r\n";
  struct Case {
    std::string name;
    std::string answer;
    std::string want;
  };
  const std::vector<Case> cases = {
      {"a length", head + "Content-Length: 5\r\n\r\nhello", "hello"},
      {"chunks", head + "Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
       "hello"},
      {"up to the end", head + "\r\nhello", "hello"},
      {"nothing", head + "Content-Length: 0\r\n\r\n", ""},
      {"cut short", head + "Content-Length: 5\r\n\r\nhel", "cut short"},
      {"cut in the header", "HTTP/1.1 200", "cut short"},
      {"no answer", "", "cut short"},
      {"X16: a length above the limit", head + "Content-Length: 101\r\n\r\n", "too long"},
      {"X16: more than the limit", head + "\r\n" + std::string(101, 'x'), "too long"},
      {"X16: a chunk above the limit", head + "Transfer-Encoding: chunked\r\n\r\nFFFFFFFF\r\n",
       "too long"},
      {"X16: a header without an end", head + "X: " + std::string(20'000, 'x'), "too long"},
      {"another protocol", "220 mx.example.test ESMTP\r\n\r\n", "malformed"},
      {"two lengths", head + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", "malformed"},
  };
  for (const auto& c : cases)
    for (const std::size_t piece : {1U, 3U, 100'000U})
      DYNAMIC_SECTION(c.name << ", by " << piece) {
        CHECK(read(c.answer, piece) == c.want);
      }
}

TEST_CASE("the media type comes without its parameters", "[base][http]") {
  HttpResponseReader reader(10);
  const auto complete = reader.feed(
      "HTTP/1.1 404 No\r\ncontent-type: Text/PLAIN ; charset=x\r\nContent-Length: 0\r\n\r\n");
  REQUIRE(complete.value());
  const auto response = reader.take();
  CHECK(response.status == 404);
  CHECK(response.content_type == "text/plain");
}
