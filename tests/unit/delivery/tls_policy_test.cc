#include "delivery/tls/tls_policy.h"

#include <catch2/catch.hpp>

using namespace postrider;
using namespace postrider::delivery;

namespace {

using Step = TlsAttempt::Step;

TlsaRecord record(std::uint8_t usage, std::uint8_t selector = 1, std::uint8_t matching = 1,
                  std::size_t size = 32) {
  TlsaRecord made;
  made.usage = usage;
  made.selector = selector;
  made.matching = matching;
  made.data.assign(size, 0xab);
  return made;
}

TlsaLookup records(std::vector<TlsaRecord> list) {
  TlsaLookup lookup;
  lookup.status = TlsaLookup::Status::records;
  lookup.base = "mx.example.org";
  lookup.records = std::move(list);
  return lookup;
}

TlsaLookup failed() {
  TlsaLookup lookup;
  lookup.status = TlsaLookup::Status::failed;
  lookup.base = "mx.example.org";
  lookup.reason = "tlsa _25._tcp.mx.example.org: SERVFAIL";
  return lookup;
}

std::shared_ptr<const StsPolicy> sts(StsPolicy::Mode mode, std::string mx = "mx.example.org") {
  auto policy = std::make_shared<StsPolicy>();
  policy->mode = mode;
  policy->domain = "example.org";
  policy->mx = {std::move(mx)};
  return policy;
}

TlsSources sources(TlsMode route = TlsMode::opportunistic) {
  TlsSources made;
  made.route = route;
  made.next_hop = "example.org";
  made.mx_secure = true;
  return made;
}

TlsDemand demand(const TlsSources& from, const TlsaLookup& tlsa = {}) {
  return demand_of(from, "mx.example.org", tlsa);
}

TlsAttempt attempt(Step step, TlsProof proof = TlsProof::nothing) {
  TlsAttempt made;
  made.step = step;
  made.proof = proof;
  return made;
}

}  // namespace

TEST_CASE("a route beats DANE, and DANE beats MTA-STS", "[delivery][tls][attacks]") {
  auto with_sts = sources();
  with_sts.sts = sts(StsPolicy::Mode::enforce);
  auto unlisted = sources();
  unlisted.sts = sts(StsPolicy::Mode::enforce, "other.example.org");
  auto testing = sources();
  testing.sts = sts(StsPolicy::Mode::testing);
  auto required = sources(TlsMode::require);
  required.sts = with_sts.sts;
  struct Case {
    const char* name;
    TlsSources from;
    TlsaLookup tlsa;
    TlsMode mode;
    TlsSource source;
    bool refused;
  };
  const std::vector<Case> cases = {
      {"nothing published", sources(), {}, TlsMode::opportunistic, TlsSource::standard, false},
      {"E01 TLSA", sources(), records({record(3)}), TlsMode::dane, TlsSource::dane, false},
      {"E03 TLSA of PKIX usages", sources(), records({record(0), record(1)}), TlsMode::require,
       TlsSource::dane, false},
      {"E04 TLSA lookup failed", sources(), failed(), TlsMode::dane, TlsSource::dane, true},
      {"MTA-STS", with_sts, {}, TlsMode::verify, TlsSource::mta_sts, false},
      {"E12 a host that the policy does not list",
       unlisted,
       {},
       TlsMode::verify,
       TlsSource::mta_sts,
       true},
      {"E13 testing", testing, {}, TlsMode::opportunistic, TlsSource::mta_sts, false},
      {"E10 DANE and MTA-STS", with_sts, records({record(3)}), TlsMode::dane, TlsSource::dane,
       false},
      {"E10 DANE against an MTA-STS policy without the host", unlisted, records({record(2)}),
       TlsMode::dane, TlsSource::dane, false},
      {"E10 a failed lookup against MTA-STS", with_sts, failed(), TlsMode::dane, TlsSource::dane,
       true},
      {"unusable TLSA and MTA-STS", with_sts, records({record(1)}), TlsMode::verify,
       TlsSource::mta_sts, false},
      {"a route that requires", required, records({record(3)}), TlsMode::require, TlsSource::route,
       false},
      {"a route without TLS", sources(TlsMode::off), failed(), TlsMode::off, TlsSource::route,
       false},
      {"a route that verifies", sources(TlsMode::verify), failed(), TlsMode::verify,
       TlsSource::route, false},
      {"a route by DANE", sources(TlsMode::dane), records({record(3)}), TlsMode::dane,
       TlsSource::dane, false},
      {"a route by DANE without records",
       sources(TlsMode::dane),
       {},
       TlsMode::dane,
       TlsSource::route,
       true},
      {"a route by DANE with unusable records", sources(TlsMode::dane), records({record(0)}),
       TlsMode::dane, TlsSource::dane, true},
  };
  for (const auto& c : cases) {
    INFO(c.name);
    const auto made = demand(c.from, c.tlsa);
    CHECK(made.mode == c.mode);
    CHECK(made.source == c.source);
    CHECK(made.is_refused() == c.refused);
  }
}

TEST_CASE("TLSA records count only if they can be matched", "[delivery][tls]") {
  CHECK(is_usable(record(3)));
  CHECK(is_usable(record(2, 0, 2, 64)));
  CHECK(is_usable(record(3, 0, 0, 900)));
  CHECK_FALSE(is_usable(record(0)));
  CHECK_FALSE(is_usable(record(1)));
  CHECK_FALSE(is_usable(record(4)));
  CHECK_FALSE(is_usable(record(3, 2)));
  CHECK_FALSE(is_usable(record(3, 1, 3)));
  CHECK_FALSE(is_usable(record(3, 1, 1, 31)));
  CHECK_FALSE(is_usable(record(3, 1, 2, 32)));
  CHECK_FALSE(is_usable(record(3, 0, 0, 0)));
  CHECK(to_string(record(3, 1, 1, 2)) == "3 1 1 abab");
}

TEST_CASE("DANE asks for the TLSA base and the recipient domain", "[delivery][tls]") {
  const auto made = demand(sources(), records({record(2), record(1)}));
  CHECK(made.names == std::vector<std::string>{"mx.example.org", "example.org"});
  CHECK(made.server_name == "mx.example.org");
  CHECK(made.tlsa.size() == 1);
}

TEST_CASE("verify trusts the name of an MX only when DNS vouches for it", "[delivery][tls]") {
  auto from = sources(TlsMode::verify);
  CHECK(demand(from).names == std::vector<std::string>{"mx.example.org"});
  from.mx_secure = false;
  CHECK(demand(from).names == std::vector<std::string>{"example.org", ".example.org"});
  from.names = {"mail.example.net"};
  CHECK(demand(from).names == std::vector<std::string>{"mail.example.net"});
  auto relay = sources(TlsMode::verify);
  relay.by_mx = relay.mx_secure = false;
  CHECK(demand(relay).names == std::vector<std::string>{"mx.example.org"});
  CHECK(demand_of(relay, "", {}).is_refused());
}

TEST_CASE("T09: what a failed handshake means depends on what is demanded",
          "[delivery][tls][attacks]") {
  const auto wishes = demand(sources());
  const auto required = demand(sources(TlsMode::require));
  const auto verified = demand(sources(TlsMode::verify));
  const auto by_dane = demand(sources(), records({record(3)}));
  auto testing_from = sources();
  testing_from.sts = sts(StsPolicy::Mode::testing);
  const auto testing = demand(testing_from);
  testing_from.sts = sts(StsPolicy::Mode::testing, "other.example.org");
  const auto unlisted = demand(testing_from);
  struct Case {
    const char* name;
    TlsDemand demand;
    TlsAttempt attempt;
    TlsNext next;
    TlsResult result;
  };
  const auto any = attempt(Step::done), broken = attempt(Step::broken);
  const std::vector<Case> cases = {
      {"not offered, wished", wishes, attempt(Step::not_offered), TlsNext::in_clear,
       TlsResult::starttls_not_supported},
      {"not offered, required", required, attempt(Step::not_offered), TlsNext::next_host,
       TlsResult::starttls_not_supported},
      {"E02 not offered, DANE", by_dane, attempt(Step::not_offered), TlsNext::next_host,
       TlsResult::starttls_not_supported},
      {"E13 not offered, testing", testing, attempt(Step::not_offered), TlsNext::in_clear,
       TlsResult::starttls_not_supported},
      {"declined, wished", wishes, attempt(Step::declined), TlsNext::in_clear,
       TlsResult::starttls_not_supported},
      {"declined, verified", verified, attempt(Step::declined), TlsNext::next_host,
       TlsResult::starttls_not_supported},
      {"broken, wished", wishes, broken, TlsNext::clear_again, TlsResult::validation_failure},
      {"broken, required", required, broken, TlsNext::next_host, TlsResult::validation_failure},
      {"E02 broken, DANE", by_dane, broken, TlsNext::next_host, TlsResult::validation_failure},
      {"T08 injected, wished", wishes, attempt(Step::injected), TlsNext::next_host,
       TlsResult::validation_failure},
      {"any certificate, wished", wishes, any, TlsNext::go_on, TlsResult::success},
      {"any certificate, required", required, any, TlsNext::go_on, TlsResult::success},
      {"any certificate, verified", verified, any, TlsNext::next_host,
       TlsResult::certificate_not_trusted},
      {"wrong name, verified", verified, attempt(Step::done, TlsProof::wrong_name),
       TlsNext::next_host, TlsResult::certificate_host_mismatch},
      {"expired, verified", verified, attempt(Step::done, TlsProof::expired), TlsNext::next_host,
       TlsResult::certificate_expired},
      {"named, verified", verified, attempt(Step::done, TlsProof::name), TlsNext::go_on,
       TlsResult::success},
      {"E10 named, DANE", by_dane, attempt(Step::done, TlsProof::name), TlsNext::next_host,
       TlsResult::validation_failure},
      {"matched, DANE", by_dane, attempt(Step::done, TlsProof::dane), TlsNext::go_on,
       TlsResult::success},
      {"E13 wrong name, testing", testing, attempt(Step::done, TlsProof::wrong_name),
       TlsNext::go_on, TlsResult::certificate_host_mismatch},
      {"E13 named, testing", testing, attempt(Step::done, TlsProof::name), TlsNext::go_on,
       TlsResult::success},
      {"E13 unlisted, testing", unlisted, attempt(Step::done, TlsProof::name), TlsNext::go_on,
       TlsResult::validation_failure},
  };
  for (const auto& c : cases) {
    INFO(c.name);
    const auto verdict = judge(c.demand, c.attempt);
    CHECK(verdict.next == c.next);
    CHECK(verdict.result == c.result);
    CHECK(verdict.reason.empty() == (c.result == TlsResult::success));
  }
}

TEST_CASE("E14: a wildcard of MTA-STS stands for one label", "[delivery][tls][attacks]") {
  CHECK(matches_sts("mx.ext.test", "mx.ext.test"));
  CHECK(matches_sts("*.ext.test", "a.ext.test"));
  CHECK_FALSE(matches_sts("*.ext.test", "a.b.ext.test"));
  CHECK_FALSE(matches_sts("*.ext.test", "ext.test"));
  CHECK_FALSE(matches_sts("*.ext.test", ".ext.test"));
  CHECK_FALSE(matches_sts("*", "ext"));
  CHECK_FALSE(matches_sts("", ""));
}

TEST_CASE("only mail that demands the same shares a site", "[delivery][tls]") {
  const std::vector<std::string> hosts = {"mx.example.org", "b.example.org"};
  auto from = sources();
  CHECK(site_tag(from, hosts) == " (dnssec)");
  from.mx_secure = false;
  CHECK(site_tag(from, hosts).empty());
  from.sts = sts(StsPolicy::Mode::enforce, "*.example.org");
  CHECK(site_tag(from, hosts) == " (mta-sts enforce)");
  from.sts = sts(StsPolicy::Mode::enforce);
  CHECK(site_tag(from, hosts) == " (mta-sts enforce: mx.example.org)");
  from.route = TlsMode::verify;
  CHECK(site_tag(from, hosts) == " (tls verify example.org)");
  from.route = TlsMode::opportunistic;
  from.message = mail::TlsWish::optional;
  CHECK(site_tag(from, hosts) == " (tls-required no)");
  from.message = mail::TlsWish::required;
  CHECK(site_tag(from, hosts) == " (mta-sts enforce: mx.example.org) (requiretls)");
}

TEST_CASE("sessions are shared by equal demands only", "[delivery][tls]") {
  const auto wishes = demand(sources());
  CHECK(wishes.session_key() == demand(sources()).session_key());
  CHECK(wishes.session_key() != demand(sources(TlsMode::require)).session_key());
  CHECK(demand(sources(), records({record(3)})).session_key() !=
        demand(sources(), records({record(3, 0)})).session_key());
}

TEST_CASE("RFC 8689: a message may ask for more, or for less", "[delivery][tls][attacks]") {
  auto from = sources();
  from.message = mail::TlsWish::required;
  CHECK(demand(from).mode == TlsMode::verify);
  CHECK_FALSE(demand(from).is_refused());
  from.mx_secure = false;
  CHECK(demand(from).is_refused());
  from.sts = sts(StsPolicy::Mode::testing);
  CHECK(demand(from).mode == TlsMode::verify);
  CHECK_FALSE(demand(from).trial);
  CHECK_FALSE(demand(from).is_refused());
  from.message = mail::TlsWish::optional;
  CHECK(demand(from, failed()).mode == TlsMode::opportunistic);
  CHECK_FALSE(demand(from, failed()).is_refused());
}
