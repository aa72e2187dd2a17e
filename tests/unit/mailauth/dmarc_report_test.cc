#include "mailauth/dmarc_destinations.h"
#include "mailauth/dmarc_tally.h"
#include "tests/support/fake_zones.h"
#include "tests/support/folder.h"
#include "tests/unit/base/temporary_folder.h"

#include <catch2/catch.hpp>

#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

namespace postrider::mailauth {
namespace {

using tests::FakeZones;

DmarcVerdict failed_verdict(const std::string& record_text) {
  DmarcVerdict verdict;
  verdict.result = DmarcResult::fail;
  verdict.author_domain = "news.example.com";
  verdict.policy_domain = "example.com";
  verdict.record = DmarcRecord::parse(record_text).value();
  verdict.published = verdict.record.sp.value_or(verdict.record.p.value_or(DmarcPolicy::none));
  verdict.applied = verdict.record.testing ? one_step_milder(verdict.published) : verdict.published;
  return verdict;
}

SignatureReport signature(SignatureResult result, const std::string& domain) {
  SignatureReport report;
  report.result = result;
  report.domain = domain;
  report.selector = "s1";
  return report;
}

SpfVerdict spf(SpfResult result, const std::string& domain) {
  SpfVerdict verdict;
  verdict.result = result;
  verdict.domain = domain;
  return verdict;
}

Treatment treatment(DmarcPolicy action) {
  Treatment treatment;
  treatment.action = action;
  return treatment;
}

ReportHead head() {
  ReportHead head;
  head.organisation = "Example & Sons";
  head.contact = "postmaster@mx.example.org";
  head.submitter = "mx.example.org";
  head.id = "20261129.a-1";
  head.begin = std::chrono::sys_seconds(std::chrono::seconds(1796342400));
  head.end = std::chrono::sys_seconds(std::chrono::seconds(1796428799));
  head.generator = "Postrider";
  return head;
}

const auto kClient = IpAddress::parse("192.0.2.4").value();

TEST_CASE("an aggregate report", "[mailauth][dmarc]") {
  const auto verdict =
      failed_verdict("v=DMARC1; p=reject; sp=quarantine; adkim=s; rua=mailto:r@example.com");
  const auto row = report_row(verdict, kClient, spf(SpfResult::softfail, "bounce.test"),
                              {signature(SignatureResult::fail, "example.com"),
                               signature(SignatureResult::pass, "other.test")},
                              treatment(DmarcPolicy::quarantine));
  ReportTally tally;
  const auto policy = published_policy(verdict);
  tally.add(policy, row);
  tally.add(policy, row);
  REQUIRE(tally.policies().size() == 1);
  CHECK(report_xml(head(), tally.policies().begin()->second) ==
        R"(<?xml version="1.0" encoding="UTF-8"?>
<feedback xmlns="urn:ietf:params:xml:ns:dmarc-2.0">
  <version>1.0</version>
  <report_metadata>
    <org_name>Example &amp; Sons</org_name>
    <email>postmaster@mx.example.org</email>
    <report_id>20261129.a-1</report_id>
    <date_range>
      <begin>1796342400</begin>
      <end>1796428799</end>
    </date_range>
    <generator>Postrider</generator>
  </report_metadata>
  <policy_published>
    <domain>example.com</domain>
    <discovery_method>treewalk</discovery_method>
    <p>reject</p>
    <sp>quarantine</sp>
    <fo>0</fo>
    <adkim>s</adkim>
    <aspf>r</aspf>
    <testing>n</testing>
  </policy_published>
  <record>
    <row>
      <source_ip>192.0.2.4</source_ip>
      <count>2</count>
      <policy_evaluated>
        <disposition>quarantine</disposition>
        <dkim>fail</dkim>
        <spf>fail</spf>
      </policy_evaluated>
    </row>
    <identifiers>
      <header_from>news.example.com</header_from>
      <envelope_from>bounce.test</envelope_from>
    </identifiers>
    <auth_results>
      <dkim>
        <domain>other.test</domain>
        <selector>s1</selector>
        <result>pass</result>
      </dkim>
      <dkim>
        <domain>example.com</domain>
        <selector>s1</selector>
        <result>fail</result>
      </dkim>
      <spf>
        <domain>bounce.test</domain>
        <scope>mfrom</scope>
        <result>softfail</result>
      </spf>
    </auth_results>
  </record>
</feedback>
)");
  CHECK(report_file_name(head(), policy) ==
        "mx.example.org!example.com!1796342400!1796428799!20261129a1.xml.gz");
  CHECK(report_subject(head(), policy) ==
        "Report Domain: example.com\r\n\tSubmitter: mx.example.org\r\n\tReport-ID: "
        "<20261129.a-1@mx.example.org>");
}

TEST_CASE("rows tell what was done and why", "[mailauth][dmarc]") {
  const auto row = [](const DmarcVerdict& verdict, DmarcPolicy action) {
    const auto one = report_row(verdict, kClient, spf(SpfResult::none, ""), {}, treatment(action));
    return one.disposition + (one.reason.empty() ? "" : " " + one.reason);
  };
  auto verdict = failed_verdict("v=DMARC1; p=reject");
  CHECK(row(verdict, DmarcPolicy::reject) == "reject");
  CHECK(row(verdict, DmarcPolicy::none) == "none local_policy");
  auto testing = failed_verdict("v=DMARC1; p=reject; t=y");
  CHECK(row(testing, DmarcPolicy::quarantine) == "quarantine policy_test_mode");
  CHECK(row(testing, DmarcPolicy::none) == "none local_policy");
  verdict.result = testing.result = DmarcResult::pass;
  CHECK(row(verdict, DmarcPolicy::none) == "pass");
  auto none = failed_verdict("v=DMARC1; p=none");
  CHECK(row(none, DmarcPolicy::none) == "none");
  none.result = DmarcResult::pass;
  CHECK(row(none, DmarcPolicy::none) == "none");

  Treatment list = treatment(DmarcPolicy::none);
  list.reason = OverrideReason::mailing_list;
  list.comment = std::string(1000, 'x');
  const auto listed =
      report_row(failed_verdict("v=DMARC1; p=reject"), kClient, spf(SpfResult::none, ""), {}, list);
  CHECK(listed.reason == "mailing_list");
  CHECK(listed.comment.size() == 253);
}

TEST_CASE("the signatures that matter come first, 100 at most", "[mailauth][dmarc]") {
  std::vector<SignatureReport> signatures;
  for (int i = 0; i < 200; ++i)
    signatures.push_back(signature(SignatureResult::fail, "f" + std::to_string(i) + ".test"));
  signatures.push_back(signature(SignatureResult::pass, "other.test"));
  signatures.push_back(signature(SignatureResult::pass, "mail.example.com"));
  signatures.push_back(signature(SignatureResult::pass, "News.example.com"));
  const auto row = report_row(failed_verdict("v=DMARC1; p=reject"), kClient,
                              spf(SpfResult::none, ""), signatures, {});
  REQUIRE(row.signatures.size() == 100);
  CHECK(row.signatures[0].domain == "News.example.com");
  CHECK(row.signatures[1].domain == "mail.example.com");
  CHECK(row.signatures[2].domain == "other.test");
  CHECK(row.signatures[3].domain == "f0.test");
}

TEST_CASE("each configuration of a domain has its report", "[mailauth][dmarc]") {
  const auto policy = [](const std::string& text) {
    return published_policy(failed_verdict(text));
  };
  CHECK(policy("v=DMARC1; p=none") == policy("v=DMARC1; p=none; x=y"));
  CHECK(policy("v=DMARC1; p=none") != policy("v=DMARC1; p=reject"));
  CHECK(policy("v=DMARC1; p=none") != policy("v=DMARC1; p=none; t=y"));
  const auto wrong = policy("v=DMARC1; p=foo; sp=reject; rua=mailto:a@b.test");
  CHECK(wrong.p == "none");
  CHECK(wrong.sp.empty());
  CHECK_FALSE(wrong.error.empty());
  CHECK(wrong.rua == std::vector<std::string>{"mailto:a@b.test"});
}

TEST_CASE("who is told of mail", "[mailauth][dmarc]") {
  auto verdict = failed_verdict("v=DMARC1; p=none; rua=mailto:a@b.test");
  CHECK(asks_for_reports(verdict));
  for (const auto* domain : {"", "a!b.test", "a\"b.test", "a/b.test", "a\\b.test", "a b.test"}) {
    verdict.policy_domain = domain;
    CHECK_FALSE(asks_for_reports(verdict));
  }
  CHECK_FALSE(asks_for_reports(failed_verdict("v=DMARC1; p=none; ruf=mailto:a@b.test")));
}

TEST_CASE("reports hold nothing that XML cannot", "[mailauth][dmarc]") {
  auto verdict = failed_verdict("v=DMARC1; p=reject");
  verdict.author_domain = "<a>&\"b\"]]>";
  const auto row = report_row(
      verdict, kClient, spf(SpfResult::fail, std::string("\x01\0\x7f\xff\xc3\xbc\xef\xbf\xbe", 10)),
      {signature(SignatureResult::permerror, "d\r\n</dkim>")}, {});
  ReportTally tally;
  const auto policy = published_policy(verdict);
  tally.add(policy, row);
  const auto xml = report_xml(head(), tally.policies().begin()->second);
  CHECK(xml.find("<header_from>&lt;a&gt;&amp;&quot;b&quot;]]&gt;<") != std::string::npos);
  CHECK(xml.find("<envelope_from>????\xc3\xbc?") != std::string::npos);
  CHECK(xml.find("<domain>d??&lt;/dkim&gt;</domain>") != std::string::npos);
}

// By libxml2, where xmllint is installed.
TEST_CASE("reports fit the schema, whatever strangers write", "[mailauth][dmarc]") {
  if (std::system("xmllint --version >/dev/null 2>&1") != 0) {
    WARN("xmllint is not installed");
    return;
  }
  ReportTally tally;
  auto verdict = failed_verdict(
      "v=DMARC1; p=none; sp=reject; np=quarantine; aspf=s; t=y; ruf=mailto:a@b.test; fo=1:d:s");
  std::string all;
  for (int c = 0; c < 256; ++c)
    all += static_cast<char>(c);
  for (const auto& text :
       {std::string("]]></record><!--"), std::string("&lt;&#0;<![CDATA["), all,
        std::string(253, '"'), std::string("\xed\xa0\x80\xf4\x90\x80\x80\xc0\xaf"),
        std::string(252, 'x') + "\xc3\xbc"}) {
    verdict.author_domain = text;
    auto row = report_row(verdict, kClient, spf(SpfResult::permerror, text),
                          {signature(SignatureResult::policy, text)},
                          {DmarcPolicy::none, OverrideReason::other, text});
    tally.add(published_policy(verdict), row);
    row.source = "2001:db8::1";
    tally.add(published_policy(verdict), row);
  }
  const TemporaryFolder folder;
  const auto file = folder / "report.xml";
  std::ofstream(file) << report_xml(head(), tally.policies().begin()->second);
  const auto check = "xmllint --nonet --noout --schema " + test::tests_folder() +
                     "/data/dmarc_report.xsd " + file + " 2>&1";
  CHECK(std::system(check.c_str()) == 0);
  std::ofstream(file, std::ios::app) << "<more/>";
  CHECK(std::system((check + " >/dev/null").c_str()) != 0);
}

TEST_CASE("tallies and reports are bounded", "[mailauth][dmarc]") {
  ReportTally::Limits limits;
  limits.policies = 2;
  limits.rows_of_policy = 10;
  limits.rows = 15;
  limits.share = 1;
  ReportTally tally(limits);
  auto verdict = failed_verdict("v=DMARC1; p=reject");
  for (int domain = 0; domain < 3; ++domain)
    for (int i = 0; i < 20; ++i) {
      verdict.policy_domain = "d" + std::to_string(domain) + ".test";
      auto row = report_row(verdict, kClient, spf(SpfResult::fail, ""), {}, {});
      row.source = "192.0.2." + std::to_string(i);
      CHECK(tally.add(published_policy(verdict), row) == tally.add(published_policy(verdict), row));
    }
  CHECK(tally.policies().size() == 2);
  std::uint64_t counted = 0;
  for (const auto& [key, policy] : tally.policies())
    for (const auto& [row, count] : policy.rows)
      counted += count;
  CHECK(counted == 30);
  CHECK(tally.lost() == 90);
  CHECK(tally.lost_elsewhere() == 40);

  const auto& policy = tally.policies().begin()->second;
  CHECK(policy.lost == 20);
  CHECK(report_xml(head(), policy).find("<error>20 messages are left out of this report</error>") !=
        std::string::npos);
  const auto xml = report_xml(head(), policy, 2000);
  CHECK(xml.size() < 3500);
  CHECK(xml.find(" messages are left out of this report</error>") != std::string::npos);
}

TEST_CASE("a stranger cannot fill memory with what rows hold", "[mailauth][dmarc]") {
  ReportTally::Limits limits;
  limits.octets = 1'000'000;
  limits.share = 1;
  ReportTally tally(limits);
  const auto verdict = failed_verdict("v=DMARC1; p=reject; rua=mailto:a@example.com");
  const auto policy = published_policy(verdict);
  std::vector<SignatureReport> signatures;
  for (int i = 0; i < 50; ++i) {
    signatures.push_back(signature(SignatureResult::fail, std::string(1000, 'd')));
    signatures.back().selector = std::string(1000, 's');
  }
  auto row = report_row(verdict, kClient, spf(SpfResult::fail, "a.test"), signatures, {});
  std::uint64_t kept = 0;
  for (int i = 0; i < 100'000; ++i) {
    row.source = "2001:db8::" + std::to_string(i);
    kept += tally.add(policy, row) ? 1U : 0U;
  }
  CHECK(kept > 10);
  CHECK(kept < 40);  // 25 kB each
  CHECK(tally.octets() <= limits.octets);
  CHECK(tally.lost() == 100'000 - kept);
  tally.remove(ReportTally::key_of(policy));
  CHECK(tally.is_empty());
  CHECK(tally.octets() == 0);
  CHECK(tally.add(policy, row));
}

// RFC 9990 §4
TEST_CASE("reports go where they are wanted", "[mailauth][dmarc]") {
  const auto zone = R"(
    _dmarc.example.com       TXT "v=DMARC1; p=reject"
    _dmarc.sub.example.com   TXT "v=DMARC1; p=reject"
    example.com._report._dmarc.yes.test      TXT "v=DMARC1"
    example.com._report._dmarc.other.test    TXT "v=DMARC1; rua=mailto:in@other.test"
    example.com._report._dmarc.small.test    TXT "v=DMARC1; rua=mailto:in@small.test!2k"
    example.com._report._dmarc.away.test     TXT "v=DMARC1; rua=mailto:victim@bank.test"
    example.com._report._dmarc.text.test     TXT "yes please"
    example.com._report._dmarc.several.test  TXT "noise"
    example.com._report._dmarc.several.test  TXT "v=DMARC1;"
    example.com._report._dmarc.slow.test     FAILS
    _dmarc.lost.test                         FAILS
  )";
  struct Case {
    std::string name;
    std::vector<std::string> rua;
    std::string want;
  };
  const std::vector<Case> cases = {
      {"the domain itself", {"mailto:a@example.com"}, "a@example.com"},
      {"its organization", {"mailto:a@sub.example.com"}, "a@sub.example.com"},
      {"another one that wants it", {"mailto:a@yes.test"}, "a@yes.test"},
      {"one that does not say so", {"mailto:a@no.test"}, ""},
      {"another text there", {"mailto:a@text.test"}, ""},
      {"several texts there", {"mailto:a@several.test"}, "a@several.test"},
      {"another address at the same host", {"mailto:a@other.test"}, "in@other.test"},
      {"an address at another host", {"mailto:a@away.test"}, ""},
      {"the DNS fails", {"mailto:a@slow.test"}, "(a@slow.test)"},
      {"the DNS fails before", {"mailto:a@lost.test"}, "(a@lost.test)"},
      {"the rest gets it", {"mailto:a@no.test", "mailto:b@yes.test"}, "b@yes.test"},
      {"each once", {"mailto:a@yes.test", "mailto:a@yes.test!1m"}, "a@yes.test"},
      {"a size limit", {"mailto:a@example.com!10m"}, "a@example.com!10485760"},
      {"a size limit there", {"mailto:a@small.test!10m"}, "in@small.test!2048"},
      {"letters beyond ASCII", {"mailto:%C3%BC@example.com"}, ""},
      {"other schemes", {"https://example.com/r", "mailto:x", "nonsense"}, ""},
      {"no host name", {"mailto:a@[192.0.2.1]", "mailto:a@localhost"}, ""},
  };
  for (const auto& c : cases)
    DYNAMIC_SECTION(c.name) {
      FakeZones dns(zone);
      const auto found = dns.run(report_destinations("example.com", c.rua));
      std::string got;
      for (const auto& mailbox : found.mailboxes)
        got += (got.empty() ? "" : " ") + mailbox.address +
               (mailbox.most_size ? "!" + std::to_string(*mailbox.most_size) : "");
      for (const auto& mailbox : found.unknown)
        got += "(" + mailbox + ")";
      CHECK(got == c.want);
      CHECK(dns.asked().size() <= 17 * c.rua.size());
    }
  FakeZones dns(zone);
  const std::vector<std::string> flood(1000, "mailto:a@no.test");
  CHECK(dns.run(report_destinations("example.com", flood)).mailboxes.empty());
  CHECK(dns.asked().size() <= 170);
  // A name too long to be asked for.
  CHECK(dns.run(report_destinations(std::string(60, 'a') + "." + std::string(60, 'b') + "." +
                                        std::string(60, 'c') + ".test",
                                    {"mailto:x@" + std::string(60, 'd') + ".test"}))
            .mailboxes.empty());
}

}  // namespace
}  // namespace postrider::mailauth
