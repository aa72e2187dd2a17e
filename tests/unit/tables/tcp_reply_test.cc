// What tcp tables ask, and what their answers mean.
#include "tables/tcp_reply.h"

#include "tables/table.h"

#include <catch2/catch.hpp>

#include <string>

using namespace postrider;
using namespace postrider::tables;

TEST_CASE("a key goes as one word, whatever it holds", "[tables][tcp]") {
  struct Case {
    std::string key, want;
  };
  const std::vector<Case> cases = {
      {"ann@us.test", "get ann@us.test\n"},
      {"a b%c", "get a%20b%25c\n"},
      {"x\nget root", "get x%0Aget%20root\n"},
      {std::string("x\0y", 3), "get x%00y\n"},
      {"j\xc3\xb6rg@us.test", "get j%C3%B6rg@us.test\n"},
      {"", "get \n"},
  };
  for (const auto& c : cases)
    CHECK(tcp_request(c.key) == c.want);
}

TEST_CASE("a reply is one line, and nothing behind it", "[tables][tcp]") {
  const std::string whole = "200 ann@us.test\n";
  for (std::size_t size = 0; size < whole.size(); ++size) {
    const auto part = take_tcp_reply(std::string_view(whole).substr(0, size));
    REQUIRE(part.has_value());
    CHECK_FALSE(part->has_value());
  }
  CHECK(**take_tcp_reply(whole) == "200 ann@us.test");
  CHECK(**take_tcp_reply("500 none\r\n") == "500 none");
  CHECK_FALSE(take_tcp_reply(whole + "200 root\n").has_value());
  CHECK_FALSE(take_tcp_reply(whole + "2").has_value());
  CHECK(take_tcp_reply(std::string(kMostTcpReply - 1, 'x')).has_value());
  CHECK_FALSE(take_tcp_reply(std::string(kMostTcpReply, 'x')).has_value());
  CHECK_FALSE(take_tcp_reply(std::string(kMostTcpReply, 'x') + "\n").has_value());
}

TEST_CASE("a reply is a value, none, or no answer", "[tables][tcp]") {
  struct Case {
    std::string line, want;  // want: the value, "-" for none, "error: ..."
  };
  const std::vector<Case> cases = {
      {"200 ann@us.test", "ann@us.test"},
      {"200 a%2c%20b", "a, b"},
      {"200 ", ""},
      {"200", ""},
      {"500 no such key", "-"},
      {"500", "-"},
      {"500 100%", "-"},
      {"400 database is down", "error: it says 400: database is down"},
      {"400 a%0Ab", "error: it says 400: a\\x0ab"},
      {"400", "error: it says 400"},
      {"200 50%", "error: it says nonsense: 200 50%"},
      {"200 %zz", "error: it says nonsense: 200 %zz"},
      {"200ok", "error: it says nonsense: 200ok"},
      {"5000 x", "error: it says nonsense: 5000 x"},
      {"250 ok", "error: it says nonsense: 250 ok"},
      {"", "error: it says nonsense: "},
  };
  for (const auto& c : cases) {
    INFO(c.line);
    const auto answer = parse_tcp_reply(c.line);
    CHECK((!answer ? "error: " + answer.error().step() : answer->value_or("-")) == c.want);
  }
}

TEST_CASE("where a tcp table is to be found", "[tables][tcp]") {
  for (const char* right : {"tcp:127.0.0.1:10003", "tcp:[::1]:10003", "tcp:localhost:1"}) {
    const auto spec = parse_spec(right);
    REQUIRE(spec.has_value());
    CHECK(spec->str() == right);
  }
  for (const char* wrong : {"tcp:", "tcp:127.0.0.1", "tcp:host.test:25", "tcp:127.0.0.1:0",
                            "tcp:127.0.0.1:99999", "tcp:unix:/run/x", "tcp:/run/x"})
    CHECK_FALSE(parse_spec(wrong).has_value());
}
