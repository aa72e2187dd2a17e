#include "delivery/site_rules.h"

#include <catch2/catch.hpp>

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
