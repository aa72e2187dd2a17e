#include "dns/name_server.h"

#include <catch2/catch.hpp>

namespace postrider::dns {

using namespace std::literals;

TEST_CASE("a server is an address with or without a port", "[dns][server]") {
  struct Case {
    std::string text;
    std::string want;  // empty: refused
  };
  const std::vector<Case> cases = {
      {"127.0.0.1", "127.0.0.1:53"},
      {"127.0.0.1:5353", "127.0.0.1:5353"},
      {"::1", "[::1]:53"},
      {"[::1]", "[::1]:53"},
      {"[::1]:5353", "[::1]:5353"},
      {"2001:db8::53", "[2001:db8::53]:53"},
      {"fe80::1%lo", "[fe80::1%lo]:53"},
      {"[fe80::1%lo]:53", "[fe80::1%lo]:53"},
      {"127.0.0.1:65535", "127.0.0.1:65535"},
      {"", ""},
      {"localhost", ""},
      {"127.0.0.1:", ""},
      {"127.0.0.1:0", ""},
      {"127.0.0.1:65536", ""},
      {"127.0.0.1:-1", ""},
      {"127.0.0.1:53x", ""},
      {"127.0.0.1 ", ""},
      {"127.0.0.1\0"s, ""},
      {"127.0.0.1.", ""},
      {"127.1", ""},
      {"[127.0.0.1]:53", ""},
      {"[::1", ""},
      {"[::1]53", ""},
      {"[::1]:", ""},
      {"[]:53", ""},
      {"::1:::", ""},
      {":53", ""},
      {std::string(1000, '1'), ""},
  };
  for (const auto& c : cases) {
    DYNAMIC_SECTION("\"" << c.text << "\"") {
      const auto server = parse_server(c.text);
      if (c.want.empty()) {
        CHECK_FALSE(server.has_value());
      } else {
        REQUIRE(server.has_value());
        CHECK(to_string(*server) == c.want);
        CHECK(parse_server(to_string(*server)).value() == *server);
      }
    }
  }
}

}  // namespace postrider::dns
