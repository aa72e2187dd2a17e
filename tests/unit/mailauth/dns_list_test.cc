#include "mailauth/dns_list.h"

#include "tests/support/fake_zones.h"

#include <catch2/catch.hpp>

#include <string>
#include <vector>

namespace postrider::mailauth {
namespace {

using tests::FakeZones;

IpAddress address(const std::string& text) {
  return IpAddress::parse(text).value();
}

std::vector<DnsList> lists(const std::vector<std::string>& texts) {
  std::vector<DnsList> all;
  for (const auto& text : texts)
    all.push_back(DnsList::parse(text).value());
  return all;
}

// "3: zen.test(3) 127.0.0.2,127.0.0.4 text; broken: other.test"
std::string describe(const ListVerdict& verdict) {
  std::string out = std::to_string(verdict.score) + ":";
  for (const auto& hit : verdict.hits) {
    out += " " + hit.zone + "(" + std::to_string(hit.weight) + ")";
    for (const auto& code : hit.codes)
      out += " " + code.str();
    out += hit.text.empty() ? "" : " '" + hit.text + "'";
  }
  for (const auto& [zone, reason] : verdict.broken)
    out += "; " + zone + " " + reason;
  return out;
}

TEST_CASE("lists are written as for postscreen", "[mailauth][dnsbl]") {
  const auto plain = DnsList::parse(" Zen.Example.ORG ").value();
  CHECK(plain.zone() == "zen.example.org");
  CHECK(plain.weight() == 1);
  CHECK(plain.counts(address("127.0.0.2")));
  CHECK_FALSE(plain.counts(address("192.0.2.1")));
  const auto filtered = DnsList::parse("zen.example.org=127.0.[0;2].[2..4;9]*-3").value();
  CHECK(filtered.weight() == -3);
  for (const std::string code : {"127.0.0.2", "127.0.2.4", "127.0.0.9"})
    CHECK(filtered.counts(address(code)));
  for (const std::string code : {"127.0.1.2", "127.0.0.5", "127.1.0.2", "127.0.0.1"})
    CHECK_FALSE(filtered.counts(address(code)));
  CHECK(DnsList::parse("zen.example.org=127.0.0.2").value().counts(address("127.0.0.2")));
  for (const std::string wrong :
       {"", "zen", "zen.example.org=", "zen.example.org*", "zen.example.org*x",
        "zen.example.org*1001", "zen.example.org=127.0.0", "zen.example.org=127.0.0.2.3",
        "zen.example.org=127.0.0.256", "zen.example.org=127.0.0.[2", "zen.example.org=127.0.0.[]",
        "zen.example.org=127.0.0.[9..2]", "zen.example.org=127.0.0.2..4",
        "zen.example.org=127.0.0.[2]x", "zen example.org", "zen.example.org=127.0.0.-2",
        ".example.org", "zen..org"}) {
    INFO(wrong);
    CHECK_FALSE(DnsList::parse(wrong).has_value());
  }
}

// RFC 5782 §2
TEST_CASE("names to ask lists for", "[mailauth][dnsbl]") {
  CHECK(listing_name(address("192.0.2.4"), "zen.test") == "4.2.0.192.zen.test");
  CHECK(listing_name(address("::ffff:192.0.2.4"), "zen.test") == "4.2.0.192.zen.test");
  CHECK(listing_name(address("2001:db8::1"), "zen.test") ==
        "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.zen.test");
  CHECK_FALSE(listing_name(IpAddress(), "zen.test"));
  CHECK(listing_name("Example.COM.", "dbl.test") == "example.com.dbl.test");
  CHECK_FALSE(listing_name("localhost", "dbl.test"));
  CHECK_FALSE(listing_name("[192.0.2.4]", "dbl.test"));
  CHECK_FALSE(listing_name("192.0.2.4", "dbl.test"));
  CHECK_FALSE(listing_name(std::string(60, 'a') + "." + std::string(60, 'b') + "." +
                               std::string(60, 'c') + "." + std::string(60, 'd') + ".test",
                           "dbl.test"));
}

TEST_CASE("a score of several lists", "[mailauth][dnsbl]") {
  FakeZones dns(R"(
    4.2.0.192.zen.test       A    127.0.0.4
    4.2.0.192.zen.test       A    127.0.0.11
    4.2.0.192.zen.test       TXT  "see https://zen.test/"
    4.2.0.192.welcome.test   A    127.0.5.1
    4.2.0.192.public.test    A    127.255.255.254
    4.2.0.192.madeup.test    A    198.51.100.7
    4.2.0.192.all.test       A    127.0.0.1
    4.2.0.192.mixed.test     A    127.0.0.2
    4.2.0.192.mixed.test     A    127.255.255.255
    4.2.0.192.bare.test      EXISTS
    4.2.0.192.slow.test      FAILS
    example.com.dbl.test     A    127.0.1.2
    example.org.dbl.test     A    127.0.1.255
  )");
  const auto client = address("192.0.2.4");
  const auto check = [&](const std::vector<std::string>& texts) {
    return describe(dns.run(check_lists(client, lists(texts))));
  };
  CHECK(check({"zen.test*3"}) == "3: zen.test(3) 127.0.0.4 127.0.0.11 'see https://zen.test/'");
  CHECK(check({"zen.test=127.0.0.2*3"}) == "0:");
  CHECK(check({"zen.test=127.0.0.4*3", "zen.test=127.0.0.[10..11]*2", "zen.test=127.0.0.9"}) ==
        "5: zen.test(5) 127.0.0.4 127.0.0.11 'see https://zen.test/'");
  CHECK(check({"zen.test", "welcome.test*-4", "clean.test", "bare.test", "slow.test"}) ==
        "-3: zen.test(1) 127.0.0.4 127.0.0.11 'see https://zen.test/' welcome.test(-4) 127.0.5.1");
  CHECK(check({"public.test"}) == "0:; public.test the list does not answer us: 127.255.255.254");
  CHECK(check({"madeup.test"}) == "0:; madeup.test an answer outside 127/8: 198.51.100.7");
  CHECK(check({"all.test"}) == "0:; all.test it lists everything: 127.0.0.1");
  CHECK(check({"mixed.test"}) == "0:; mixed.test the list does not answer us: 127.255.255.255");
  CHECK(check({}) == "0:");
  CHECK(describe(dns.run(check_lists(IpAddress(), lists({"zen.test"})))) == "0:");
  CHECK(describe(dns.run(check_lists(std::string("example.com"), lists({"dbl.test*2"})))) ==
        "2: dbl.test(2) 127.0.1.2");
  CHECK(describe(dns.run(check_lists(std::string("example.org"), lists({"dbl.test"})))) ==
        "0:; dbl.test an address was asked for in a list of domains: 127.0.1.255");
  CHECK(describe(dns.run(check_lists(std::string("localhost"), lists({"dbl.test"})))) == "0:");
  dns.forget_questions();
  (void)check({"zen.test=127.0.0.4", "zen.test=127.0.0.9", "clean.test"});
  CHECK(dns.asked() == std::vector<std::string>{"A 4.2.0.192.zen.test", "A 4.2.0.192.clean.test",
                                                "TXT 4.2.0.192.zen.test"});
}

}  // namespace
}  // namespace postrider::mailauth
