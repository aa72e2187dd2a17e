#include "delivery/routing/route.h"

#include "delivery/route_map.h"

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

TEST_CASE("a route may be of some senders alone", "[delivery][route]") {
  std::vector<Route> routes(3);
  routes[0].domain = "far.test";
  routes[0].senders = {"Ann@src.test", "<>"};
  routes[1].senders = {"shop.test", ".shop.test"};
  const auto chosen = [&](std::string_view sender, std::string_view domain = "far.test") {
    return find_route(routes, domain, sender) - routes.data();
  };
  CHECK(chosen("ann@src.test") == 0);
  CHECK(chosen("") == 0);
  CHECK(chosen("ann@src.test", "other.test") == 2);
  CHECK(chosen("x@shop.test") == 1);
  CHECK(chosen("x@MAIL.shop.test") == 1);
  CHECK(chosen("x@workshop.test") == 2);
  CHECK(chosen("shop.test") == 2);  // a name without a domain
  CHECK(find_route(routes, "far.test") == &routes[2]);
  CHECK(depends_on_sender(routes, "far.test"));
  CHECK(depends_on_sender(routes, "other.test"));
  std::swap(routes[1], routes[2]);
  CHECK_FALSE(depends_on_sender(routes, "other.test"));
}

TEST_CASE("what tells connections apart", "[delivery][route]") {
  Route route;
  CHECK(connection_tag(nullptr).empty());
  CHECK(connection_tag(&route).empty());
  route.sources = {*IpAddress::parse("192.0.2.1"), *IpAddress::parse("2001:db8::1")};
  route.helo = "out.test";
  CHECK(connection_tag(&route) == " from 192.0.2.1,2001:db8::1 as out.test");
}

TEST_CASE("a table of routes", "[delivery][route]") {
  std::vector<Route> routes(2);
  routes[0].next_hop = *parse_next_hop("smtp://relay.test:587");
  routes[0].senders = {"x@x.test"};
  routes[1].next_hop = *parse_next_hop("smtp://relay.test:587");
  routes[1].helo = "out.test";
  const auto way = [&](const std::string& entries, const std::string& address) {
    const RouteMap map(
        {tables::open_table(*tables::parse_spec("inline:{" + entries + "}"), {}).value()});
    const auto found = map.find(address, "+", routes);
    return found ? found->next_hop.describe() + connection_tag(&*found) : "none";
  };
  const std::string all =
      "ann@far.test=smtp://one.test, far.test=smtp://two.test, .far.test=smtp://three.test, "
      "relayed.test=smtp://relay.test:587, odd.test=nonsense, by.test=mx";
  CHECK(way(all, "ann@far.test") == "smtp://one.test:25");
  CHECK(way(all, "ann+tag@far.test") == "smtp://one.test:25");
  CHECK(way(all, "+ann@far.test") == "smtp://two.test:25");
  CHECK(way(all, "bob@far.test") == "smtp://two.test:25");
  CHECK(way(all, "bob@a.b.far.test") == "smtp://three.test:25");
  CHECK(way(all, "bob@other.test") == "none");
  CHECK(way(all + ", *=smtp://four.test", "bob@other.test") == "smtp://four.test:25");
  CHECK(way(all, "bob@relayed.test") == "smtp://relay.test:587 as out.test");
  CHECK(way(all, "bob@by.test") == "mx");
  CHECK(way(all, "bob@odd.test").starts_with("error:4.3.5"));
  CHECK(check_route_value(" smtp://one.test:25 ").empty());
  CHECK_FALSE(check_route_value("one.test").empty());
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
