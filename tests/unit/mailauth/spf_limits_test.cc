// RFC 7208 §4.6.4, and what hostile records try beyond it.
#include "mailauth/spf.h"
#include "tests/support/fake_zones.h"

#include <catch2/catch.hpp>

#include <string>
#include <vector>

namespace postrider::mailauth {
namespace {

using tests::FakeZones;

SpfVerdict check(FakeZones& dns, const std::string& domain,
                 const std::string& client = "192.0.2.4") {
  const auto address = IpAddress::parse(client).value();
  return dns.run(check_mail_from(address, "mail.spf.test", "ann@" + domain));
}

std::string repeated(const std::string& text, int times) {
  std::string out;
  for (int i = 0; i < times; ++i)
    out += text;
  return out;
}

TEST_CASE("SPF: 10 terms may ask", "[mailauth][spf]") {
  struct Case {
    std::string name;
    std::string record;
    std::string want;
  };
  const auto zone =
      "there.spf.test A 203.0.113.1\nthere.spf.test MX 10 there.spf.test\n"
      "in.spf.test TXT \"v=spf1" +
      repeated(" a:there.spf.test", 8) + "\"\n" + "192.0.2.4 PTR there.spf.test\n";
  const auto asks = [](int times) { return "v=spf1" + repeated(" a:there.spf.test", times); };
  const std::vector<Case> cases = {
      {"10 and one that matches", asks(10) + " ip4:192.0.2.4 -all", "pass"},
      {"11", asks(11) + " ip4:192.0.2.4 -all", "permerror"},
      {"a match before the 11th", asks(10) + " ip4:192.0.2.4" + " a:there.spf.test -all", "pass"},
      {"of several kinds",
       "v=spf1" + repeated(" a:there.spf.test mx:there.spf.test", 3) +
           repeated(" ptr exists:%{i}.there.spf.test", 2) + " -all",
       "fail"},
      {"the included count", "v=spf1 a:there.spf.test include:in.spf.test ip4:192.0.2.4 -all",
       "pass"},
      {"the included count too much",
       "v=spf1 a:there.spf.test include:in.spf.test a:there.spf.test ip4:192.0.2.4 -all",
       "permerror"},
      {"a redirection counts", asks(10) + " redirect=in.spf.test", "permerror"},
      {"the question of a macro counts", asks(9) + " a:%{p}.spf.test -all", "permerror"},
      {"those that do not ask do not count",
       "v=spf1" + repeated(" ip4:203.0.113.1", 5000) + " -all", "fail"},
  };
  for (const auto& c : cases)
    DYNAMIC_SECTION(c.name) {
      FakeZones dns(zone);
      dns.add_text("d.spf.test", c.record);
      const auto verdict = check(dns, "d.spf.test");
      INFO(verdict.reason);
      CHECK(to_string(verdict.result) == c.want);
      CHECK(dns.asked().size() <= 20);
    }
}

TEST_CASE("SPF: 2 terms may find nothing", "[mailauth][spf]") {
  FakeZones dns(R"(
    two.spf.test     TXT "v=spf1 a:gone.spf.test mx:bare.spf.test ?all"
    three.spf.test   TXT "v=spf1 a:gone.spf.test mx:bare.spf.test exists:away.spf.test ?all"
    inner.spf.test   TXT "v=spf1 include:two.spf.test exists:away.spf.test ?all"
    bare.spf.test    EXISTS
    hosts.spf.test   TXT "v=spf1 mx ip6:2001:db8::4 -all"
    hosts.spf.test   MX  10 a.spf.test
    hosts.spf.test   MX  10 b.spf.test
    hosts.spf.test   MX  10 c.spf.test
    a.spf.test       A   192.0.2.1
    b.spf.test       A   192.0.2.2
    c.spf.test       A   192.0.2.3
  )");
  CHECK(check(dns, "two.spf.test").result == SpfResult::neutral);
  CHECK(check(dns, "three.spf.test").result == SpfResult::permerror);
  CHECK(check(dns, "inner.spf.test").result == SpfResult::permerror);
  // Terms are counted: three mail hosts without IPv6 are one term.
  CHECK(check(dns, "hosts.spf.test", "2001:db8::4").result == SpfResult::pass);
}

TEST_CASE("SPF: 10 mail hosts, 10 names of a client", "[mailauth][spf]") {
  FakeZones dns(R"(
    mx10.spf.test  TXT "v=spf1 mx -all"
    mx11.spf.test  TXT "v=spf1 mx -all"
    ptr.spf.test   TXT "v=spf1 ptr:good.test ?all"
    many.spf.test  TXT "v=spf1 a -all"
  )");
  for (int i = 0; i < 11; ++i) {
    const auto n = std::to_string(i);
    if (i < 10)
      dns.add("mx10.spf.test MX " + n + " host" + n + ".spf.test");
    dns.add("mx11.spf.test MX " + n + " host" + n + ".spf.test");
    dns.add("host" + n + ".spf.test A 203.0.113." + n);
    dns.add("192.0.2.10 PTR host" + n + (i == 9 ? ".good.test" : ".bad.test"));
    dns.add("192.0.2.11 PTR host" + n + (i == 10 ? ".good.test" : ".bad.test"));
    dns.add("host" + n + ".good.test A 192.0.2.10\nhost" + n + ".good.test A 192.0.2.11");
    dns.add("host" + n + ".bad.test A 203.0.113.1");
    dns.add("many.spf.test A 192.0.2." + n);
  }
  CHECK(check(dns, "mx10.spf.test", "203.0.113.9").result == SpfResult::pass);
  CHECK(check(dns, "mx11.spf.test", "203.0.113.0").result == SpfResult::permerror);
  CHECK(check(dns, "ptr.spf.test", "192.0.2.10").result == SpfResult::pass);
  CHECK(check(dns, "ptr.spf.test", "192.0.2.11").result == SpfResult::neutral);
  CHECK(check(dns, "many.spf.test", "192.0.2.10").result == SpfResult::pass);
}

TEST_CASE("SPF: loops end", "[mailauth][spf]") {
  FakeZones dns(R"(
    redirect.spf.test  TXT "v=spf1 ip4:203.0.113.1 redirect=redirect.spf.test"
    include.spf.test   TXT "v=spf1 include:include.spf.test -all"
    ping.spf.test      TXT "v=spf1 include:pong.spf.test"
    pong.spf.test      TXT "v=spf1 redirect=ping.spf.test"
    tree.spf.test      TXT "v=spf1 include:a.%{d} include:b.%{d} -all"
  )");
  for (const std::string name : {"redirect", "include", "ping"}) {
    dns.forget_questions();
    CHECK(check(dns, name + ".spf.test").result == SpfResult::permerror);
    CHECK(dns.asked().size() == 11);
  }
  CHECK(check(dns, "tree.spf.test").result == SpfResult::permerror);
}

TEST_CASE("SPF: 1,000 includes ask no more than 10 times", "[mailauth][spf]") {
  FakeZones dns;
  std::string record = "v=spf1";
  for (int i = 0; i < 1000; ++i) {
    record += " include:n" + std::to_string(i) + ".spf.test";
    dns.add_text("n" + std::to_string(i) + ".spf.test", "v=spf1 ip4:203.0.113.1 ?all");
  }
  dns.add_text("d.spf.test", record + " -all");
  CHECK(check(dns, "d.spf.test").result == SpfResult::permerror);
  CHECK(dns.asked().size() == 11);
}

TEST_CASE("SPF: the most expensive records are bounded", "[mailauth][spf]") {
  // Ten mx terms with ten hosts each, in one record of 64 KiB with macros that explode.
  FakeZones dns;
  for (int i = 0; i < 10; ++i) {
    dns.add("big.spf.test MX 10 h" + std::to_string(i) + ".spf.test");
    dns.add("h" + std::to_string(i) + ".spf.test A 203.0.113.1");
  }
  std::string record = "v=spf1" + repeated(" mx:big.spf.test", 10);
  while (record.size() < 65'000)
    record += " exists:" + repeated("%{s}%{h}.", 40) + "%{d}";
  dns.add_text("d.spf.test", record);
  CHECK(check(dns, "d.spf.test").result == SpfResult::permerror);
  CHECK(dns.asked().size() == 111);
}

TEST_CASE("SPF: out of time is temperror", "[mailauth][spf]") {
  FakeZones dns("d.spf.test TXT \"v=spf1 include:slow.spf.test -all\"");
  const auto client = IpAddress::parse("192.0.2.4").value();
  Inquiry<SpfVerdict> inquiry(check_mail_from(client, "h.test", "ann@d.spf.test"));
  const auto first = inquiry.take();
  inquiry.answer(first.at(0).id, dns.look_up(first.at(0).question));
  CHECK(inquiry.take().at(0).question == Question{"slow.spf.test", Type::txt});
  inquiry.give_up("20 seconds are over");
  REQUIRE(inquiry.done());
  const auto verdict = inquiry.result();
  CHECK(verdict.result == SpfResult::temperror);
  CHECK(verdict.reason == "slow.spf.test: 20 seconds are over");
}

}  // namespace
}  // namespace postrider::mailauth
