#include "mailauth/dmarc.h"

#include "tests/support/fake_zones.h"

#include <catch2/catch.hpp>

#include <algorithm>
#include <string>
#include <vector>

namespace postrider::mailauth {
namespace {

using tests::FakeZones;

// "spf:example.org dkim:mail.example.org dkim?:slow.test"
std::vector<Identifier> identifiers(const std::string& text) {
  std::vector<Identifier> all;
  std::size_t at = 0;
  while (at < text.size()) {
    const auto end = std::min(text.find(' ', at), text.size());
    const auto word = text.substr(at, end - at);
    Identifier one;
    one.method = word.starts_with("spf") ? Identifier::Method::spf : Identifier::Method::dkim;
    one.is_certain = word.find('?') == std::string::npos;
    one.domain = word.substr(word.find(':') + 1);
    all.push_back(one);
    at = end + 1;
  }
  return all;
}

// "fail reject at example.org", "pass spf+dkim", "none", "temperror"
std::string describe(const DmarcVerdict& verdict) {
  std::string out(to_string(verdict.result));
  if (verdict.result == DmarcResult::fail)
    out += " " + std::string(to_string(verdict.applied));
  if (verdict.result == DmarcResult::pass)
    out += verdict.spf_aligned && verdict.dkim_aligned ? " spf+dkim"
           : verdict.spf_aligned                       ? " spf"
                                                       : " dkim";
  if (!verdict.policy_domain.empty())
    out += " at " + verdict.policy_domain;
  CHECK(verdict.reason.empty() ==
        (verdict.result == DmarcResult::pass || verdict.result == DmarcResult::fail));
  CHECK((verdict.result == DmarcResult::fail || verdict.wish() == DmarcPolicy::none));
  return out;
}

struct Case {
  std::string name;
  std::string author;
  std::string passed;
  std::string want;
  std::size_t most_questions = 20;
};

void check_all(std::string_view zone, const std::vector<Case>& cases) {
  for (const auto& c : cases)
    DYNAMIC_SECTION(c.name) {
      FakeZones dns(zone);
      const auto verdicts = dns.run(check_dmarc({c.author}, identifiers(c.passed)));
      REQUIRE(verdicts.size() == 1);
      CHECK(describe(verdicts[0]) == c.want);
      CHECK(verdicts[0].author_domain == c.author);
      CHECK(dns.asked().size() <= c.most_questions);
      auto asked = dns.asked();
      std::sort(asked.begin(), asked.end());
      CHECK(std::adjacent_find(asked.begin(), asked.end()) == asked.end());
    }
}

// RFC 9989 §4.10
TEST_CASE("DMARC: the names of a tree walk", "[mailauth][dmarc]") {
  using Names = std::vector<std::string>;
  CHECK(tree_walk("a.mail.example.com") ==
        Names{"a.mail.example.com", "mail.example.com", "example.com", "com"});
  CHECK(tree_walk("com") == Names{"com"});
  CHECK(tree_walk("a.b.c.d.e.f.g.com") == Names{"a.b.c.d.e.f.g.com", "b.c.d.e.f.g.com",
                                                "c.d.e.f.g.com", "d.e.f.g.com", "e.f.g.com",
                                                "f.g.com", "g.com", "com"});
  CHECK(tree_walk("a.b.c.d.e.f.g.h.i.j.mail.example.com") ==
        Names{"a.b.c.d.e.f.g.h.i.j.mail.example.com", "g.h.i.j.mail.example.com",
              "h.i.j.mail.example.com", "i.j.mail.example.com", "j.mail.example.com",
              "mail.example.com", "example.com", "com"});
  std::string deep = "com";
  for (int i = 0; i < 100; ++i)
    deep.insert(0, "a.");
  CHECK(tree_walk(deep).size() == 8);
}

// §4.10.2
TEST_CASE("DMARC: the Organizational Domain", "[mailauth][dmarc]") {
  struct OrganizationCase {
    std::string name;
    std::string domain;
    std::string want;
  };
  const auto zone = R"(
    _dmarc.mail.example.com    TXT "v=DMARC1; p=none"
    _dmarc.example.com         TXT "v=DMARC1; p=none"
    _dmarc.unit.example.net    TXT "v=DMARC1; p=none; psd=n"
    _dmarc.example.net         TXT "v=DMARC1; p=none"
    _dmarc.org                 TXT "v=DMARC1; p=none; psd=y"
    _dmarc.bank                TXT "v=DMARC1; psd=y"
    _dmarc.b.bank              TXT "v=DMARC1; p=none; psd=y"
    _dmarc.x.a.b.bank          TXT "v=DMARC1; p=none"
    _dmarc.twice.example.com   TXT "v=DMARC1; p=none; psd=n"
    _dmarc.twice.example.com   TXT "v=DMARC1; p=none; psd=n"
    _dmarc.other.example.com   TXT "v=spf1 -all"
    _dmarc.other.example.com   TXT "v=DMARC1; p=none; psd=n"
    _dmarc.c.d.e.f.g.h.deep    TXT "v=DMARC1; p=none; psd=y"
    _dmarc.test                TXT "v=DMARC1; p=none"
    _dmarc.slow                FAILS
  )";
  const std::vector<OrganizationCase> cases = {
      {"the fewest labels", "a.mail.example.com", "example.com"},
      {"psd=n ends it", "a.unit.example.net", "unit.example.net"},
      {"beside psd=n", "other.example.net", "example.net"},
      {"one below psd=y", "a.mail.example.org", "example.org"},
      {"psd=y does not count where it begins", "org", "org"},
      {"a suffix below a suffix", "x.a.b.bank", "a.b.bank"},
      {"a suffix of its own", "b.bank", "b.bank"},
      {"no record at all", "a.b.example.edu", "a.b.example.edu"},
      {"several records are none", "x.twice.example.com", "example.com"},
      {"texts of others do not count", "x.other.example.com", "other.example.com"},
      {"one below a suffix that is far down", "a.b.c.d.e.f.g.h.deep", "b.c.d.e.f.g.h.deep"},
      {"a suffix that does not say so", "example.test", "test"},
      {"the DNS fails above", "example.slow", "nothing"},
  };
  for (const auto& c : cases)
    DYNAMIC_SECTION(c.name) {
      FakeZones dns(zone);
      CHECK(dns.run(organizational_domain(c.domain)).value_or("nothing") == c.want);
      CHECK(dns.asked().size() <= 8);
    }
}

// §4.10.1
TEST_CASE("DMARC: the policy that applies", "[mailauth][dmarc]") {
  check_all(
      R"(
    _dmarc.example.com      TXT "v=DMARC1; p=reject; sp=quarantine; np=none"
    here.example.com        A   192.0.2.1
    bare.example.com        EXISTS
    slow.example.com        FAILS
    _dmarc.own.example.com  TXT "v=DMARC1; p=none; sp=reject"
    _dmarc.p.test           TXT "v=DMARC1; p=reject"
    _dmarc.sp.test          TXT "v=DMARC1; p=reject; sp=none"
    _dmarc.np.test          TXT "v=DMARC1; p=none; np=reject"
    slow.np.test            FAILS
    alias.np.test           CNAME nowhere.test
    _dmarc.psd.test         TXT "v=DMARC1; p=none; sp=quarantine; np=reject; psd=y"
    reg.psd.test            A   192.0.2.1
    _dmarc.ours.psd.test    TXT "v=DMARC1; p=quarantine"
    _dmarc.t.test           TXT "v=DMARC1; p=reject; sp=quarantine; t=y"
    _dmarc.tnone.test       TXT "v=DMARC1; p=none; t=y"
    _dmarc.bad.test         TXT "v=DMARC1; p=foo"
    _dmarc.badrua.test      TXT "v=DMARC1; p=foo; rua=mailto:a@b.test"
    _dmarc.two.test         TXT "v=DMARC1; p=reject"
    _dmarc.two.test         TXT "v=DMARC1; p=none"
    _dmarc.split.test       TXT "v=DMA" "RC1; p=rej" "ect"
    _dmarc.alias.test       CNAME _dmarc.p.test
    _dmarc.a.b.c.d.e.f.g.long.test TXT "v=DMARC1; p=reject"
    _dmarc.c.d.e.f.g.long.test     TXT "v=DMARC1; p=none; sp=quarantine"
    _dmarc.slow.test        FAILS
    _dmarc.below.slow.test  TXT "v=DMARC1; p=reject"
  )",
      {
          {"p at the author domain", "example.com", "", "fail reject at example.com", 1},
          {"sp for a subdomain", "here.example.com", "", "fail quarantine at example.com"},
          {"np for one that does not exist", "gone.example.com", "", "fail none at example.com"},
          {"a name without records exists", "bare.example.com", "",
           "fail quarantine at example.com"},
          {"not known whether it exists", "slow.example.com", "", "temperror at example.com"},
          {"not known, and np is stricter", "slow.np.test", "", "temperror at np.test"},
          {"an alias to nowhere exists", "alias.np.test", "", "fail none at np.test"},
          {"np alone", "gone.np.test", "", "fail reject at np.test"},
          {"a record of its own", "own.example.com", "", "fail none at own.example.com", 1},
          {"sp of a record below does not count", "x.own.example.com", "",
           "fail none at example.com"},
          {"sp falls to p", "x.p.test", "", "fail reject at p.test"},
          {"np falls to sp", "x.sp.test", "", "fail none at sp.test"},
          {"the suffix above", "reg.psd.test", "", "fail quarantine at psd.test"},
          {"the suffix above, not existing", "x.y.psd.test", "", "fail reject at psd.test"},
          {"the organization before its suffix", "x.ours.psd.test", "",
           "fail quarantine at ours.psd.test"},
          {"the suffix itself", "psd.test", "", "fail none at psd.test", 1},
          {"testing: one step milder", "t.test", "", "fail quarantine at t.test"},
          {"testing, a subdomain", "x.t.test", "", "fail none at t.test"},
          {"testing what is none", "tnone.test", "", "fail none at tnone.test"},
          {"no valid policy", "bad.test", "spf:bad.test", "none"},
          {"no valid policy, for reports", "badrua.test", "", "fail none at badrua.test"},
          {"two records", "two.test", "spf:two.test", "none"},
          {"a record in pieces", "split.test", "", "fail reject at split.test"},
          {"by an alias", "alias.test", "", "fail reject at alias.test"},
          {"nothing published", "example.net", "spf:example.net", "none", 2},
          {"a long name's own record", "a.b.c.d.e.f.g.long.test", "",
           "fail reject at a.b.c.d.e.f.g.long.test", 1},
          {"a long name", "x.b.c.d.e.f.g.long.test", "", "fail quarantine at c.d.e.f.g.long.test",
           8},
          {"the DNS fails", "slow.test", "spf:slow.test", "temperror"},
          {"the DNS fails above", "x.slow.test", "spf:x.slow.test", "temperror"},
          {"the DNS fails above, which is not needed", "below.slow.test", "",
           "fail reject at below.slow.test"},
      });
}

// §4.4
TEST_CASE("DMARC: alignment", "[mailauth][dmarc]") {
  check_all(
      R"(
    _dmarc.example.com         TXT "v=DMARC1; p=reject"
    _dmarc.strict.test         TXT "v=DMARC1; p=reject; adkim=s; aspf=s"
    _dmarc.dkimstrict.test     TXT "v=DMARC1; p=reject; adkim=s"
    _dmarc.spfstrict.test      TXT "v=DMARC1; p=reject; aspf=s"
    _dmarc.b.psd               TXT "v=DMARC1; p=reject"
    _dmarc.psd                 TXT "v=DMARC1; p=none; psd=y"
    _dmarc.n.example.com       TXT "v=DMARC1; p=quarantine; psd=n"
    _dmarc.co.test             TXT "v=DMARC1; p=none"
    _dmarc.a.co.test           TXT "v=DMARC1; p=reject; psd=n"
  )",
      {
          {"SPF, the same", "example.com", "spf:example.com", "pass spf at example.com", 1},
          {"any case", "example.com", "spf:EXAMPLE.com", "pass spf at example.com", 1},
          {"DKIM, the same", "example.com", "dkim:example.com", "pass dkim at example.com", 1},
          {"both", "example.com", "spf:example.com dkim:example.com",
           "pass spf+dkim at example.com", 1},
          {"a subdomain authenticates its parent", "example.com", "dkim:mail.example.com",
           "pass dkim at example.com"},
          {"a parent authenticates its subdomain", "news.example.com", "spf:example.com",
           "pass spf at example.com"},
          {"siblings", "news.example.com", "spf:bounce.example.com", "pass spf at example.com"},
          {"another organization", "example.com", "spf:example.net dkim:example.org",
           "fail reject at example.com", 1},
          {"another one below the same suffix", "example.com", "dkim:evil.com",
           "fail reject at example.com"},
          {"a name that ends alike", "example.com", "dkim:notexample.com",
           "fail reject at example.com"},
          {"nothing", "example.com", "", "fail reject at example.com"},
          {"strict, the same", "strict.test", "spf:strict.test", "pass spf at strict.test"},
          {"strict, a subdomain", "strict.test", "spf:x.strict.test dkim:x.strict.test",
           "fail reject at strict.test", 1},
          {"strict for DKIM only", "dkimstrict.test",
           "dkim:x.dkimstrict.test spf:x.dkimstrict.test", "pass spf at dkimstrict.test"},
          {"strict for SPF only", "spfstrict.test", "dkim:x.spfstrict.test spf:x.spfstrict.test",
           "pass dkim at spfstrict.test"},
          {"strictness counts for subdomains", "x.strict.test", "spf:strict.test",
           "fail reject at strict.test"},
          {"below a suffix", "a.b.psd", "dkim:c.b.psd", "pass dkim at b.psd"},
          {"two below a suffix", "b.psd", "dkim:c.psd", "fail reject at b.psd"},
          {"psd=n parts them", "x.n.example.com", "spf:example.com",
           "fail quarantine at n.example.com"},
          {"psd=n parts them, from above", "example.com", "spf:x.n.example.com",
           "fail reject at example.com"},
          {"below psd=n", "x.n.example.com", "spf:y.n.example.com", "pass spf at n.example.com"},
          {"psd=n below a suffix that does not say so", "a.co.test", "spf:b.co.test",
           "fail reject at a.co.test"},
          {"an identifier that is not a name", "example.com",
           "dkim:.com dkim:com dkim:", "fail reject at example.com"},
      });
}

// §5.3.6
TEST_CASE("DMARC: trouble with the DNS never makes a failure", "[mailauth][dmarc]") {
  check_all(R"(
    _dmarc.example.com       TXT "v=DMARC1; p=reject"
    _dmarc.slow.example.com  FAILS
  )",
            {
                {"an aligned SPF temperror", "example.com", "spf?:example.com",
                 "temperror at example.com"},
                {"an aligned DKIM temperror", "example.com", "dkim?:mail.example.com",
                 "temperror at example.com"},
                {"one of another domain does not matter", "example.com", "dkim?:example.net",
                 "fail reject at example.com"},
                {"a pass beside it", "example.com", "spf?:example.com dkim:example.com",
                 "pass dkim at example.com"},
                {"the identifier's walk fails", "example.com", "dkim:x.slow.example.com",
                 "temperror at example.com"},
                {"the identifier's walk fails, beside a pass", "example.com",
                 "dkim:x.slow.example.com spf:example.com", "pass spf at example.com"},
            });
}

// §11.5
TEST_CASE("DMARC: several authors", "[mailauth][dmarc]") {
  FakeZones dns(R"(
    _dmarc.bank.test  TXT "v=DMARC1; p=reject"
    _dmarc.soft.test  TXT "v=DMARC1; p=quarantine"
    _dmarc.none.test  TXT "v=DMARC1; p=none"
    _dmarc.mine.test  TXT "v=DMARC1; p=reject"
    _dmarc.slow.test  FAILS
  )");
  const auto check = [&](std::vector<std::string> authors) {
    const auto verdicts =
        dns.run(check_dmarc(authors, identifiers("spf:mine.test dkim:mine.test")));
    REQUIRE(verdicts.size() == authors.size());
    const auto& one = strictest(verdicts);
    return one.author_domain + " " + describe(one);
  };
  CHECK(check({"mine.test"}) == "mine.test pass spf+dkim at mine.test");
  CHECK(check({"mine.test", "bank.test"}) == "bank.test fail reject at bank.test");
  CHECK(check({"soft.test", "bank.test", "mine.test"}) == "bank.test fail reject at bank.test");
  CHECK(check({"none.test", "soft.test"}) == "soft.test fail quarantine at soft.test");
  CHECK(check({"slow.test", "bank.test"}) == "bank.test fail reject at bank.test");
  CHECK(check({"slow.test", "mine.test"}) == "slow.test temperror");
  CHECK(check({"mine.test", "unknown.test"}) == "unknown.test none");
  CHECK(dns.run(check_dmarc({}, {})).empty());
}

TEST_CASE("DMARC: hostile trees and floods of identifiers are bounded", "[mailauth][dmarc]") {
  FakeZones dns("_dmarc.example.com TXT \"v=DMARC1; p=reject\"");
  std::string author = "example.com";
  while (author.size() < 240)
    author.insert(0, "a.");
  std::vector<Identifier> flood;
  for (int i = 0; i < 1000; ++i) {
    Identifier one;
    one.method = Identifier::Method::dkim;
    one.domain = "b" + std::to_string(i) + author.substr(1);
    flood.push_back(one);
  }
  dns.forget_questions();
  const auto verdicts = dns.run(check_dmarc({author}, flood));
  CHECK(describe(verdicts[0]) == "pass dkim at example.com");
  CHECK(dns.asked().size() <= 8 + kMostIdentifiers);

  // The longest name leaves no room for "_dmarc.".
  std::string longest = "a." + std::string(63, 'b') + "." + std::string(63, 'c') + "." +
                        std::string(63, 'd') + "." + std::string(55, 'e') + ".test";
  REQUIRE(longest.size() == 254);
  longest.erase(0, 2);
  CHECK(describe(dns.run(check_dmarc({longest}, {}))[0]) == "none");
}

}  // namespace
}  // namespace postrider::mailauth
