#include "delivery/site_rules.h"

#include <catch2/catch.hpp>

#include <map>

using namespace postrider;
using namespace postrider::delivery;

namespace {

SiteRule rule(std::vector<std::string> match, unsigned connections) {
  SiteRule rule;
  rule.match = std::move(match);
  rule.bounds.connections = connections;
  return rule;
}

std::vector<Host> hosts(const std::vector<std::string>& names) {
  std::vector<Host> all;
  for (const auto& name : names)
    all.push_back({10, name, false});
  return all;
}

}  // namespace

TEST_CASE("site rules: the first that matches counts", "[delivery][site_rules]") {
  const std::vector<SiteRule> rules = {rule({"mx:.google.com", "mx:mx.one.example"}, 1),
                                       rule({"example.org"}, 2),
                                       rule({".example.org", "mx:.example.net"}, 3)};
  const auto found = [&](std::string_view domain, const std::vector<std::string>& names) {
    const auto* one = find_site_rule(rules, domain, hosts(names));
    return one == nullptr ? 0U : one->bounds.connections;
  };
  CHECK(found("a.test", {"aspmx.l.google.com", "alt1.aspmx.L.GOOGLE.com."}) == 1);
  CHECK(found("example.org", {"aspmx.l.google.com"}) == 1);
  CHECK(found("a.test", {"mx.one.example"}) == 1);
  CHECK(found("a.test", {"a.mx.one.example"}) == 0);
  CHECK(found("a.test", {"aspmx.l.google.com", "mx.other.example"}) == 0);  // mixes providers
  CHECK(found("a.test", {"notgoogle.com"}) == 0);
  CHECK(found("a.test", {".google.com"}) == 0);
  CHECK(found("EXAMPLE.org", {"mx.test"}) == 2);
  CHECK(found("a.example.org", {"mx.test"}) == 3);
  CHECK(found("aexample.org", {"mx.test"}) == 0);
  CHECK(found("", {"mx.example.net"}) == 3);
  CHECK(found("", {}) == 0);
}

TEST_CASE("site rules: a provider is all of its hosts", "[delivery][site_rules]") {
  const std::vector<SiteRule> rules = {rule({"google"}, 1), rule({"Microsoft"}, 2),
                                       rule({"intranet"}, 3)};
  const auto found = [&](std::string_view domain, const std::vector<std::string>& names) {
    const auto* one = find_site_rule(rules, domain, hosts(names));
    return one == nullptr ? 0U : one->bounds.connections;
  };
  CHECK(found("a.test", {"aspmx.l.google.com", "aspmx2.googlemail.com"}) == 1);
  CHECK(found("a.test", {"aspmx.l.google.com", "mx.other.example"}) == 0);
  CHECK(found("a.test", {"a-test.mail.protection.outlook.com"}) == 2);
  CHECK(found("google", {"mx.test"}) == 0);  // not the domain
  CHECK(found("google", {}) == 0);
  CHECK(found("intranet", {"mx.test"}) == 3);
  CHECK_FALSE(scheduler::hosts_of_provider("GOOGLE").empty());
  CHECK(scheduler::hosts_of_provider("gogle").empty());
}

TEST_CASE("sources of a site take turns by their weights", "[delivery][site_rules]") {
  std::vector<scheduler::SiteSource> all;
  for (const char* text : {"192.0.2.1*3", "2001:db8::1", "192.0.2.2", "192.0.2.3*2"}) {
    const auto source = scheduler::parse_site_source(text);
    REQUIRE(source.has_value());
    all.push_back(*source);
  }
  std::map<std::string, int> times;
  for (std::uint64_t turn = 0; turn < 600; ++turn) {
    const auto chosen = choose_sources(all, turn);
    REQUIRE(chosen.size() == 2);
    CHECK(chosen[0].is_v4() != chosen[1].is_v4());
    for (const auto& one : chosen)
      ++times[one.str()];
  }
  CHECK(times["192.0.2.1"] == 300);
  CHECK(times["192.0.2.2"] == 100);
  CHECK(times["192.0.2.3"] == 200);
  CHECK(times["2001:db8::1"] == 600);
  CHECK(choose_sources({}, 7).empty());
  for (const char* wrong : {"", "*", "192.0.2.1*", "192.0.2.1*0", "192.0.2.1*1001", "192.0.2.1*-1",
                            "192.0.2.1 *2", "192.0.2.1*2*2", "a.test*2", "192.0.2.0/24"})
    CHECK_FALSE(scheduler::parse_site_source(wrong).has_value());
  CHECK(scheduler::parse_site_source("192.0.2.1*1000")->weight == 1000);
}
