#include "delivery/double_bounces.h"

#include "base/text.h"
#include "delivery/job/job_outcome.h"
#include "mail/notice.h"

#include <catch2/catch.hpp>

using namespace postrider;
using namespace postrider::delivery;
using namespace std::chrono_literals;

namespace {

const TimePoint kNow{500000h};

mail::Outcome refused(std::string text = "nobody of that name") {
  return decide(mail::Verdict::bounce, mail::Stage::rcpt, {5, 1, 1}, std::move(text));
}

std::string digest_of(const UndeliveredNotices& counted) {
  return compose_digest(counted, "mx.us.test", "postmaster", mail::MessageId{7}, kNow + 1h);
}

bool has(const std::string& text, const std::string& wanted) {
  return text.find(wanted) != std::string::npos;
}

}  // namespace

TEST_CASE("there are ten in any hour, and none while some are counted", "[delivery][notice]") {
  DoubleBounces bounces;
  for (int i = 0; i < 10; ++i)
    CHECK(bounces.may_tell(kNow + i * 1min));
  CHECK_FALSE(bounces.may_tell(kNow + 59min));
  SECTION("one by one as they get old") {
    CHECK(bounces.may_tell(kNow + 60min));
    CHECK_FALSE(bounces.may_tell(kNow + 60min));
    CHECK(bounces.may_tell(kNow + 61min));
  }
  SECTION("all again when the clock is set back") {
    CHECK(bounces.may_tell(kNow - 24h));
  }
  SECTION("the digest is one of them") {
    bounces.count("x@far.test", refused(), kNow + 59min);
    CHECK_FALSE(bounces.may_tell(kNow + 90min));
    CHECK(bounces.due(kNow + 118min) == nullptr);
    REQUIRE(bounces.due(kNow + 119min) != nullptr);
    bounces.told(*bounces.due(kNow + 119min), kNow + 119min);
    CHECK(bounces.due(kNow + 1000h) == nullptr);
    int told = 1;
    while (bounces.may_tell(kNow + 120min))
      ++told;
    CHECK(told == 10);
  }
}

TEST_CASE("what is counted while a digest is stored is part of the next", "[delivery][notice]") {
  DoubleBounces bounces;
  for (int i = 0; i < 3; ++i)
    bounces.count("x@far.test", refused(), kNow);
  const auto first = *bounces.due(kNow + 1h);
  bounces.count("x@far.test", refused(), kNow + 1h);
  bounces.count("y@new.test", refused(), kNow + 1h);
  bounces.told(first, kNow + 1h);
  CHECK(bounces.counted().count == 2);
  CHECK(bounces.counted().domains.at("far.test").count == 1);
  CHECK(bounces.due(kNow + 119min) == nullptr);
  REQUIRE(bounces.due(kNow + 120min) != nullptr);
}

TEST_CASE("a clock that is set back holds up no digest", "[delivery][notice]") {
  DoubleBounces bounces;
  bounces.count("x@far.test", refused(), kNow);
  CHECK(bounces.due(kNow - 24h) != nullptr);
  bounces.count("x@far.test", refused(), kNow - 24h);
  CHECK(bounces.counted().since == kNow - 24h);
}

TEST_CASE("the digest names the domains with most, and counts all", "[delivery][notice]") {
  DoubleBounces bounces;
  for (int domain = 0; domain < 30; ++domain)
    for (int i = 0; i <= domain; ++i)
      bounces.count("user" + std::to_string(i) + "@D" + std::to_string(domain) + ".test",
                    refused("no " + std::to_string(domain)), kNow);
  const auto text = digest_of(bounces.counted());
  CHECK(has(text, "\r\nSubject: 465 reports could not be delivered"));
  CHECK(has(text, "\r\nTo: <postmaster@mx.us.test>\r\n"));
  CHECK(has(text, "30 reports to d29.test, the last:\r\n    <user29@D29.test>: no 29\r\n"));
  CHECK(has(text, "21 reports to d20.test"));
  CHECK_FALSE(has(text, "d19.test"));
  CHECK(has(text, "And 210 reports to other domains."));
  CHECK(mail::is_about_double_bounces(text));
  bounces.forget();
  bounces.count("postmaster", refused(), kNow);
  CHECK(has(digest_of(bounces.counted()), "1 report to this host"));
  CHECK(has(digest_of(bounces.counted()), "\r\nSubject: 1 report could"));
}

TEST_CASE("strangers' words and domains without end do no harm to a digest", "[delivery][notice]") {
  DoubleBounces bounces;
  const std::string odd = "a\r\nBcc: x\x1b[2J\xff " + std::string(5000, 'y');
  for (std::size_t i = 0; i < UndeliveredNotices::kMostDomains + 50; ++i)
    bounces.count(odd + "@d" + std::to_string(i) + ".test", refused(odd), kNow);
  CHECK(bounces.counted().domains.size() == UndeliveredNotices::kMostDomains);
  CHECK(bounces.counted().elsewhere == 50);
  CHECK(bounces.encode().size() < (4U << 20U));
  const auto text = digest_of(bounces.counted());
  CHECK(text.size() < 16384);
  CHECK(has(text, "And 1,040 reports to other domains."));
  for (const auto line : split(std::string_view(text).substr(0, text.size() - 2), '\n')) {
    CHECK(line.size() <= 999);
    for (const char c : line.substr(0, line.find_last_not_of('\r') + 1))
      CHECK((c >= ' ' && c <= '~'));
  }
}

TEST_CASE("what was counted is kept whole", "[delivery][notice]") {
  DoubleBounces bounces;
  for (int i = 0; i < 10; ++i)
    REQUIRE(bounces.may_tell(kNow));
  for (int i = 0; i < 12; ++i)
    bounces.count("x@d" + std::to_string(i % 3) + ".test", refused("n\"o\xff"), kNow + i * 1min);
  auto again = DoubleBounces::decode(bounces.encode());
  REQUIRE(again.has_value());
  CHECK(digest_of(again->counted()) == digest_of(bounces.counted()));
  CHECK_FALSE(again->may_tell(kNow + 30min));
  CHECK(again->due(kNow + 59min) == nullptr);
  REQUIRE(again->due(kNow + 60min) != nullptr);
  again->told(*again->due(kNow + 60min), kNow + 60min);
  CHECK(again->may_tell(kNow + 60min));
}

TEST_CASE("a digest tells of reports to other domains once", "[delivery][notice]") {
  DoubleBounces bounces;
  for (std::size_t i = 0; i < UndeliveredNotices::kMostDomains + 50; ++i)
    bounces.count("x@d" + std::to_string(i) + ".test", refused(), kNow);
  bounces.told(UndeliveredNotices(bounces.counted()), kNow + 1h);
  CHECK(bounces.counted().elsewhere == 0);
  bounces.count("x@far.test", refused(), kNow + 1h);
  CHECK_FALSE(has(digest_of(bounces.counted()), "to other domains"));
}

TEST_CASE("the ten of an hour are ten, though there is a start in between", "[delivery][notice]") {
  DoubleBounces bounces;
  for (int i = 0; i < 10; ++i)
    REQUIRE(bounces.may_tell(kNow));
  auto again = DoubleBounces::decode(bounces.encode());
  REQUIRE(again.has_value());
  CHECK_FALSE(again->may_tell(kNow + 59min));
  CHECK(again->may_tell(kNow + 60min));
}

TEST_CASE("a file that is not a count is refused, or read as far as it goes",
          "[delivery][notice]") {
  for (const auto* bad : {"", "[]", "7", "{", "{\"count\":"})
    CHECK_FALSE(DoubleBounces::decode(bad).has_value());
  for (const auto* odd :
       {"{}", R"({"count": -3, "sent": {}, "domains": 5})",
        R"({"count": 18446744073709551615, "since": 9223372036854775807, "until": -1,
            "sent": [1e99, "x", null, 5], "domains": [{}, 5, {"domain": 5, "count": "x"}]})"}) {
    auto kept = DoubleBounces::decode(odd);
    REQUIRE(kept.has_value());
    (void)digest_of(kept->counted());
    kept->count("x@far.test", refused(), kNow);
    if (const auto* due = kept->due(kNow + 1h))
      kept->told(UndeliveredNotices(*due), kNow + 1h);
  }
}
