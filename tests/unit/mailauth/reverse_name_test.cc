#include "mailauth/reverse_name.h"

#include <catch2/catch.hpp>

namespace postrider::mailauth {
namespace {

TEST_CASE("addresses become names", "[mailauth][reverse]") {
  const auto v4 = IpAddress::parse("192.0.2.1").value();
  CHECK(reverse_name(v4) == "1.2.0.192.in-addr.arpa");
  CHECK(dotted_parts(v4) == "192.0.2.1");
  const auto v6 = IpAddress::parse("2001:db8:567:89ab::cb01").value();
  CHECK(reverse_name(v6) ==
        "1.0.b.c.0.0.0.0.0.0.0.0.0.0.0.0.b.a.9.8.7.6.5.0.8.b.d.0.1.0.0.2.ip6.arpa");
  CHECK(dotted_parts(v6) == "2.0.0.1.0.d.b.8.0.5.6.7.8.9.a.b.0.0.0.0.0.0.0.0.0.0.0.0.c.b.0.1");
  CHECK(reverse_name(IpAddress()).empty());
  CHECK(reversed_parts(IpAddress()).empty());
}

}  // namespace
}  // namespace postrider::mailauth
