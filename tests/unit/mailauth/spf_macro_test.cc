#include "mailauth/spf_macro.h"

#include "mailauth/spf.h"
#include "tests/support/fake_zones.h"

#include <catch2/catch.hpp>

#include <string>
#include <vector>

namespace postrider::mailauth {
namespace {

using tests::FakeZones;

MacroValues values() {
  MacroValues values;
  values.local_part = "strong-bad";
  values.sender_domain = "email.example.com";
  values.sender = "strong-bad@email.example.com";
  values.domain = "mx.example.org";
  values.helo = "helo.example.net";
  values.client = IpAddress::parse("192.0.2.3").value();
  values.validated_name = "mail.client.test";
  return values;
}

std::string expand(const std::string& text, const MacroValues& with) {
  const auto spec = DomainSpec::parse(text);
  if (!spec)
    return "error: " + spec.error().step();
  return spec->expand(with).value_or("nothing");
}

struct Case {
  std::string text;
  std::string want;
};

// RFC 7208 §7.2, §7.3, the examples of §7.4 among them
TEST_CASE("SPF macros expand", "[mailauth][spf]") {
  const std::string other = std::string("error: a macro letter for explanations only");
  const std::vector<Case> cases = {
      {"%{s}", "strong-bad@email.example.com"},
      {"%{o}", "email.example.com"},
      {"%{d}", "mx.example.org"},
      {"%{D}", "mx.example.org"},
      {"%{l}", "strong-bad"},
      {"%{l-}", "strong.bad"},
      {"%{lr}", "strong-bad"},
      {"%{lr-}", "bad.strong"},
      {"%{l1r-}", "strong"},
      {"%{o4}", "email.example.com"},
      {"%{o3}", "email.example.com"},
      {"%{o2}", "example.com"},
      {"%{o1}", "com"},
      {"%{or}", "com.example.email"},
      {"%{o2r}", "example.email"},
      {"%{O2R}", "example.email"},
      {"%{o99999999999999999999}", "email.example.com"},
      {"%{s-@}", "error: unknown transformer or delimiter of a macro"},
      {"%{s1-.}", "com"},
      {"%{d.}", "mx.example.org"},
      {"%{h}", "helo.example.net"},
      {"%{p}", "mail.client.test"},
      {"%{p2}", "client.test"},
      {"%{i}", "192.0.2.3"},
      {"%{ir}.%{v}.arpa", "3.2.0.192.in-addr.arpa"},
      {"%{ir}.%{v}.%{l1r-}.lp._spf.%{d2}", "3.2.0.192.in-addr.strong.lp._spf.example.org"},
      {"%{lr-}.lp.%{ir}.%{v}._spf.%{d2}", "bad.strong.lp.3.2.0.192.in-addr._spf.example.org"},
      {"a%%b%_c%-d.test", "a%b c%20d.test"},
      {"a.test.", "a.test"},
      {"%{d}.", "error: a domain without a valid top label"},
      {"a.test%%", "a.test%"},
      {"x%{d}test", "error: a domain without a valid top label"},
      {"x%{d}.test", "xmx.example.org.test"},
      {"%{c}", other},
      {"%{R}.test", other},
      {"%{t}", other},
      {"%{d0}", "error: a macro keeps 0 parts"},
      {"%{d00}", "error: a macro keeps 0 parts"},
      {"%{a}", "error: unknown macro letter"},
      {"%{}", "error: unknown macro letter"},
      {"%{dd}", "error: unknown transformer or delimiter of a macro"},
      {"%{dr2}", "error: unknown transformer or delimiter of a macro"},
      {"%{d:}", "error: unknown transformer or delimiter of a macro"},
      {"%{d", "error: a % that begins no macro"},
      {"%(d).test", "error: a % that begins no macro"},
      {"a.%", "error: a % that begins no macro"},
      {"", "error: a domain without a valid top label"},
  };
  for (const auto& c : cases)
    DYNAMIC_SECTION("'" << c.text << "'") {
      CHECK(expand(c.text, values()) == c.want);
    }
}

TEST_CASE("SPF macros take odd values as they are", "[mailauth][spf]") {
  auto with = values();
  with.client = IpAddress::parse("2001:db8::cb01").value();
  CHECK(expand("%{ir}.%{v}.arpa", with) ==
        "1.0.b.c.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa");
  CHECK(expand("%{i4}", with) == "c.b.0.1");
  with.local_part = "~jack&jill=up-a_b3.c";
  CHECK(expand("%{L}.test", with) == "~jack%26jill%3Dup-a_b3.c.test");
  CHECK(expand("%{l2r=+}.test", with) == "up-a_b3.c.~jack&jill.test");
  with.local_part = "a++b";
  CHECK(expand("%{l+}.test", with) == "nothing");  // an empty label
  CHECK(expand("%{l1+}.test", with) == "b.test");
  with.local_part = "b\xc3\xbc";  // RFC 8616 §4: matches nothing
  CHECK(expand("%{l}.test", with) == "nothing");
  CHECK(expand("%{L}.test", with) == "b%C3%BC.test");
  with.helo = "JUMPIN' JUPITER";
  CHECK(expand("%{h}", with) == "JUMPIN' JUPITER");
  with.helo = std::string("a\0b.test", 8);
  CHECK(expand("%{h}", with) == "nothing");
  with.helo.clear();
  CHECK(expand("%{h}", with) == "nothing");
}

// §7.3: labels are dropped on the left
TEST_CASE("SPF macros make names of 253 octets at most", "[mailauth][spf]") {
  auto with = values();
  with.domain = std::string(49, 'a') + "." + std::string(49, 'b') + "." + std::string(49, 'c') +
                "." + std::string(49, 'd') + "." + std::string(49, 'e');  // 249 octets
  CHECK(expand("abc.%{d}", with) == "abc." + with.domain);                // 253
  CHECK(expand("abcd.%{d}", with) == with.domain);
  CHECK(expand("x.yz.%{d}", with) == "yz." + with.domain);
  CHECK(expand("%{d}.%{d}", with) == with.domain);
  CHECK(expand("%{d}.test", with) == with.domain.substr(50) + ".test");
  CHECK(expand(std::string(300, 'a') + ".test", with) == "test");
  with.domain = std::string(300, 'a');
  CHECK(expand("%{d}", with) == "nothing");
}

TEST_CASE("SPF macros that explode stay small and quick", "[mailauth][spf]") {
  auto with = values();
  std::string text;
  while (text.size() < 65000)
    text += "%{s}%{l}.";
  CHECK(expand(text + "%{d}", with).size() <= 253);
  with.helo = std::string(100'000, '.');
  CHECK(expand("%{hr}%{h1}.test", with) == "nothing");
  std::string nested = "%{" + std::string(60'000, '1') + "}";
  CHECK(expand(nested, with) == "error: unknown macro letter");
  CHECK(expand("%{d" + std::string(60'000, '1') + std::string(1000, '.') + "}", with) ==
        "mx.example.org");
}

TEST_CASE("SPF macros in records", "[mailauth][spf]") {
  struct RecordCase {
    std::string name;
    std::string record;
    std::string want;
    std::string client = "192.0.2.3";
    std::string helo = "mail.client.test";
    std::string sender = "foo-bar+zip+quux@d.spf.test";
  };
  const auto zone = R"(
    192.0.2.3                    PTR mail.client.test
    192.0.2.3                    PTR relay.d.spf.test
    mail.client.test             A   192.0.2.3
    relay.d.spf.test             A   192.0.2.3
    relay.d.spf.test.list.test   A   127.0.0.2
    192.0.2.8                    PTR mail.liar.test
    mail.liar.test               A   192.0.2.9
    unknown.list.test            A   127.0.0.2
    192.0.2.7                    PTR any.host.test
    any.host.test                A   192.0.2.7
    any.host.test.list.test      A   127.0.0.2
    192.0.2.3.foo.user.spf.test  A   127.0.0.2
    bar.foo.user.spf.test        A   127.0.0.2
    a%b\032c%20d.spf.test        A   192.0.2.3
    d.spf.test.by.spf.test       TXT "v=spf1 include:in.by.spf.test. ~all"
    in.by.spf.test               TXT "v=spf1 ip4:192.0.2.3"
    xn--bcher-kva.test           TXT "v=spf1 redirect=d.spf.test"
    xn--bcher-kva.test.list.test A   127.0.0.2
    _helo.spf.test               TXT "v=spf1 -a:%{h} +all"
  )";
  const std::vector<RecordCase> cases = {
      {"p prefers a name below the domain", "v=spf1 exists:%{p}.list.test -all", "pass"},
      {"p that does not lead back is unknown", "v=spf1 exists:%{p}.list.test -all", "pass",
       "192.0.2.8"},
      {"p takes any name", "v=spf1 exists:%{p}.list.test -all", "pass", "192.0.2.7"},
      {"p without any name", "v=spf1 exists:%{p}.list.test -all", "pass", "192.0.2.6"},
      {"parts of the local part", "v=spf1 exists:%{i}.%{l1r+-}.user.%{d2} -all", "pass"},
      {"the last part, reversed", "v=spf1 exists:%{i}.%{l1r-}.user.%{d2} -all", "pass"},
      {"the right hand of it, reversed", "v=spf1 exists:%{l2r+-}.user.%{d2} -all", "pass"},
      {"escapes", "v=spf1 a:a%%b%_c%-d.spf.test -all", "pass"},
      {"dots at the end of targets", "v=spf1 redirect=%{d}.by.spf.test.", "pass"},
      {"HELO", "v=spf1 a:%{H} -all", "pass"},
      {"HELO that is none", "v=spf1 a:%{H} -all", "fail", "192.0.2.3", "JUMPIN' JUPITER"},
      {"HELO of an address", "v=spf1 a:%{H} -all", "fail", "192.0.2.3", "[192.0.2.3]"},
      {"HELO of percent signs", "v=spf1 a:%{H}.bar -all", "fail", "192.0.2.3",
       std::string(22, '%')},
      {"a valid HELO is wanted", "v=spf1 -include:_helo.%{d2} ip4:192.0.2.0/24 -all", "fail",
       "192.0.2.3", "WORKSTATION"},
      {"no local part", "v=spf1 exists:%{l}.list.test -all", "fail", "192.0.2.3", "h.test",
       "@d.spf.test"},
      {"a U-label is its A-label", "v=spf1 exists:%{o}.list.test -all", "pass", "192.0.2.3",
       "h.test",
       "ann@b\xc3\xbc"
       "cher.test"},
      {"a letter that is none", "v=spf1 a:%{a}.spf.test -all", "permerror"},
      {"round brackets", "v=spf1 -exists:%(ir).list.test ?all", "permerror"},
      {"a single sign", "v=spf1 exists:foo%.list.test ?all", "permerror"},
  };
  for (const auto& c : cases)
    DYNAMIC_SECTION(c.name) {
      FakeZones dns(zone);
      dns.add_text("d.spf.test", c.record);
      const auto client = IpAddress::parse(c.client).value();
      const auto verdict = dns.run(check_mail_from(client, c.helo, c.sender));
      INFO(verdict.reason);
      CHECK(to_string(verdict.result) == c.want);
    }
}

}  // namespace
}  // namespace postrider::mailauth
