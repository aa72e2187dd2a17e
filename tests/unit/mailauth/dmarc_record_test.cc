#include "mailauth/dmarc_record.h"

#include <catch2/catch.hpp>

#include <string>
#include <vector>

namespace postrider::mailauth {
namespace {

// "p=reject sp=none s/r psd=y t" and so on: only what differs from the defaults.
std::string describe(const std::string& text) {
  const auto record = DmarcRecord::parse(text);
  if (!record)
    return "no record";
  std::string out;
  const auto add = [&](const std::string& word) { out += (out.empty() ? "" : " ") + word; };
  if (record->p)
    add("p=" + std::string(to_string(*record->p)));
  if (record->sp)
    add("sp=" + std::string(to_string(*record->sp)));
  if (record->np)
    add("np=" + std::string(to_string(*record->np)));
  if (record->strict_dkim)
    add("adkim=s");
  if (record->strict_spf)
    add("aspf=s");
  if (record->psd != DmarcRecord::Psd::unknown)
    add(record->psd == DmarcRecord::Psd::yes ? "psd=y" : "psd=n");
  if (record->testing)
    add("t=y");
  if (record->fo != "0")
    add("fo=" + record->fo);
  for (const auto& uri : record->rua)
    add("rua=" + (uri.mailbox.empty() ? uri.text : uri.mailbox));
  for (const auto& uri : record->ruf)
    add("ruf=" + (uri.mailbox.empty() ? uri.text : uri.mailbox));
  if (!record->has_valid_policy)
    add(record->applies() ? "(as p=none)" : "(does not apply)");
  return out;
}

struct Case {
  std::string text;
  std::string want;
};

void check_all(const std::vector<Case>& cases) {
  for (const auto& c : cases)
    DYNAMIC_SECTION("'" << c.text.substr(0, 200) << "'") {
      CHECK(describe(c.text) == c.want);
    }
}

// RFC 9989 §4.7, §4.8
TEST_CASE("DMARC records", "[mailauth][dmarc]") {
  check_all({
      {"v=DMARC1; p=reject", "p=reject"},
      {"v=DMARC1;p=reject;", "p=reject"},
      {"v = DMARC1 ; p = quarantine ;", "p=quarantine"},
      {"V=DMARC1\t;\tP=None", "p=none"},
      {" v=DMARC1; p=none", "p=none"},
      {"v=DMARC1; P=REJECT; SP=Quarantine; nP=NONE", "p=reject sp=quarantine np=none"},
      {"v=DMARC1; sp=none; rua=mailto:a@b.test; p=reject", "p=reject sp=none rua=a@b.test"},
      {"v=DMARC1; p=none; adkim=s; aspf=S; t=Y; psd=n", "p=none adkim=s aspf=s psd=n t=y"},
      {"v=DMARC1; p=none; adkim=r; aspf=r; t=n; psd=u", "p=none"},
      {"v=DMARC1; p=none; psd=y", "p=none psd=y"},
      {"v=DMARC1; p=none; adkim=x; aspf=; t=yes; psd=1", "p=none"},
      {"v=DMARC1; p=reject; pct=0; rf=afrf; ri=3600; unknown=1", "p=reject"},
      {"v=DMARC1; p=reject; ; nonsense; =; =x;;", "p=reject"},
      {"v=DMARC1; p=reject; fo=1:d; ruf=mailto:f@b.test", "p=reject fo=1:d ruf=f@b.test"},
      {"v=DMARC1; p=reject; fo=1", "p=reject"},
      {"v=DMARC1; p=reject; fo=0:1; ruf=mailto:f@b.test", "p=reject ruf=f@b.test"},
      {"v=DMARC1; p=reject; fo=d:d; ruf=mailto:f@b.test", "p=reject ruf=f@b.test"},
      {"v=DMARC1; p=reject; fo=s:x; ruf=mailto:f@b.test", "p=reject ruf=f@b.test"},
  });
}

TEST_CASE("DMARC: what is not a record", "[mailauth][dmarc]") {
  check_all({
      {"", "no record"},
      {"v=DMARC1", "(does not apply)"},
      {"v=DMARC1;", "(does not apply)"},
      {"v=DMARC10; p=reject", "no record"},
      {"v=dmarc1; p=reject", "no record"},
      {"v=DMARC2; p=reject", "no record"},
      {"p=reject; v=DMARC1", "no record"},
      {"v=DMARC1 p=reject", "no record"},
      {"v=DMARC1, p=reject", "no record"},
      {"vDMARC1; p=reject", "no record"},
      {"v=; p=reject", "no record"},
      {"version=DMARC1; p=reject", "no record"},
      {"v=spf1 -all", "no record"},
      {std::string("v=DMARC1\0; p=reject", 19), "no record"},
  });
}

// §4.10.1
TEST_CASE("DMARC: a policy that cannot be read is none, or nothing", "[mailauth][dmarc]") {
  check_all({
      {"v=DMARC1; p=foo", "(does not apply)"},
      {"v=DMARC1; p=", "(does not apply)"},
      {"v=DMARC1; p=reject now", "(does not apply)"},
      {"v=DMARC1; p=r\xc3\xa9ject", "(does not apply)"},
      {"v=DMARC1; p=foo; rua=mailto:a@b.test", "rua=a@b.test (as p=none)"},
      {"v=DMARC1; rua=mailto:a@b.test", "rua=a@b.test (as p=none)"},
      {"v=DMARC1; p=reject; sp=foo", "p=reject (does not apply)"},
      {"v=DMARC1; p=reject; np=foo; rua=mailto:a@b.test", "p=reject rua=a@b.test (as p=none)"},
      {"v=DMARC1; p=foo; rua=ann", "(does not apply)"},
      {"v=DMARC1; sp=reject", "sp=reject (does not apply)"},
  });
}

TEST_CASE("DMARC: a tag given twice says nothing", "[mailauth][dmarc]") {
  check_all({
      {"v=DMARC1; p=reject; p=reject", "(does not apply)"},
      {"v=DMARC1; p=reject; p=none; rua=mailto:a@b.test", "rua=a@b.test (as p=none)"},
      {"v=DMARC1; p=reject; P=none; p=quarantine", "(does not apply)"},
      {"v=DMARC1; p=reject; adkim=s; adkim=s; t=y; t=n", "p=reject"},
      {"v=DMARC1; p=reject; rua=mailto:a@b.test; rua=mailto:c@d.test", "p=reject"},
      {"v=DMARC1; p=reject; v=DMARC1; x=1; x=2", "p=reject"},
  });
}

TEST_CASE("DMARC: addresses for reports", "[mailauth][dmarc]") {
  const auto p = [](const std::string& rua) { return "v=DMARC1; p=none; rua=" + rua; };
  check_all({
      {p("mailto:a@b.test,mailto:c@d.test"), "p=none rua=a@b.test rua=c@d.test"},
      {p("mailto:a@b.test , MAILTO:c@d.test!10m"), "p=none rua=a@b.test rua=c@d.test"},
      {p("mailto:a%2Bb@b.test?subject=x%20y"), "p=none rua=a+b@b.test"},
      {p("https://b.test/reports!10m"), "p=none rua=https://b.test/reports"},
      {p("a@b.test, mailto:c@d.test"), "p=none rua=c@d.test"},
      {p("mailto:a, mailto:, mailto:@b.test, mailto:c@d.test"), "p=none rua=c@d.test"},
      {p("mailto:a%@b.test, mailto:a%0d%0aRCPT%20x@b.test, mailto:a%00@b.test"), "p=none"},
      {p("mailto:\"a b\"@b.test, mailto:<a@b.test>"), "p=none"},
      {p("mailto:a@b.test%2Cmailto:c@d.test"), "p=none"},
      {p("://b.test, 1http://b.test, ://, x:"), "p=none"},
      {p(""), "p=none"},
      {p(",,,"), "p=none"},
      {p("mailto:" + std::string(2000, 'a') + "@b.test"), "p=none"},
  });
  std::string many = "v=DMARC1; p=none; rua=mailto:a@b.test";
  for (int i = 0; i < 2000; ++i)
    many += ",mailto:a" + std::to_string(i) + "@b.test";
  CHECK(DmarcRecord::parse(many)->rua.size() == kMostReportUris);
}

TEST_CASE("DMARC: size limits of addresses for reports", "[mailauth][dmarc]") {
  const auto limit = [](const std::string& text) {
    const auto uri = parse_report_uri("mailto:a@b.test" + text);
    REQUIRE(uri);
    CHECK(uri->text == "mailto:a@b.test");
    return uri->most_size;
  };
  CHECK(limit("!500") == 500);
  CHECK(limit("!0") == 0);
  CHECK(limit("!2k") == 2048);
  CHECK(limit("!10M") == 10U << 20U);
  CHECK(limit("!1g") == 1U << 30U);
  CHECK(limit("!1t") == 1ULL << 40U);
  for (const auto* text :
       {"", "!", "!m", "!-1", "!1x", "!1 k", "!99999999999999999999", "!99999999999t"})
    CHECK_FALSE(limit(text));
}

TEST_CASE("DMARC: records of 64 KiB", "[mailauth][dmarc]") {
  const auto repeated = [](const std::string& text) {
    std::string out = "v=DMARC1; p=reject;";
    while (out.size() < 65'000)
      out += text;
    return out;
  };
  CHECK(describe(repeated(";")) == "p=reject");
  CHECK(describe(repeated("x=y;")) == "p=reject");
  CHECK(describe(repeated("sp=none;")) == "p=reject (does not apply)");
  CHECK(describe(repeated(" ")) == "p=reject");
  CHECK(describe("v=DMARC1; p=none; rua=" + std::string(65'000, ',')) == "p=none");
  CHECK(describe("v=DMARC1; p=none; rua=mailto:" + std::string(65'000, '%')) == "p=none");
}

TEST_CASE("DMARC policies have an order", "[mailauth][dmarc]") {
  CHECK(one_step_milder(DmarcPolicy::reject) == DmarcPolicy::quarantine);
  CHECK(one_step_milder(DmarcPolicy::quarantine) == DmarcPolicy::none);
  CHECK(one_step_milder(DmarcPolicy::none) == DmarcPolicy::none);
}

}  // namespace
}  // namespace postrider::mailauth
