#include "delivery/routing/route.h"

#include <catch2/catch.hpp>

using namespace postrider;
using namespace postrider::delivery;

TEST_CASE("next hops are read, and shown as they mean", "[delivery][route]") {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"mx", "mx"},
      {"smtp://relay.example.net:587", "smtp://relay.example.net:587"},
      {"smtp://Relay.Example.NET", "smtp://relay.example.net:25"},
      {"smtp://[192.0.2.1]", "smtp://192.0.2.1:25"},
      {"smtp://192.0.2.1:2525", "smtp://192.0.2.1:2525"},
      {"smtp://[2001:DB8::1]:26", "smtp://[2001:db8::1]:26"},
      {"smtp://[IPv6:2001:db8::1]", "smtp://[2001:db8::1]:25"},
      {"smtp://[relay.example.net]:25", "smtp://relay.example.net:25"},
      {"smtps://relay.example.net", "smtps://relay.example.net:465"},
      {"lmtp://127.0.0.1:24/", "lmtp://127.0.0.1:24"},
      {"lmtp:///run/dovecot/lmtp", "lmtp:///run/dovecot/lmtp"},
      {"error:5.1.2 No such domain here", "error:5.1.2 No such domain here"},
      {"error: 4.3.2", "error:4.3.2 Mail for this address is refused"},
      {"discard:", "discard:"},
  };
  for (const auto& [text, shown] : cases) {
    INFO(text);
    const auto hop = parse_next_hop(text);
    REQUIRE(hop.has_value());
    CHECK(hop->describe() == shown);
  }
  for (const char* text :
       {"", "relay.example.net", "smtp://", "smtp://a b", "smtp://x:0", "smtp://x:65536",
        "smtp://x:", "error:2.0.0 fine", "error:no", "ftp://x", "discard", "smtp://x/y"}) {
    INFO(text);
    CHECK_FALSE(parse_next_hop(text).has_value());
  }
}

TEST_CASE("the first route that matches wins", "[delivery][route]") {
  std::vector<Route> routes;
  for (const char* domain : {"example.org", ".example.org", ".net", "*"})
    routes.emplace_back().domain = domain;
  CHECK(find_route(routes, "example.org")->domain == "example.org");
  CHECK(find_route(routes, "a.example.org")->domain == ".example.org");
  CHECK(find_route(routes, "a.b.example.org")->domain == ".example.org");
  CHECK(find_route(routes, "notexample.org")->domain == "*");
  CHECK(find_route(routes, "x.net")->domain == ".net");
  CHECK(find_route(routes, "net")->domain == "*");
  routes.pop_back();
  CHECK(find_route(routes, "other.test") == nullptr);
  CHECK(is_route_domain("*"));
  CHECK(is_route_domain(".example.org"));
  CHECK_FALSE(is_route_domain("*.example.org"));
  CHECK_FALSE(is_route_domain(""));
}
