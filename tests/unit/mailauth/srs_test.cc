#include "mailauth/srs.h"

#include "base/text.h"

#include <catch2/catch.hpp>

#include <string>
#include <vector>

namespace postrider::mailauth {
namespace {

using std::chrono::hours;

constexpr TimePoint day(int number) {
  return TimePoint(hours(24 * number + 12));
}
// Its two digits are "JS".
constexpr int kDay = 20786;
constexpr TimePoint kNow = day(kDay);

SrsRules rules(const std::string& domain, std::vector<std::string> keys) {
  SrsRules rules;
  rules.domain = domain;
  rules.keys = std::move(keys);
  return rules;
}

std::string result_of(const Result<std::string>& result) {
  return result ? *result : "error: " + result.error().describe();
}

std::string without_hash(const std::string& address) {
  return address.substr(0, 5) + "HHHH" + address.substr(9);
}

TEST_CASE("SRS: a chain of forwarders and its way back", "[mailauth][srs]") {
  const Srs b(rules("b.test", {"key of b"})), c(rules("c.test", {"key of c"})),
      d(rules("d.test", {"key of d"}));
  const auto first = b.forward("Ann@a.test", kNow).value();
  CHECK(without_hash(first) == "SRS0=HHHH=JS=a.test=Ann@b.test");
  const auto second = c.forward(first, kNow).value();
  CHECK(without_hash(second) ==
        "SRS1=HHHH=b.test=" + first.substr(4, first.size() - 11) + "@c.test");
  const auto third = d.forward(second, kNow).value();
  CHECK(without_hash(third) == without_hash(second).substr(0, second.size() - 6) + "d.test");
  CHECK(third.substr(5, 4) != second.substr(5, 4));
  CHECK(d.reverse(third, kNow).value() == first);
  CHECK(c.reverse(second, kNow).value() == first);
  CHECK(b.reverse(first, kNow).value() == "Ann@a.test");
  CHECK(Srs::is_srs(first));
  CHECK(Srs::is_srs(third));
}

TEST_CASE("SRS: what is left as it is", "[mailauth][srs]") {
  const Srs srs(rules("b.test", {"key"}));
  CHECK(srs.forward("", kNow).value().empty());
  CHECK(srs.forward("ann@b.test", kNow).value() == "ann@b.test");
  CHECK(srs.forward("ann@B.Test", kNow).value() == "ann@B.Test");
  CHECK(srs.forward("nobody", kNow).error().code() == Errc::malformed);
  CHECK(srs.forward("a b@x.test", kNow).error().code() == Errc::malformed);
  for (const std::string address : {"ann@b.test", "SRS0@b.test", "SRS2=a=b=c=d@b.test",
                                    "xSRS0=a=b=c=d@b.test", "SRS0=HHHH=JS=a.test=ann@c.test"})
    CHECK(srs.reverse(address, kNow).error().code() == Errc::not_found);
  CHECK_FALSE(Srs::is_srs("ann@b.test"));
  CHECK_FALSE(Srs::is_srs("SRS0=x"));
  CHECK(Srs::is_srs("srs1+x@b.test"));
  CHECK(Srs::is_srs("\"SRS0=x y\"@b.test"));
}

TEST_CASE("SRS: local parts come back as they were", "[mailauth][srs]") {
  const Srs srs(rules("b.test", {"key"}));
  for (const std::string sender : {"ann@a.test",
                                   "a=b=c@a.test",
                                   "a+b@a.test",
                                   "\"a b\"@a.test",
                                   "\"a@b\"@a.test",
                                   "\"a\\\"b\"@a.test",
                                   "j\xc3\xbc@a.test",
                                   "x@[192.0.2.1]",
                                   "x@[IPv6:2001:db8::1]",
                                   "\"\"@a.test",
                                   "SRS0@a.test",
                                   "SRS0=short@a.test",
                                   "SRS1=short@a.test",
                                   "SRS1+HHHH=b.test=JS=a.test=ann@c.test",
                                   "SRS1=HHHH=b.test==JS=ann@c.test",
                                   "SRS1=HHHH=.test==HHHH=JS=a.test=ann@c.test",
                                   "SRS0=a==b=c@a.test",
                                   "SRS1+AAAA=b.-est=+HHHH=JS=a.test=a@c.test",
                                   "bounces-1+user=example.org@em.a.test",
                                   "prvs=1234567890=ann@a.test"}) {
    INFO(sender);
    const auto rewritten = srs.forward(sender, kNow);
    REQUIRE(rewritten);
    INFO(*rewritten);
    CHECK(result_of(srs.reverse(*rewritten, kNow)) == sender);
  }
  CHECK(srs.forward("ann@b\xc3\xbc"
                    "cher.test",
                    kNow)
            .value()
            .ends_with("=xn--bcher-kva.test=ann@b.test"));
}

TEST_CASE("SRS: letters in other cases, other separators", "[mailauth][srs]") {
  const Srs srs(rules("b.test", {"key"}));
  const auto address = srs.forward("Ann@A.test", kNow).value();
  CHECK(srs.reverse(ascii_lower(address), kNow).value() == "ann@a.test");
  auto separated = rules("b.test", {"key"});
  separated.separator = '+';
  const auto plus = Srs(separated).forward("Ann@a.test", kNow).value();
  CHECK(plus.starts_with("SRS0+"));
  CHECK(srs.reverse(plus, kNow).value() == "Ann@a.test");
  const Srs c(rules("c.test", {"other"}));
  const auto second = c.forward(plus, kNow).value();
  CHECK(second.find("=b.test=+") != std::string::npos);
  CHECK(c.reverse(second, kNow).value() == plus);
}

// attacks.md I18
TEST_CASE("SRS: I18: forged, replayed and expired addresses are refused", "[mailauth][srs]") {
  const Srs srs(rules("b.test", {"key"}));
  const auto address = srs.forward("ann@a.test", kNow).value();
  const auto refused = [&](const std::string& text, TimePoint now = kNow) {
    const auto result = srs.reverse(text, now);
    INFO(text);
    return !result &&
           (result.error().code() == Errc::refused || result.error().code() == Errc::malformed);
  };
  CHECK(refused("SRS0=AAAA=JS=a.test=ann@b.test"));
  CHECK(refused("SRS0=" + address.substr(5, 4) + "=JS=a.test=bob@b.test"));
  CHECK(refused("SRS0=" + address.substr(5, 4) + "=JS=c.test=ann@b.test"));
  CHECK(refused("SRS0=" + address.substr(5, 4) + "=JT=a.test=ann@b.test"));
  CHECK(refused("SRS0=" + address.substr(5, 3) + "=JS=a.test=ann@b.test"));
  CHECK(refused("SRS0==JS=a.test=ann@b.test"));
  CHECK(refused("SRS0=" + address.substr(5, 4) + "=JS=a.test=@b.test"));
  CHECK(refused("SRS0=" + address.substr(5, 4) + "=JS=a.test@b.test"));
  CHECK(refused("SRS1=AAAA=victim.test==HHHH=JS=a.test=ann@b.test"));
  CHECK(refused("SRS1" + address.substr(4)));
  CHECK(refused("SRS0=" + std::string(200, '=') + "@b.test"));
  for (const int age : {0, 1, 20, 21, -1})
    CHECK_FALSE(refused(address, day(kDay + age)));
  for (const int age : {22, 23, 500, 1000, 1022, -2, -30})
    CHECK(refused(address, day(kDay + age)));
}

TEST_CASE("SRS: keys are changed without losing what is under way", "[mailauth][srs]") {
  const Srs old_one(rules("b.test", {"old"})), both(rules("b.test", {"new", "old"})),
      new_one(rules("b.test", {"new"}));
  const auto before = old_one.forward("ann@a.test", kNow).value();
  const auto after = both.forward("ann@a.test", kNow).value();
  CHECK(before != after);
  CHECK(both.reverse(before, kNow).value() == "ann@a.test");
  CHECK(new_one.reverse(after, kNow).value() == "ann@a.test");
  CHECK(new_one.reverse(before, kNow).error().code() == Errc::refused);
}

TEST_CASE("SRS: limits", "[mailauth][srs]") {
  auto some = rules("b.test", {"key"});
  const Srs srs(some);
  const std::string local(64, 'x');
  CHECK(srs.forward(local + "@a.test", kNow));
  CHECK(srs.forward(std::string(180, 'x') + "@" + std::string(60, 'd') + ".test", kNow)
            .error()
            .code() == Errc::too_long);
  some.most_local_part = 64;
  const Srs narrow(some);
  const std::string overhead = "SRS0=HHHH=JS=a.test=";
  CHECK(narrow.forward(local.substr(overhead.size()) + "@a.test", kNow));
  CHECK(narrow.forward(local.substr(overhead.size() - 1) + "@a.test", kNow).error().code() ==
        Errc::too_long);
  some.hash_length = 20;
  some.least_hash_length = 10;
  const Srs longer(some);
  const auto address = longer.forward("a@a.test", kNow).value();
  CHECK(address.substr(0, 26).ends_with("="));
  CHECK(longer.reverse(address, kNow).value() == "a@a.test");
  CHECK(longer.reverse(address.substr(0, 15) + address.substr(25), kNow).value() == "a@a.test");
  CHECK(longer.reverse(address.substr(0, 14) + address.substr(25), kNow).error().code() ==
        Errc::refused);
}

}  // namespace
}  // namespace postrider::mailauth
