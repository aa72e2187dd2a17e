#include "base/network.h"

#include <catch2/catch.hpp>

namespace postrider {
namespace {

using namespace std::string_literals;

TEST_CASE("addresses are read in their canonical forms only", "[base][network]") {
  CHECK(IpAddress::parse("192.0.2.1")->str() == "192.0.2.1");
  CHECK(IpAddress::parse("2001:DB8::1")->str() == "2001:db8::1");
  CHECK(IpAddress::parse("::ffff:192.0.2.1")->is_v4());
  CHECK(IpAddress::parse("192.0.2.1")->literal() == "[192.0.2.1]");
  CHECK(IpAddress::parse("2001:db8::1")->literal() == "[IPv6:2001:db8::1]");
  for (const auto& bad : {""s, "127.1"s, "0"s, "0x7f.1"s, "192.0.2.256"s, "192.0.2.1 "s,
                          "fe80::1%eth0"s, "[::1]"s, "192.0.2.1\0"s, std::string(1000, '1')})
    CHECK_FALSE(IpAddress::parse(bad).has_value());
}

TEST_CASE("networks contain their addresses", "[base][network]") {
  const auto contains = [](const char* network, const char* address) {
    return Network::parse(network)->contains(*IpAddress::parse(address));
  };
  CHECK(contains("127.0.0.0/8", "127.255.255.255"));
  CHECK_FALSE(contains("127.0.0.0/8", "128.0.0.0"));
  CHECK(contains("192.0.2.128/25", "192.0.2.128"));
  CHECK_FALSE(contains("192.0.2.128/25", "192.0.2.127"));
  CHECK(contains("0.0.0.0/0", "255.1.2.3"));
  CHECK_FALSE(contains("0.0.0.0/0", "2001:db8::1"));
  CHECK(contains("::/0", "2001:db8::1"));
  CHECK_FALSE(contains("::/0", "192.0.2.1"));
  CHECK(contains("2001:db8::/33", "2001:db8:7fff::"));
  CHECK_FALSE(contains("2001:db8::/33", "2001:db8:8000::"));
  CHECK(contains("::1", "::1"));
  CHECK_FALSE(Network::parse("::/0")->contains(IpAddress()));
}

TEST_CASE("a network that is not one is refused with advice", "[base][network]") {
  CHECK(Network::parse("192.0.2.1/24").error().describe().find("did you mean 192.0.2.0/24?") !=
        std::string::npos);
  for (const auto* bad : {"", "/", "192.0.2.0/33", "::/129", "192.0.2.0/-1", "192.0.2.0/", "x/8"})
    CHECK_FALSE(Network::parse(bad).has_value());
}

}  // namespace
}  // namespace postrider
