#include "mailauth/spf.h"

#include "tests/support/fake_zones.h"

#include <catch2/catch.hpp>

#include <string>
#include <vector>

namespace postrider::mailauth {
namespace {

using tests::FakeZones;

constexpr auto kClient = "192.0.2.4";
constexpr auto kClient6 = "2001:db8:5::4";

struct Case {
  std::string name;
  std::string domain;  // of MAIL FROM, or a whole mailbox
  std::string want;
  std::string client = kClient;
  std::string helo = "mail.spf.test";
};

SpfVerdict check(FakeZones& dns, const Case& c) {
  const auto client = IpAddress::parse(c.client);
  const auto mailbox = c.domain.find('@') == std::string::npos ? "ann@" + c.domain : c.domain;
  return dns.run(check_mail_from(client.value(), c.helo, mailbox));
}

void check_all(std::string_view zone, const std::vector<Case>& cases) {
  for (const auto& c : cases)
    DYNAMIC_SECTION(c.name) {
      FakeZones dns(zone);
      const auto verdict = check(dns, c);
      INFO(verdict.reason);
      CHECK(to_string(verdict.result) == c.want);
      const bool has_reason = c.want == "none" || c.want == "permerror" || c.want == "temperror";
      CHECK(verdict.reason.empty() == !has_reason);
    }
}

// A zone with one record for each text, and a case that checks its domain.
struct Text {
  std::string record;
  std::string want;
};
void check_texts(const std::vector<Text>& texts, std::string_view more = "",
                 const std::string& client = kClient) {
  for (const auto& text : texts)
    DYNAMIC_SECTION(text.record) {
      FakeZones dns(more);
      dns.add_text("d.spf.test", text.record);
      const auto verdict = check(dns, Case{"", "d.spf.test", text.want, client});
      INFO(verdict.reason);
      CHECK(to_string(verdict.result) == text.want);
    }
}

const std::string kLabel63(63, 'a');
const std::string kLabel64(64, 'a');

// RFC 7208 §4.3
TEST_CASE("SPF: what can be checked at all", "[mailauth][spf]") {
  const std::string zone = kLabel63 + ".spf.test TXT \"v=spf1 -all\"\n" + R"(
    no-one.test     TXT "v=spf1 -all"
    helo.test       TXT "v=spf1 ip4:192.0.2.4 -all"
    xn--bcher-kva.test TXT "v=spf1 -all"
  )";
  const std::string bracketed = "[192.0.2.4]";
  check_all(zone, {
                      {"the longest label", kLabel63 + ".spf.test", "fail"},
                      {"a label too long", kLabel64 + ".spf.test", "none"},
                      {"empty labels", "a...spf.test", "none"},
                      {"a dot in front", ".spf.test", "none"},
                      {"a dot at the end", "no-one.test.", "fail"},
                      {"case does not matter", "NO-one.Test", "fail"},
                      {"an address literal", "ann@[192.0.2.4]", "none"},
                      {"one label", "ann@localhost", "none"},
                      {"no domain", "ann@", "none"},
                      {"no local part", "@no-one.test", "fail"},
                      {"an at sign in quotes", "\"a@helo.test\"@no-one.test", "fail"},
                      {"a U-label",
                       "b\xc3\xbc"
                       "cher.test",
                       "fail"},
                      {"octets that are no letters", "b\xff.test", "none"},
                      {"nothing published", "other.test", "none"},
                  });
  FakeZones dns(zone);
  const auto client = IpAddress::parse(kClient).value();
  CHECK(dns.run(check_helo(client, "helo.test")).result == SpfResult::pass);
  CHECK(dns.run(check_helo(client, "helo.test")).domain == "helo.test");
  CHECK(dns.run(check_mail_from(client, "helo.test", "")).result == SpfResult::pass);
  CHECK(dns.run(check_mail_from(client, "no-one.test", "")).result == SpfResult::fail);
  CHECK(dns.run(check_helo(client, "workstation")).result == SpfResult::none);
  CHECK(dns.run(check_mail_from(client, bracketed, "")).result == SpfResult::none);
  CHECK(dns.run(check_mail_from(client, "", "")).result == SpfResult::none);
  CHECK(dns.run(check_mail_from(IpAddress(), "helo.test", "a@no-one.test")).result ==
        SpfResult::none);
  CHECK(dns.asked() == std::vector<std::string>{"TXT helo.test", "TXT helo.test", "TXT helo.test",
                                                "TXT no-one.test"});
}

// §3.1, §3.3, §4.4, §4.5
TEST_CASE("SPF: the record is selected", "[mailauth][spf]") {
  check_all(R"(
    mail.spf.test       A   192.0.2.4
    version-only.test   TXT "v=spf1"
    joined-badly.test   TXT "v=spf1" "mx"
    joined-badly.test   MX  10 mail.spf.test
    joined.test         TXT "v=spf1 ip4:" "192.0.2.4 -all"
    other-version.test  TXT "v=spf10"
    other-version.test  TXT "v=spf1 mx"
    other-version.test  MX  0 mail.spf.test
    two.test            TXT "v=spf1 -all"
    two.test            TXT "v=spf1 +all"
    twins.test          TXT "v=spf1 -all"
    twins.test          TXT "v=spf1 -all"
    two-cases.test      TXT "v=spf1 -all"
    two-cases.test      TXT "V=sPf1 +all"
    mixed-case.test     TXT "V=SpF1 ~ALL"
    others.test         TXT "spf2.0/pra -all"
    others.test         TXT "v=DMARC1; p=none"
    others.test         TXT "\150 of no concern"
    others.test         TXT "v=spf1 -all"
    nothing-of-it.test  TXT "v=spf3 -all"
    empty-text.test     TXT ""
    empty-text.test     TXT "v=spf1 -all"
    tab.test            TXT "v=spf1\009-all"
    addresses-only.test A   192.0.2.4
    alias.test          CNAME two-spaces.test
    two-spaces.test     TXT "v=spf1  mx   -all"
    trailing.test       TXT "v=spf1 -all  "
    down.test           FAILS
  )",
            {
                {"a version without terms is neutral", "version-only.test", "neutral"},
                {"strings are joined without a space", "joined-badly.test", "none"},
                {"strings are joined within a term", "joined.test", "pass"},
                {"spf10 is another version", "other-version.test", "pass"},
                {"two records", "two.test", "permerror"},
                {"two equal records", "twins.test", "permerror"},
                {"two records in different case", "two-cases.test", "permerror"},
                {"any case", "mixed-case.test", "softfail"},
                {"other texts do not matter, whatever is in them", "others.test", "fail"},
                {"only other texts", "nothing-of-it.test", "none"},
                {"an empty text beside it", "empty-text.test", "fail"},
                {"a tab does not end the version", "tab.test", "none"},
                {"no TXT records", "addresses-only.test", "none"},
                {"by an alias", "alias.test", "fail"},
                {"several spaces", "two-spaces.test", "fail"},
                {"spaces at the end", "trailing.test", "fail"},
                {"the DNS fails", "down.test", "temperror"},
            });
}

// §4.6, §12
TEST_CASE("SPF: an error anywhere refuses the record", "[mailauth][spf]") {
  check_texts({
      {"v=spf1 ip4:192.0.2.4 -all wrong", "permerror"},
      {"v=spf1 -all wrong", "permerror"},
      {"v=spf1 ip4:192.0.2.4\rptr -all", "permerror"},
      {"v=spf1 ip4:192.0.2.4\n -all", "permerror"},
      {"v=spf1\tip4:192.0.2.4 -all", "none"},
      {"v=spf1 ip4:192.0.2.4\t-all", "permerror"},
      {std::string("v=spf1 a:spf.test\0 -all", 23), "permerror"},
      {"v=spf1 a:\xef\xbb\xbfspf.test -all", "permerror"},
      {"v=spf1 \x80"
       "a:spf.test -all",
       "permerror"},
      {"v=spf1 ip4:192.0.2.4 \x96"
       "all",
       "permerror"},
      {"v=spf1 \x7f", "permerror"},
      {"v=spf1 --all", "permerror"},
      {"v=spf1 -", "permerror"},
      {"v=spf1 +", "permerror"},
      {"v=spf1 - all", "permerror"},
      {"v=spf1 !all", "permerror"},
      {"v=spf1 :", "permerror"},
      {"v=spf1 /24", "permerror"},
      {"v=spf1 %", "permerror"},
      {"v=spf1 ip4:192.0.2.4, -all", "permerror"},
      {"v=spf1 +ip4:192.0.2.4 -all", "pass"},
      {"v=spf1 IP4:192.0.2.4 -ALL", "pass"},
      {"v=spf1 ?all -all", "neutral"},
      {"v=spf1 all -all", "pass"},
      {"v=spf1 ip4:192.0.2.5", "neutral"},
      {"v=spf1 -all.", "permerror"},
      {"v=spf1 -all:spf.test", "permerror"},
      {"v=spf1 -all/8", "permerror"},
      {"v=spf1 all=yes -all", "fail"},
      {"v=spf1 " + std::string(65000, ' ') + "-all", "fail"},
  });
}

// §5.6
TEST_CASE("SPF: ip4 and ip6", "[mailauth][spf]") {
  check_texts({
      {"v=spf1 ip4:192.0.2.4 -all", "pass"},
      {"v=spf1 ip4:192.0.2.4/32 -all", "pass"},
      {"v=spf1 ip4:192.0.2.7/30 -all", "pass"},
      {"v=spf1 ip4:192.0.2.8/29 -all", "fail"},
      {"v=spf1 ip4:203.0.113.1/0 -all", "pass"},
      {"v=spf1 ip4:192.0.2.4/33 -all", "permerror"},
      {"v=spf1 ip4:192.0.2.4/032 -all", "permerror"},
      {"v=spf1 ip4:192.0.2.4/ -all", "permerror"},
      {"v=spf1 ip4:192.0.2.4//32", "permerror"},
      {"v=spf1 ip4:192.0.2.4/24/24", "permerror"},
      {"v=spf1 ip4:192.0.2.4/4294967328", "permerror"},
      {"v=spf1 ip4", "permerror"},
      {"v=spf1 ip4:", "permerror"},
      {"v=spf1 ip4/24", "permerror"},
      {"v=spf1 ip4:192.0.2.4:25", "permerror"},
      {"v=spf1 ip4:192.0.2", "permerror"},
      {"v=spf1 ip4:192.0.02.4", "permerror"},
      {"v=spf1 ip4:192.0.2.256", "permerror"},
      {"v=spf1 ip4:2001:db8::1", "permerror"},
      {"v=spf1 ip4:%{i}", "permerror"},
      {"v=spf1 -all ip6", "permerror"},
      {"v=spf1 ip6:::192.0.2.4/0", "neutral"},
      {"v=spf1 ip6:::ffff:192.0.2.4 ~all", "softfail"},
      {"v=spf1 ip6:::192.0.2.4/129", "permerror"},
      {"v=spf1 ip6:::192.0.2.4//33", "permerror"},
      {"v=spf1 ip6::2001::1", "permerror"},
      {"v=spf1 ip6:2001:db8::1%eth0", "permerror"},
      {"v=spf1 ip6:[2001:db8::1]", "permerror"},
      {"v=spf1 ip6:192.0.2.4", "permerror"},
      {"v=spf1 ip6:2001:db8:8000::/33", "neutral"},
  });
}

TEST_CASE("SPF: ip6 against a client of IPv6", "[mailauth][spf]") {
  check_texts(
      {
          {"v=spf1 ip6:2001:db8:5::4 -all", "pass"},
          {"v=spf1 ip6:2001:DB8:5::/48 -all", "pass"},
          {"v=spf1 ip6:2001:db8:4::/47 -all", "pass"},
          {"v=spf1 ip6:2001:db8:4::/48 -all", "fail"},
          {"v=spf1 ip6:::192.0.2.4/0 -all", "pass"},
          {"v=spf1 ip6:::ffff:192.0.2.4/0 -all", "pass"},
          {"v=spf1 ip4:0.0.0.0/0 -all", "fail"},
      },
      "", kClient6);
  // §5: a client whose address is mapped is a client of IPv4.
  check_texts(
      {
          {"v=spf1 -ip4:192.0.2.4 ip6:::ffff:192.0.2.4", "fail"},
          {"v=spf1 ip6:::/0 ?all", "neutral"},
          {"v=spf1 a -all", "pass"},
      },
      "d.spf.test A 192.0.2.4", "::ffff:192.0.2.4");
}

const auto kAddresses = R"(
  d.spf.test          AAAA 2001:db8:5::1
  d.spf.test          A   192.0.2.9
  d.spf.test          MX  10 d.spf.test
  v4.spf.test         A   198.51.100.1
  v4.spf.test         A   192.0.2.4
  v4.spf.test         MX  10 other.spf.test
  v4.spf.test         MX  20 v4.spf.test
  other.spf.test      A   203.0.113.1
  v6.spf.test         AAAA 2001:db8:5::4
  v6.spf.test         MX  10 v6.spf.test
  mapped.spf.test     AAAA ::ffff:192.0.2.4
  odd:na/me.spf.test  A   192.0.2.4
  odd:na/me.spf.test  MX  10 odd:na/me.spf.test
  my.xn--p1ai         A   192.0.2.4
  my.xn--p1ai         MX  10 my.xn--p1ai
  null.spf.test       MX  0 .
  down.spf.test       FAILS
  to-down.spf.test    MX  10 v4.spf.test
  to-down.spf.test    MX  20 down.spf.test
  from-down.spf.test  MX  10 down.spf.test
  from-down.spf.test  MX  20 v4.spf.test
)";

// §5.3, §5.4, with {} for "a" and "mx"
TEST_CASE("SPF: a and mx have the same grammar", "[mailauth][spf]") {
  for (const std::string mechanism : {"a", "mx"}) {
    const auto m = [&](const std::string& rest) { return "v=spf1 " + mechanism + rest; };
    check_texts(
        {
            {m(" -all"), "fail"},
            {m("/24 -all"), "pass"},
            {m("/29 -all"), "fail"},
            {m("/28 -all"), "pass"},
            {m("/0 -all"), "pass"},
            {m("//0 -all"), "fail"},
            {m("//33 -all"), "fail"},
            {m("/24//64 -all"), "pass"},
            {m("/24/64 -all"), "permerror"},
            {m("/33 -all"), "permerror"},
            {m("//129 -all"), "permerror"},
            {m("/ -all"), "permerror"},
            {m("// -all"), "permerror"},
            {m("/024 -all"), "permerror"},
            {m("/-1 -all"), "permerror"},
            {m(":v4.spf.test -all"), "pass"},
            {m(":v4.spf.test. -all"), "pass"},
            {m(":V4.SPF.TEST -all"), "pass"},
            {m(":v4.spf.test/24 -all"), "pass"},
            {m(":v4.spf.test//24 -all"), "pass"},
            {m(":v4.spf.test/24/24"), "permerror"},
            {m(":v6.spf.test/0 -all"), "fail"},
            {m(":v6.spf.test//0 -all"), "fail"},
            {m(":mapped.spf.test//0 -all"), "fail"},
            {m(":odd:na/me.spf.test -all"), "pass"},
            {m(":my.xn--p1ai -all"), "pass"},
            {m(":gone.spf.test/0 -all"), "fail"},
            {m(":spf.test:25"), "permerror"},
            {m(":192.0.2.4"), "permerror"},
            {m(":spf.123"), "permerror"},
            {m(":spf.1-3 -all"), "fail"},
            {m(":test"), "permerror"},
            {m(":test."), "permerror"},
            {m(":.test -all"), "fail"},
            {m(":spf.-test"), "permerror"},
            {m(":spf.test-"), "permerror"},
            {m(":spf.te_st"), "permerror"},
            {m(":spf..test -all"), "fail"},
            {m(":"), "permerror"},
            {m(":/24"), "permerror"},
            {m("="), "neutral"},
            {m(".spf.test"), "permerror"},
            {m(":" + kLabel64 + ".spf.test -all"), "fail"},
            {m(":down.spf.test -all"), "temperror"},
        },
        kAddresses);
    check_texts(
        {
            {m(" -all"), "fail"},
            {m("/0 -all"), "fail"},
            {m("/24 -all"), "fail"},
            {m("//48 -all"), "pass"},
            {m("/24//64 -all"), "pass"},
            {m("//0 -all"), "pass"},
            {m(":v6.spf.test -all"), "pass"},
            {m(":v4.spf.test/0 -all"), "fail"},
            {m(":v4.spf.test//0 -all"), "fail"},
        },
        kAddresses, kClient6);
  }
}

TEST_CASE("SPF: mx looks at mail hosts only", "[mailauth][spf]") {
  check_texts(
      {
          {"v=spf1 mx:other.spf.test -all", "fail"},
          {"v=spf1 mx:null.spf.test ?all", "neutral"},
          {"v=spf1 mx:to-down.spf.test -all", "pass"},
          {"v=spf1 mx:from-down.spf.test -all", "temperror"},
      },
      kAddresses);
}

// §5.7
TEST_CASE("SPF: exists", "[mailauth][spf]") {
  const std::vector<Text> texts = {
      {"v=spf1 exists:v4.spf.test -all", "pass"},
      {"v=spf1 exists:v6.spf.test -all", "fail"},
      {"v=spf1 exists:gone.spf.test -all", "fail"},
      {"v=spf1 exists:down.spf.test -all", "temperror"},
      {"v=spf1 exists:", "permerror"},
      {"v=spf1 exists", "permerror"},
      {"v=spf1 exists/24", "permerror"},
      {"v=spf1 exists:v4.spf.test/24", "permerror"},
  };
  check_texts(texts, kAddresses);
  check_texts(texts, kAddresses, kClient6);
}

// §5.5
TEST_CASE("SPF: ptr", "[mailauth][spf]") {
  const auto zone = R"(
    192.0.2.4        PTR nobody.other.test
    192.0.2.4        PTR liar.spf.test
    192.0.2.4        PTR Mail.Host.test
    mail.host.test   A   192.0.2.4
    liar.spf.test    A   192.0.2.5
    2001:db8:5::4    PTR six.host.test
    six.host.test    AAAA 2001:db8:5::4
    six.host.test    A   192.0.2.4
    192.0.2.8        PTR down.host.test
    192.0.2.8        PTR eight.host.test
    down.host.test   FAILS
    eight.host.test  A   192.0.2.8
    9.2.0.192.in-addr.arpa FAILS
    192.0.2.10       PTR loop.host.test
    loop.host.test   CNAME loop.host.test
  )";
  const std::vector<Text> texts = {
      {"v=spf1 ptr:host.test -all", "pass"}, {"v=spf1 ptr:HOST.Test. -all", "pass"},
      {"v=spf1 ptr:ost.test -all", "fail"},  {"v=spf1 ptr:spf.test -all", "fail"},
      {"v=spf1 ptr -all", "fail"},           {"v=spf1 ptr/0 -all", "permerror"},
      {"v=spf1 ptr: -all", "permerror"},     {"v=spf1 ptr:host.test/24", "permerror"},
      {"v=spf1 ptr:%{d} -all", "fail"},      {"v=spf1 ptr:test -all", "permerror"},
  };
  check_texts(texts, zone);
  check_texts(texts, zone, kClient6);
  check_texts(
      {{"v=spf1 ptr:mail.host.test -all", "pass"}, {"v=spf1 ptr:other.test ~all", "softfail"}},
      zone);
  check_texts({{"v=spf1 ptr:eight.host.test -all", "pass"}}, zone, "192.0.2.8");
  check_texts({{"v=spf1 ptr:host.test -all", "fail"}}, zone, "192.0.2.9");
  check_texts({{"v=spf1 ptr:host.test -all", "fail"}}, zone, "192.0.2.10");
  check_texts({{"v=spf1 ptr:host.test -all", "fail"}}, zone, "192.0.2.11");
  FakeZones dns(std::string(zone) + "mail.host.test TXT \"v=spf1 ptr -all\"");
  CHECK(check(dns, {"", "mail.host.test", ""}).result == SpfResult::pass);
}

// §5.2
TEST_CASE("SPF: include", "[mailauth][spf]") {
  const auto zone = R"(
    yes.spf.test      TXT "v=spf1 ip4:192.0.2.4 -all"
    fail.spf.test     TXT "v=spf1 -all"
    soft.spf.test     TXT "v=spf1 ~all"
    neutral.spf.test  TXT "v=spf1 ?all"
    nothing.spf.test  TXT "v=spfl is not a version"
    wrong.spf.test    TXT "v=spf1 include +all"
    nested.spf.test   TXT "v=spf1 include:yes.spf.test"
    deep.spf.test     TXT "v=spf1 redirect=nested.spf.test"
    down.spf.test     FAILS
    both.spf.test     TXT "v=spf1 all"
    both.spf.test     TXT "v=spf1 all"
    one.spf.test      TXT "v=spf1 include:%{h}"
  )";
  check_texts(
      {
          {"v=spf1 include:yes.spf.test -all", "pass"},
          {"v=spf1 -include:yes.spf.test +all", "fail"},
          {"v=spf1 ?include:yes.spf.test -all", "neutral"},
          {"v=spf1 include:fail.spf.test ~all", "softfail"},
          {"v=spf1 include:soft.spf.test all", "pass"},
          {"v=spf1 include:neutral.spf.test -all", "fail"},
          {"v=spf1 include:down.spf.test -all", "temperror"},
          {"v=spf1 ip4:192.0.2.4 include:down.spf.test -all", "pass"},
          {"v=spf1 include:wrong.spf.test -all", "permerror"},
          {"v=spf1 include:nothing.spf.test -all", "permerror"},
          {"v=spf1 include:gone.spf.test -all", "permerror"},
          {"v=spf1 include:both.spf.test -all", "permerror"},
          {"v=spf1 include:nested.spf.test -all", "pass"},
          {"v=spf1 include:deep.spf.test -all", "pass"},
          {"v=spf1 include", "permerror"},
          {"v=spf1 include:", "permerror"},
          {"v=spf1 include:yes.spf.test/24 -all", "permerror"},
          {"v=spf1 include:" + kLabel64 + ".spf.test -all", "permerror"},
          {"v=spf1 include:a..spf.test -all", "permerror"},
      },
      zone);
}

// §6
TEST_CASE("SPF: modifiers", "[mailauth][spf]") {
  const auto zone = R"(
    yes.spf.test      TXT "v=spf1 ip4:192.0.2.4 -all"
    next.spf.test     TXT "v=spf1 redirect=yes.spf.test"
    own.spf.test      TXT "v=spf1 a -all"
    own.spf.test      A   192.0.2.4
    d.spf.test        A   192.0.2.5
    down.spf.test     FAILS
    two.spf.test      TXT "one"
    two.spf.test      TXT "two"
  )";
  check_texts(
      {
          {"v=spf1 redirect=yes.spf.test", "pass"},
          {"v=spf1 REDIRECT=yes.spf.test", "pass"},
          {"v=spf1 redirect=next.spf.test", "pass"},
          {"v=spf1 redirect=d.spf.test ~all", "softfail"},
          {"v=spf1 redirect=yes.spf.test ip4:192.0.2.4/24 ?all", "pass"},
          {"v=spf1 redirect=yes.spf.test -ip4:192.0.2.4", "fail"},
          {"v=spf1 redirect=own.spf.test", "pass"},
          {"v=spf1 redirect=gone.spf.test", "permerror"},
          {"v=spf1 redirect=" + kLabel64 + ".spf.test", "permerror"},
          {"v=spf1 redirect=down.spf.test", "temperror"},
          {"v=spf1 redirect:yes.spf.test", "permerror"},
          {"v=spf1 redirect=", "permerror"},
          {"v=spf1 ?all redirect=", "permerror"},
          {"v=spf1 redirect=-all ?all", "permerror"},
          {"v=spf1 redirect=yes.spf.test/24", "permerror"},
          {"v=spf1 redirect=yes.spf.test -all redirect=yes.spf.test", "permerror"},
          {"v=spf1 exp=text.spf.test redirect=yes.spf.test exp=text.spf.test", "permerror"},
          {"v=spf1 exp= -all", "permerror"},
          {"v=spf1 exp=-all", "permerror"},
          {"v=spf1 -all exp=gone.spf.test", "fail"},
          {"v=spf1 -all exp=down.spf.test", "fail"},
          {"v=spf1 -all exp=two.spf.test", "fail"},
          {"v=spf1 -all exp=%{r}.spf.test", "permerror"},
          {"v=spf1 a:gone.spf.test a:away.spf.test exp=lost.spf.test -all", "fail"},
          {"v=spf1 a.b-c_d9=odd:val/ue=x ip4:192.0.2.4 -all", "pass"},
          {"v=spf1 a.b/c=x -all", "permerror"},
          {"v=spf1 a.b:c=x -all", "permerror"},
          {"v=spf1 9lives=x -all", "permerror"},
          {"v=spf1 =all", "permerror"},
          {"v=spf1 -x=y -all", "permerror"},
          {"v=spf1 x= -all", "fail"},
          {"v=spf1 x=1 x=2 -all", "fail"},
          {"v=spf1 -all x=%y", "permerror"},
          {"v=spf1 -all x=%{z}", "permerror"},
          {"v=spf1 -all x=%{d0}", "permerror"},
          {"v=spf1 -all x=%{d1r-}%%%_%-%{t}", "fail"},
          {"v=spf1 default=pass", "neutral"},
          {"v=spf1 default=+", "neutral"},
      },
      zone);
  FakeZones dns;
  dns.add_text("d.spf.test", "v=spf1 -all exp=text.spf.test");
  (void)check(dns, {"", "d.spf.test", ""});
  CHECK(dns.asked() == std::vector<std::string>{"TXT d.spf.test"});
}

TEST_CASE("SPF: the directive that decided is told", "[mailauth][spf]") {
  FakeZones dns(R"(
    d.spf.test      TXT "v=spf1 ip4:203.0.113.0/24 ?include:in.spf.test -all"
    in.spf.test     TXT "v=spf1 ip4:192.0.2.0/24"
    far.spf.test    TXT "v=spf1 redirect=d.spf.test"
    wrong.spf.test  TXT "v=spf1 -all nonsense:\"x\""
  )");
  CHECK(check(dns, {"", "d.spf.test", ""}).directive == "?include:in.spf.test");
  CHECK(check(dns, {"", "d.spf.test", "", "198.51.100.1"}).directive == "-all");
  CHECK(check(dns, {"", "far.spf.test", "", "198.51.100.1"}).directive == "-all");
  CHECK(check(dns, {"", "in.spf.test", "", "198.51.100.1"}).directive.empty());
  CHECK(check(dns, {"", "wrong.spf.test", ""}).reason ==
        "SPF record at wrong.spf.test: 'nonsense:\"x\"': an unknown mechanism");
}

}  // namespace
}  // namespace postrider::mailauth
