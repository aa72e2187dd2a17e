// Netstrings, and what the answers of a socketmap mean.
#include "tables/netstring.h"

#include "tables/table.h"

#include <catch2/catch.hpp>

#include <string>

using namespace postrider;
using namespace postrider::tables;

TEST_CASE("netstrings come in any pieces, and are bounded", "[tables][socketmap]") {
  CHECK(netstring("name key") == "8:name key,");
  const std::string whole = netstring("OK a,b:c");
  for (std::size_t size = 0; size < whole.size(); ++size) {
    const auto part = parse_netstring(std::string_view(whole).substr(0, size));
    REQUIRE(part.has_value());
    CHECK_FALSE(part->has_value());
  }
  CHECK(**parse_netstring(whole) == "OK a,b:c");
  CHECK(**parse_netstring(whole + "3:x") == "OK a,b:c");
  CHECK((*parse_netstring("0:,"))->empty());
  for (const char* wrong : {":x,", "x", "-1:,", "3x", "03:abc,", "3:abcd", "100001:", "9999999",
                            "99999999999999999999:", " 3:abc,"})
    CHECK_FALSE(parse_netstring(wrong).has_value());
}

TEST_CASE("an answer is a value, none, or no answer", "[tables][socketmap]") {
  CHECK(**parse_socketmap_answer("OK ann@us.test") == "ann@us.test");
  CHECK((*parse_socketmap_answer("OK "))->empty());
  CHECK_FALSE((*parse_socketmap_answer("NOTFOUND ")).has_value());
  CHECK_FALSE((*parse_socketmap_answer("NOTFOUND")).has_value());
  for (const char* fails :
       {"TEMP database is down", "TIMEOUT ", "PERM wrong", "", "ok x", "OKAY x"})
    CHECK_FALSE(parse_socketmap_answer(fails).has_value());
  CHECK(parse_socketmap_answer("PERM a\nb").error().step() == "it says PERM: a\\x0ab");
}

TEST_CASE("where a socketmap is to be found", "[tables][socketmap]") {
  for (const char* right :
       {"socketmap:unix:/run/x:forward", "socketmap:inet:127.0.0.1:10003:postfix",
        "socketmap:inet:[::1]:10003:a", "socketmap:inet:localhost:1:a"}) {
    const auto spec = parse_spec(right);
    REQUIRE(spec.has_value());
    CHECK(spec->str() == right);
  }
  for (const char* wrong : {"socketmap:", "socketmap:unix:/run/x", "socketmap:unix:run/x:a",
                            "socketmap:inet:host.test:25:a", "socketmap:inet:127.0.0.1:0:a",
                            "socketmap:inet:127.0.0.1:99999:a", "socketmap:unix:/run/x:a b",
                            "socketmap:inet:127.0.0.1:25", "socketmap:tcp:127.0.0.1:25:a"})
    CHECK_FALSE(parse_spec(wrong).has_value());
}
