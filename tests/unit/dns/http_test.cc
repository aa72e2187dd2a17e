#include "base/log.h"
#include "dns/fetch.h"
#include "tests/support/zone_resolver.h"

#include <catch2/catch.hpp>

#include <optional>

using namespace postrider;
using dns::Families;

namespace {

// "192.0.2.1 2001:db8::1", or what went wrong.
std::string addresses(tests::ZoneResolver& resolver, const std::string& host, Families families) {
  Loop loop(0);
  NullLog log;
  std::string out;
  const auto look = [](dns::Resolver& from, std::string name, Families which,
                       std::string& text) -> Task<void> {
    auto found = co_await dns::addresses_of(from, std::move(name), which);
    if (!found)
      text = found.error().describe();
    else
      for (const auto& one : *found)
        text += (text.empty() ? "" : " ") + one.to_string();
  };
  loop.spawn(look(resolver, host, families, out), log, "look up");
  loop.finish();
  loop.run();
  return out;
}

}  // namespace

TEST_CASE("the addresses of a web server", "[dns][http]") {
  tests::ZoneResolver resolver(R"(
    both.test  A     192.0.2.1
    both.test  A     192.0.2.2
    both.test  AAAA  2001:db8::1
    four.test  A     192.0.2.4
    bare.test  EXISTS
  )");
  resolver.servfail("broken.test");
  resolver.servfail("half.test", "AAAA");
  resolver.add("half.test A 192.0.2.9");

  CHECK(addresses(resolver, "both.test", Families::both) == "2001:db8::1 192.0.2.1 192.0.2.2");
  CHECK(addresses(resolver, "both.test", Families::ipv4) == "192.0.2.1 192.0.2.2");
  CHECK(addresses(resolver, "both.test", Families::ipv6) == "2001:db8::1");
  CHECK(addresses(resolver, "four.test", Families::both) == "192.0.2.4");
  CHECK(addresses(resolver, "half.test", Families::both) == "192.0.2.9");
  CHECK(addresses(resolver, "bare.test", Families::both).find("bare.test has no address") == 0);
  CHECK(addresses(resolver, "broken.test", Families::both).find("look up broken.test: ") == 0);
}

TEST_CASE("an address and localhost are not looked up", "[dns][http]") {
  tests::ZoneResolver resolver;
  CHECK(addresses(resolver, "192.0.2.7", Families::both) == "192.0.2.7");
  CHECK(addresses(resolver, "::1", Families::both) == "::1");
  CHECK(addresses(resolver, "localhost", Families::both) == "::1 127.0.0.1");
  CHECK(addresses(resolver, "a.localhost", Families::ipv4) == "127.0.0.1");
  CHECK(resolver.asked().empty());
}
