#include "mailauth/verdicts.h"

#include "tests/support/fake_zones.h"

#include <catch2/catch.hpp>

#include <string>
#include <vector>

namespace postrider::mailauth {
namespace {

SignatureReport signature(SignatureResult result, const std::string& domain) {
  SignatureReport report;
  report.result = result;
  report.domain = domain;
  return report;
}

std::string describe(const std::vector<Identifier>& identifiers) {
  std::string out;
  for (const auto& one : identifiers)
    out += std::string(out.empty() ? "" : " ") +
           (one.method == Identifier::Method::spf ? "spf" : "dkim") +
           (one.is_certain ? ":" : "?:") + one.domain;
  return out;
}

TEST_CASE("what a message is authenticated for", "[mailauth][dmarc]") {
  SpfVerdict mail_from;
  mail_from.result = SpfResult::pass;
  mail_from.domain = "Example.com";
  const std::vector<SignatureReport> signatures = {
      signature(SignatureResult::temperror, "slow.test"),
      signature(SignatureResult::fail, "failed.test"),
      signature(SignatureResult::pass, "Example.com"),
      signature(SignatureResult::pass, "example.com"),
      signature(SignatureResult::policy, "policy.test"),
      signature(SignatureResult::temperror, "example.com"),
  };
  CHECK(describe(identifiers_of(mail_from, signatures)) ==
        "spf:example.com dkim:example.com dkim?:slow.test");
  mail_from.result = SpfResult::temperror;
  CHECK(describe(identifiers_of(mail_from, {})) == "spf?:example.com");
  for (const auto result : {SpfResult::none, SpfResult::neutral, SpfResult::fail,
                            SpfResult::softfail, SpfResult::permerror}) {
    mail_from.result = result;
    CHECK(identifiers_of(mail_from, {}).empty());
  }
}

TEST_CASE("verdicts in Authentication-Results", "[mailauth][dmarc][spf]") {
  SpfVerdict spf;
  spf.result = SpfResult::permerror;
  spf.domain = "example.com";
  spf.reason = "several SPF records";
  DmarcVerdict dmarc;
  dmarc.result = DmarcResult::fail;
  dmarc.author_domain = "news.example.com";
  dmarc.policy_domain = "example.com";
  dmarc.published = DmarcPolicy::reject;
  dmarc.applied = DmarcPolicy::quarantine;
  const auto field = authentication_results_field(
      "mx.test", {spf_result(spf, SpfIdentity::mail_from), spf_result(spf, SpfIdentity::helo),
                  dmarc_result(dmarc)});
  const auto read = parse_authentication_results(field.substr(field.find(':') + 1));
  REQUIRE(read.has_value());
  REQUIRE(read->results.size() == 3);
  const auto text = [&](std::size_t i) {
    std::string out =
        read->results[i].method + "=" + read->results[i].result + "|" + read->results[i].reason;
    for (const auto& property : read->results[i].properties)
      out += "|" + property.type + "." + property.name + "=" + property.value;
    return out;
  };
  CHECK(text(0) == "spf=permerror|several SPF records|smtp.mailfrom=example.com");
  CHECK(text(1) == "spf=permerror|several SPF records|smtp.helo=example.com");
  CHECK(text(2) == "dmarc=fail||header.from=news.example.com|policy.dmarc=quarantine");
  dmarc.policy_domain.clear();
  dmarc.result = DmarcResult::none;
  CHECK(dmarc_result(dmarc).properties.size() == 1);
}

}  // namespace
}  // namespace postrider::mailauth
