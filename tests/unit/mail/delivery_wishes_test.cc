#include "mail/delivery_wishes.h"

#include "mail/smtp_command.h"

#include <catch2/catch.hpp>

#include <string>
#include <vector>

namespace postrider::mail {
namespace {

using std::chrono::hours;
using std::chrono::seconds;

const TimePoint kNow = *parse_date_time("2026-11-30T12:00:00Z");

MailRules rules(Duration future_release = hours(24)) {
  MailRules rules;
  rules.now = kNow;
  rules.future_release = future_release;
  return rules;
}

std::string codes(const std::string& parameters, const MailRules& given = rules()) {
  const auto command = parse_mail("FROM:<a@b.test> " + parameters, given);
  return command ? "250"
                 : std::to_string(command.error().code) + " " + to_string(command.error().enhanced);
}

std::string shown(const std::optional<ByRequest>& by) {
  if (!by)
    return "none";
  return std::to_string(by->seconds) + (by->returns ? "R" : "N") + (by->traces ? "T" : "");
}

TEST_CASE("BY is a signed number of seconds, a mode and perhaps a trace", "[mail][wishes]") {
  struct Case {
    std::string value, want;
  };
  const std::vector<Case> cases = {
      {"120;R", "120R"},
      {"120;r", "120R"},
      {"+120;RT", "120RT"},
      {"0;N", "0N"},
      {"-1;N", "-1N"},
      {"-999999999;NT", "-999999999NT"},
      {"999999999;R", "999999999R"},
      {"000000001;R", "1R"},
      // RFC 2852 §4: late mail cannot be returned for being late.
      {"0;R", "none"},
      {"-1;R", "none"},
      {"-0;RT", "none"},
      {"1000000000;N", "none"},
      {"9999999999999999999999;N", "none"},
      {"18446744073709551617;R", "none"},
      {"", "none"},
      {";R", "none"},
      {"-;N", "none"},
      {"+-1;N", "none"},
      {"--1;N", "none"},
      {"120", "none"},
      {"120;", "none"},
      {"120R", "none"},
      {"120;T", "none"},
      {"120;TR", "none"},
      {"120;RN", "none"},
      {"120;RTT", "none"},
      {"120;R ", "none"},
      {" 120;R", "none"},
      {"0x10;R", "none"},
      {"1e3;R", "none"},
      {"1.5;R", "none"},
  };
  for (const auto& c : cases)
    DYNAMIC_SECTION("<" << c.value << ">") {
      CHECK(shown(parse_by(c.value)) == c.want);
    }
}

TEST_CASE("a date-time has a date that exists and a zone", "[mail][wishes]") {
  struct Case {
    std::string value, want;
  };
  const std::vector<Case> cases = {
      {"2026-11-30T13:00:00Z", "2026-11-30T13:00:00Z"},
      {"2026-11-30t13:00:00z", "2026-11-30T13:00:00Z"},
      {"2026-11-30T13:00:00+01:00", "2026-11-30T12:00:00Z"},
      {"2026-11-30T13:00:00-05:30", "2026-11-30T18:30:00Z"},
      {"2026-11-30T13:00:00-00:00", "2026-11-30T13:00:00Z"},
      {"2027-01-01T00:30:00+01:00", "2026-12-31T23:30:00Z"},
      {"2026-11-30T13:00:00.001Z", "2026-11-30T13:00:01Z"},
      {"2026-11-30T13:00:00.000Z", "2026-11-30T13:00:00Z"},
      {"2026-11-30T23:59:59.9999999999999999999999999Z", "2026-12-01T00:00:00Z"},
      {"2028-02-29T00:00:00Z", "2028-02-29T00:00:00Z"},
      {"2000-02-29T00:00:00Z", "2000-02-29T00:00:00Z"},
      {"2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z"},
      {"9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"},
      {"9999-12-31T23:59:60-23:59", "10000-01-01T23:59:00Z"},
      {"1969-12-31T23:59:59Z", "1970-01-01T00:00:00Z"},
      {"0000-01-01T00:00:00Z", "1970-01-01T00:00:00Z"},
      {"2026-02-29T00:00:00Z", "none"},
      {"2100-02-29T00:00:00Z", "none"},
      {"2026-02-30T00:00:00Z", "none"},
      {"2026-04-31T00:00:00Z", "none"},
      {"2026-00-10T00:00:00Z", "none"},
      {"2026-13-10T00:00:00Z", "none"},
      {"2026-11-00T00:00:00Z", "none"},
      {"2026-11-30T24:00:00Z", "none"},
      {"2026-11-30T13:60:00Z", "none"},
      {"2026-11-30T13:00:61Z", "none"},
      {"2026-11-30T13:00:00", "none"},
      {"2026-11-30T13:00:00.Z", "none"},
      {"2026-11-30T13:00:00+24:00", "none"},
      {"2026-11-30T13:00:00+01:60", "none"},
      {"2026-11-30T13:00:00+0100", "none"},
      {"2026-11-30T13:00:00+1:00", "none"},
      {"2026-11-30T13:00:00ZZ", "none"},
      {"2026-11-30T13:00:00Z ", "none"},
      {"2026-11-30 13:00:00Z", "none"},
      {"2026-11-30T13:00Z", "none"},
      {"2026-11-30", "none"},
      {"26-11-30T13:00:00Z", "none"},
      {"+2026-11-30T13:00:00Z", "none"},
      {"-026-11-30T13:00:00Z", "none"},
      {"2026-11-3OT13:00:00Z", "none"},
      {"1796040000", "none"},
      {"", "none"},
  };
  for (const auto& c : cases)
    DYNAMIC_SECTION("<" << c.value << ">") {
      const auto time = parse_date_time(c.value);
      CHECK((time ? format_date_time(*time) : "none") == c.want);
    }
}

TEST_CASE("HOLDFOR and MT-PRIORITY have one form each", "[mail][wishes]") {
  CHECK(parse_hold_for("1") == seconds(1));
  CHECK(parse_hold_for("999999999") == seconds(999999999));
  for (const auto* bad : {"", "0", "01", "-1", "+1", "1000000000", "1s", "1.0", " 1"})
    CHECK_FALSE(parse_hold_for(bad));
  CHECK(parse_priority("0") == 0);
  CHECK(parse_priority("9") == 9);
  CHECK(parse_priority("-9") == -9);
  for (const auto* bad : {"", "-", "-0", "+3", "10", "-10", "03", "3.0", "a", " 3", "3 "})
    CHECK_FALSE(parse_priority(bad));
}

TEST_CASE("MAIL takes wishes about time and priority", "[mail][wishes]") {
  const auto command =
      parse_mail("FROM:<a@b.test> BY=7200;NT HOLDFOR=3600 mt-priority=-4 RET=HDRS", rules());
  REQUIRE(command.has_value());
  CHECK(command->by == ByRequest{7200, false, true});
  CHECK(command->release == kNow + hours(1));
  CHECK(command->priority == std::int8_t{-4});
  CHECK(parse_mail("FROM:<a@b.test> HOLDUNTIL=2026-11-30T14:00:00+01:00", rules())->release ==
        kNow + hours(1));
  const auto plain = parse_mail("FROM:<a@b.test>", rules());
  CHECK_FALSE(plain->by);
  CHECK_FALSE(plain->release);
  CHECK_FALSE(plain->priority);
}

TEST_CASE("what cannot be meant is refused at MAIL", "[mail][wishes]") {
  struct Case {
    std::string name, parameters, want;
  };
  const std::vector<Case> cases = {
      {"BY without value", "BY", "501 5.5.4"},
      {"BY twice", "BY=1;N BY=1;N", "501 5.5.4"},
      {"both holds", "HOLDFOR=60 HOLDUNTIL=2026-11-30T13:00:00Z", "501 5.5.4"},
      {"both holds, the other way round", "HOLDUNTIL=2026-11-30T13:00:00Z HOLDFOR=60", "501 5.5.4"},
      {"as long as is offered", "HOLDFOR=86400", "250"},
      {"longer than is offered", "HOLDFOR=86401", "501 5.5.4"},
      {"until as late as is offered", "HOLDUNTIL=2026-12-01T12:00:00Z", "250"},
      {"until later than is offered", "HOLDUNTIL=2026-12-01T12:00:01Z", "501 5.5.4"},
      {"until the end of time", "HOLDUNTIL=9999-12-31T23:59:59Z", "501 5.5.4"},
      {"until a second from now", "HOLDUNTIL=2026-11-30T12:00:01Z", "250"},
      {"until now", "HOLDUNTIL=2026-11-30T12:00:00Z", "501 5.5.4"},
      {"until the past", "HOLDUNTIL=2026-11-30T12:59:59+01:00", "501 5.5.4"},
      {"a hold that ends before BY does", "BY=61;R HOLDFOR=60", "250"},
      {"a hold that ends with BY", "BY=60;R HOLDFOR=60", "501 5.5.4"},
      {"a hold beyond BY", "HOLDFOR=60 BY=59;N", "501 5.5.4"},
      {"a hold of what is late already", "HOLDFOR=1 BY=-5;N", "501 5.5.4"},
      {"a priority beyond the range", "MT-PRIORITY=10", "501 5.5.4"},
      {"a priority without value", "MT-PRIORITY", "501 5.5.4"},
  };
  for (const auto& c : cases)
    DYNAMIC_SECTION(c.name) {
      CHECK(codes(c.parameters) == c.want);
    }
}

TEST_CASE("nothing is held where that is not offered", "[mail][wishes]") {
  CHECK(codes("HOLDFOR=60", rules(Duration(0))) == "555 5.5.4");
  CHECK(codes("HOLDUNTIL=2026-11-30T13:00:00Z", rules(Duration(0))) == "555 5.5.4");
  CHECK(codes("BY=60;R MT-PRIORITY=3", rules(Duration(0))) == "250");
}

}  // namespace
}  // namespace postrider::mail
