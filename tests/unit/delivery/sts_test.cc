#include "delivery/tls/sts/policy_cache.h"
#include "delivery/tls/sts/policy_file.h"
#include "delivery/tls/sts/tags.h"

#include <catch2/catch.hpp>

using namespace postrider;
using namespace postrider::delivery;
using namespace std::chrono_literals;

namespace {

const std::string kPolicy =
    "version: STSv1\nmode: enforce\nmx: mx1.example.test\nmx: *.example.net\nmax_age: 86400\n";
const TimePoint kNow{std::chrono::hours(500'000)};

StsAnnouncement announced(std::string id) {
  return {StsAnnouncement::Kind::announced, std::move(id)};
}

StsCache with_policy(TimePoint now = kNow) {
  StsCache cache;
  cache.store("example.test", "1", parse_sts_policy(kPolicy).value(), kPolicy, now);
  return cache;
}

}  // namespace

TEST_CASE("an announcement is one record with an id (RFC 8461 3.1)", "[delivery][sts]") {
  struct Case {
    std::string name;
    std::vector<std::string> records;
    std::string want;
  };
  const std::vector<Case> cases = {
      {"as in the RFC", {"v=STSv1; id=20160831085700Z;"}, "20160831085700Z"},
      {"no delimiter at the end", {"v=STSv1;id=1"}, "1"},
      {"white space", {"v=STSv1 \t; id=1 ;  "}, "1"},
      {"other records beside it", {"v=spf1 -all", "v=STSv1; id=1", "v=STSv2; id=2"}, "1"},
      {"an extension", {"v=STSv1; foo=bar; id=1"}, "1"},
      {"none", {}, ""},
      {"two", {"v=STSv1; id=1", "v=STSv1; id=1"}, ""},
      {"the version is not first", {"id=1; v=STSv1"}, ""},
      {"another case", {"v=stsv1; id=1"}, ""},
      {"a longer version", {"v=STSv11; id=1"}, ""},
      {"no id", {"v=STSv1; foo=1"}, ""},
      {"an empty id", {"v=STSv1; id="}, ""},
      {"an id of 33 letters", {"v=STSv1; id=" + std::string(33, 'a')}, ""},
      {"an id with other characters", {"v=STSv1; id=1-2"}, ""},
      {"no field", {"v=STSv1"}, ""},
      {"an empty field", {"v=STSv1;; id=1"}, ""},
      {"a field without a value", {"v=STSv1; x; id=1"}, ""},
      {"a long record", {"v=STSv1; id=1; x=" + std::string(5000, 'a')}, ""},
  };
  for (const auto& c : cases)
    DYNAMIC_SECTION(c.name) {
      CHECK(parse_sts_record(c.records).value_or("") == c.want);
    }
}

TEST_CASE("a policy file is read as RFC 8461 3.2 says", "[delivery][sts]") {
  const auto file = parse_sts_policy(
      "mx: MX1.Example.TEST\r\nversion: STSv1\r\nx: y\r\nmode:testing  \r\nmode: enforce\r\n"
      "mx:*.example.net\r\n\r\nmax_age: 604800\r\nmax_age: 1\r\n");
  REQUIRE(file.has_value());
  CHECK(file->policy.mode == StsPolicy::Mode::testing);
  CHECK(file->policy.mx == std::vector<std::string>{"mx1.example.test", "*.example.net"});
  CHECK(file->max_age == 604800s);
  CHECK(file->policy.lines.size() == 8);
  CHECK(parse_sts_policy("version: STSv1\nmode: none\nmax_age: 60").value().policy.mx.empty());
}

TEST_CASE("a host or pattern of one label is in the grammar", "[delivery][sts]") {
  // RFC 8461 §3.2: ["*."] Domain, which RFC 5321 §4.1.2 lets be one label: whatever it matches, the
  // policy stands.
  for (const std::string mx : {"*.example", "localhost", "*.xn--p1ai"}) {
    const auto file =
        parse_sts_policy("version: STSv1\nmode: enforce\nmx: " + mx + "\nmax_age: 9\n");
    REQUIRE(file.has_value());
    CHECK(file->policy.mode == StsPolicy::Mode::enforce);
    CHECK(file->policy.mx == std::vector<std::string>{mx});
  }
}

TEST_CASE("E11: max_age is cut to a year, and what is not a policy is refused", "[delivery][sts]") {
  const auto with = [](const std::string& change) {
    return parse_sts_policy(change + "version: STSv1\nmode: enforce\nmx: a.b\nmax_age: 9\n");
  };
  CHECK(with("max_age: 9999999999\n").value().max_age == 31'557'600s);
  CHECK(with("max_age: 0\n").value().max_age == 0s);
  struct Case {
    std::string name;
    std::string first;
  };
  const std::vector<Case> cases = {
      {"10^12 is no ten digits", "max_age: 1000000000000\n"},
      {"a negative age", "max_age: -1\n"},
      {"no age", "max_age:\n"},
      {"another version", "version: STSv2\n"},
      {"an unknown mode", "mode: report\n"},
      {"a mode in capitals", "mode: ENFORCE\n"},
      {"no colon", "enforce\n"},
      {"a control", "x: \x01\n"},
      {"a NUL", std::string("x: \0\n", 5)},
      {"a bare CR", "x: a\rmode: none\n"},
      {"mx that is an address", "mx: [192.0.2.1]\n"},
      {"mx with a wildcard inside", "mx: a.*.b\n"},
      {"mx that is only a wildcard", "mx: *\n"},
      {"mx with a dot at its end", "mx: a.b.\n"},
      {"mx that is empty", "mx:\n"},
      {"HTML", "<html><body>404: not here</body></html>\n"},
  };
  for (const auto& c : cases)
    DYNAMIC_SECTION(c.name) {
      CHECK_FALSE(with(c.first).has_value());
    }
  CHECK_FALSE(parse_sts_policy("").has_value());
  CHECK_FALSE(parse_sts_policy("version: STSv1\nmode: enforce\nmax_age: 1\n").has_value());
  CHECK_FALSE(parse_sts_policy(kPolicy + std::string(70'000, '\n')).has_value());
  std::string many = kPolicy;
  for (int i = 0; i < 1001; ++i)
    many += "mx: a.b\n";
  CHECK_FALSE(parse_sts_policy(many).has_value());
}

TEST_CASE("only a plain answer of status 200 brings a policy (RFC 8461 3.3)", "[delivery][sts]") {
  HttpResponse answer;
  answer.content_type = "text/plain";
  answer.body = "version: STSv1\nmode: none\nmax_age: 86400\n";  // which would do
  for (const unsigned status : {0U, 100U, 201U, 203U, 204U, 206U, 301U, 302U, 304U, 307U, 308U,
                                400U, 404U, 500U, 503U, 2000U}) {
    answer.status = status;
    const auto trouble = trouble_of(answer);
    REQUIRE(trouble);
    CHECK(trouble->result == TlsResult::sts_policy_fetch_error);
    CHECK(trouble->text == "HTTP status " + std::to_string(status));
  }
  answer.status = 200;
  CHECK_FALSE(trouble_of(answer));
  for (const char* type : {"", "text/html", "application/octet-stream", "text/plainer"}) {
    answer.content_type = type;
    const auto trouble = trouble_of(answer);
    REQUIRE(trouble);
    CHECK(trouble->result == TlsResult::sts_policy_invalid);
  }
}

TEST_CASE("E14: a wildcard stands for one label", "[delivery][sts]") {
  const auto policy = parse_sts_policy(kPolicy).value().policy;
  CHECK(allows(policy, "mx1.example.test"));
  CHECK(allows(policy, "a.example.net"));
  CHECK_FALSE(allows(policy, "b.a.example.net"));
  CHECK_FALSE(allows(policy, "example.net"));
  CHECK_FALSE(allows(policy, "mx2.example.test"));
}

TEST_CASE("a policy is fetched once it is announced, and used until it ends", "[delivery][sts]") {
  StsCache empty;
  CHECK(empty.step("example.test", {}, kNow) == StsStep::use);
  CHECK(empty.step("example.test", {StsAnnouncement::Kind::unknown, ""}, kNow) == StsStep::use);
  CHECK(empty.step("example.test", announced("1"), kNow) == StsStep::fetch);

  const auto cache = with_policy();
  CHECK(cache.step("example.test", announced("1"), kNow + 1min) == StsStep::use);
  CHECK(cache.step("example.test", announced("1"), kNow + 11h) == StsStep::use);
  CHECK(cache.step("example.test", announced("1"), kNow + 12h) == StsStep::refresh);
  CHECK(cache.step("example.test", announced("1"), kNow + 24h) == StsStep::fetch);
  CHECK(cache.step("example.test", {}, kNow + 24h) == StsStep::use);
  CHECK(cache.find("example.test", kNow + 24h - 1ms) != nullptr);
  CHECK(cache.find("example.test", kNow + 24h) == nullptr);
}

TEST_CASE("another id is fetched at once", "[delivery][sts]") {
  CHECK(with_policy().step("example.test", announced("2"), kNow + 1s) == StsStep::fetch);
}

TEST_CASE("E15: what DNS says does not end a policy in force", "[delivery][sts]") {
  const auto cache = with_policy();
  CHECK(cache.step("example.test", {}, kNow + 1h) == StsStep::use);
  CHECK(cache.step("example.test", {StsAnnouncement::Kind::unknown, ""}, kNow + 13h) ==
        StsStep::refresh);
  CHECK(cache.find("example.test", kNow + 1h) != nullptr);
}

TEST_CASE("a failed fetch leaves the policy in force and the host alone for a while",
          "[delivery][sts]") {
  auto cache = with_policy();
  cache.fail("example.test", {"2", kNow + 1h, TlsResult::sts_webpki_invalid, "expired"});
  CHECK(cache.find("example.test", kNow + 1h)->policy->id == "1");
  CHECK(cache.step("example.test", announced("2"), kNow + 1h + 4min) == StsStep::use);
  CHECK(cache.step("example.test", announced("3"), kNow + 1h + 4min) == StsStep::fetch);
  CHECK(cache.step("example.test", announced("2"), kNow + 1h + 5min) == StsStep::fetch);
  CHECK(cache.step("example.test", announced("2"), kNow) == StsStep::fetch);  // the clock went back
  REQUIRE(cache.failure("example.test") != nullptr);
  cache.store("example.test", "2", parse_sts_policy(kPolicy).value(), kPolicy, kNow + 2h);
  CHECK(cache.failure("example.test") == nullptr);
}

TEST_CASE("E11: max_age 0 leaves no policy in force", "[delivery][sts]") {
  StsCache cache;
  const std::string text = "version: STSv1\nmode: enforce\nmx: a.b\nmax_age: 0\n";
  cache.store("example.test", "1", parse_sts_policy(text).value(), text, kNow);
  CHECK(cache.find("example.test", kNow) == nullptr);
  // But the mail that it was fetched for.
  REQUIRE(cache.find_or_fetched("example.test", kNow) != nullptr);
  CHECK(cache.find_or_fetched("example.test", kNow)->policy->mode == StsPolicy::Mode::enforce);
  CHECK(cache.find_or_fetched("example.test", kNow + 10s) == nullptr);
  CHECK(cache.find_or_fetched("other.test", kNow) == nullptr);
}

TEST_CASE("X16: the cache is bounded; the policy that ends first goes", "[delivery][sts]") {
  StsCache cache(2);
  const auto store = [&](const char* domain, TimePoint now) {
    cache.store(domain, "1", parse_sts_policy(kPolicy).value(), kPolicy, now);
  };
  store("a.test", kNow);
  store("b.test", kNow + 1s);
  store("b.test", kNow + 2s);
  store("c.test", kNow + 3s);
  CHECK(cache.size() == 2);
  CHECK(cache.find("a.test", kNow) == nullptr);
  CHECK(cache.take_dropped() == std::vector<std::string>{"a.test"});
}

TEST_CASE("a stored policy comes back, and a damaged one does not", "[delivery][sts]") {
  const auto cache = with_policy();
  const auto stored = encode(*cache.find("example.test", kNow));
  const auto back = decode_sts_entry("example.test", stored);
  REQUIRE(back.has_value());
  CHECK(back->policy->domain == "example.test");
  CHECK(back->policy->id == "1");
  CHECK(back->policy->mx.size() == 2);
  CHECK(back->expires == kNow + 24h);
  CHECK(encode(*back) == stored);
  for (std::size_t size = 0; size < stored.size(); ++size)
    CHECK_FALSE(decode_sts_entry("example.test", stored.substr(0, size)).has_value());
  CHECK_FALSE(decode_sts_entry("example.test", "id: a b\n" + stored.substr(6)).has_value());
  // Nobody makes a policy last longer than it says.
  auto longer = stored;
  longer.replace(longer.find("expires: ") + 9, 10, "9999999999");
  CHECK(decode_sts_entry("example.test", longer)->expires == kNow + 24h);
  StsCache other;
  other.restore("example.test", *back, kNow + 25h);
  CHECK(other.take_dropped() == std::vector<std::string>{"example.test"});
}
