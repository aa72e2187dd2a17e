// Wishes about time and priority (RFC 2852, 4865, 6710): who may have which, and what is kept.
#include "support.h"

#include "mail/delivery_wishes.h"

#include <catch2/catch.hpp>

using namespace postrider;
using namespace postrider::tests;

namespace {

using mail::Notify;
using std::chrono::hours;
using std::chrono::seconds;

const TimePoint kNow = *mail::parse_date_time("2026-11-30T12:00:00Z") + Duration(250);

PlayOptions at_noon(ServerSettings settings) {
  PlayOptions options;
  options.settings = std::move(settings);
  options.settings.future_release = hours(24);
  options.conditions.now = kNow;
  return options;
}

Play say(const PlayOptions& options, const std::string& parameters,
         const std::string& to = "<y@us.test>") {
  auto script = with_data("Subject: x\r\n\r\nx\r\n.\r\n");
  script[1] = "MAIL FROM:<x@ext.test> " + parameters + "\r\n";
  script[2] = "RCPT TO:" + to + "\r\n";
  return play_in_memory(script, options);
}

bool offers(const PlayOptions& options, const std::string& line) {
  const auto reply = play_in_memory({"EHLO client.test\r\n"}, options).replies.back();
  return reply.find("250-" + line + "\r\n") != std::string::npos;
}

}  // namespace

TEST_CASE("FUTURERELEASE is offered to who may submit, as long as it is configured",
          "[smtpd][wishes]") {
  const std::string line = "FUTURERELEASE 86400 2026-12-01T12:00:00Z";
  CHECK(offers(at_noon(trusting_settings()), line));
  CHECK_FALSE(offers(at_noon(strict_settings()), line));
  auto submission = at_noon(strict_settings());
  submission.role = smtpd::Role::submission;
  CHECK(offers(submission, line));
  auto off = at_noon(trusting_settings());
  off.settings.future_release = Duration(0);
  const auto reply = play_in_memory({"EHLO client.test\r\n"}, off).replies.back();
  CHECK(reply.find("FUTURERELEASE") == std::string::npos);
  CHECK(say(off, "HOLDFOR=60").codes(2) == "555");
  CHECK(offers(at_noon(strict_settings()), "DELIVERBY"));
  CHECK(offers(at_noon(strict_settings()), "MT-PRIORITY"));
}

TEST_CASE("a wish to be held is kept in whole seconds, and no stranger has it", "[smtpd][wishes]") {
  const auto ours = say(at_noon(trusting_settings()), "HOLDFOR=3600");
  REQUIRE(ours.kept.size() == 1);
  CHECK(ours.kept[0].envelope.release ==
        *mail::parse_date_time("2026-11-30T13:00:01Z"));  // not before its time
  const auto until = say(at_noon(trusting_settings()), "HOLDUNTIL=2026-11-30T14:00:00+01:00");
  REQUIRE(until.kept.size() == 1);
  CHECK(until.kept[0].envelope.release == *mail::parse_date_time("2026-11-30T13:00:00Z"));
  CHECK(say(at_noon(trusting_settings()), "HOLDFOR=86401").codes(2) == "501");
  const auto stranger = say(at_noon(strict_settings()), "HOLDFOR=3600");
  CHECK(stranger.codes(2) == "555");
  CHECK(stranger.kept.empty());
}

TEST_CASE("a transaction forgets the wishes of the one before", "[smtpd][wishes]") {
  Script script = {"EHLO client.test\r\n",
                   "MAIL FROM:<x@ext.test> HOLDFOR=60 BY=120;RT MT-PRIORITY=5\r\n", "RSET\r\n"};
  for (const auto& step : with_data("Subject: x\r\n\r\nx\r\n.\r\n"))
    if (!step.starts_with("EHLO"))
      script.push_back(step);
  const auto got = play_in_memory(script, at_noon(trusting_settings()));
  REQUIRE(got.kept.size() == 1);
  CHECK_FALSE(got.kept[0].envelope.deliver_by);
  CHECK(got.kept[0].envelope.release == TimePoint());
  CHECK(got.kept[0].envelope.priority == 0);
}

TEST_CASE("BY becomes a time", "[smtpd][wishes]") {
  const auto got = say(at_noon(trusting_settings()), "BY=120;RT");
  REQUIRE(got.kept.size() == 1);
  const auto by = got.kept[0].envelope.deliver_by;
  REQUIRE(by);
  CHECK(by->time == *mail::parse_date_time("2026-11-30T12:02:00Z"));
  CHECK(by->returns);
  CHECK(by->traces);
  const auto late = say(at_noon(trusting_settings()), "BY=-60;N");
  REQUIRE(late.kept.size() == 1);
  CHECK(late.kept[0].envelope.deliver_by->time == *mail::parse_date_time("2026-11-30T11:59:00Z"));
  CHECK(say(at_noon(strict_settings()), "BY=0;R").codes(2) == "501");
}

// They go to whoever the sender claims to be, as reports of success do.
TEST_CASE("a stranger's mail is not reported to be late before other mail", "[smtpd][wishes]") {
  const auto bits_of = [](const PlayOptions& options, const std::string& mode,
                          const std::string& notify) {
    const auto got = say(options, "BY=600;" + mode, "<y@us.test>" + notify);
    REQUIRE(got.kept.size() == 1);
    return static_cast<int>(got.kept[0].envelope.recipients[0].notify.bits);
  };
  const auto stranger = at_noon(strict_settings());
  CHECK(bits_of(stranger, "N", "") == 0);
  CHECK(bits_of(stranger, "NT", " NOTIFY=FAILURE") == Notify::kFailure);
  CHECK(bits_of(stranger, "N", " NOTIFY=NEVER") == Notify::kNever);
  CHECK(bits_of(stranger, "N", " NOTIFY=DELAY") == Notify::kDelay);
  CHECK_FALSE(say(stranger, "BY=600;NT").kept.at(0).envelope.deliver_by);
  const auto ours = at_noon(trusting_settings());
  CHECK(bits_of(ours, "N", "") == 0);
  CHECK(bits_of(ours, "NT", " NOTIFY=FAILURE") == Notify::kFailure);
  CHECK(say(ours, "BY=600;RT").kept.at(0).envelope.deliver_by->traces);
  auto open = at_noon(strict_settings());
  open.settings.success_notices = true;
  CHECK(bits_of(open, "N", "") == 0);
  CHECK(say(open, "BY=600;NT").kept.at(0).envelope.deliver_by->traces);
}

// Late mail, and all that a host behind us without DELIVERBY gets, goes to whoever its sender claims to
// be.
TEST_CASE("mode R is not for strangers", "[smtpd][wishes]") {
  const auto codes = [](const PlayOptions& options, const std::string& mode,
                        const std::string& to) {
    return say(options, "BY=600;" + mode, to).codes(3);
  };
  CHECK(codes(at_noon(strict_settings()), "R", "<y@backup.test>") == "550");
  CHECK(codes(at_noon(strict_settings()), "N", "<y@backup.test>") == "250");
  CHECK(codes(at_noon(strict_settings()), "R", "<y@us.test>") == "550");
  auto open = at_noon(strict_settings());
  open.settings.success_notices = true;
  CHECK(codes(open, "R", "<y@us.test>") == "250");
  CHECK(codes(at_noon(trusting_settings()), "R", "<y@backup.test>") == "250");
  CHECK(codes(at_noon(trusting_settings()), "R", "<y@ext.test>") == "250");
}

TEST_CASE("a priority above 0 is for clients that may relay", "[smtpd][wishes]") {
  const auto ours = say(at_noon(trusting_settings()), "MT-PRIORITY=4");
  CHECK(ours.replies[2] == "250 2.1.0 Ok\r\n");
  REQUIRE(ours.kept.size() == 1);
  CHECK(ours.kept[0].envelope.priority == 4);
  const auto stranger = say(at_noon(strict_settings()), "MT-PRIORITY=4");
  CHECK(stranger.replies[2].starts_with("250 2.3.6 0 "));
  REQUIRE(stranger.kept.size() == 1);
  CHECK(stranger.kept[0].envelope.priority == 0);
  const auto modest = say(at_noon(strict_settings()), "MT-PRIORITY=-4");
  CHECK(modest.replies[2] == "250 2.1.0 Ok\r\n");
  CHECK(modest.kept.at(0).envelope.priority == -4);
}

TEST_CASE("the Received field has the priority (RFC 6710 4.1)", "[smtpd][wishes]") {
  PlayOptions options;
  options.settings = trusting_settings();
  auto script = with_data("Subject: x\r\n\r\nx\r\n.\r\n");
  const auto trace_of = [&](const std::string& parameters) {
    script[1] = "MAIL FROM:<x@ext.test>" + parameters + "\r\n";
    return play_over_tcp(script, play_in_memory(script, options), options).kept.at(0).trace;
  };
  CHECK(trace_of(" MT-PRIORITY=-4").find("\r\n\tpriority -4;\r\n") != std::string::npos);
  CHECK(trace_of(" MT-PRIORITY=0").find("priority") == std::string::npos);
}

TEST_CASE("wishes travel with PIPELINING and chunks", "[smtpd][wishes]") {
  const auto got = play_in_memory(
      {"EHLO client.test\r\n",
       "MAIL FROM:<x@ext.test> BY=60;N MT-PRIORITY=9\r\nRCPT TO:<y@us.test>\r\nBDAT 5 LAST\r\n"
       "\r\nx\r\n"},
      at_noon(trusting_settings()));
  CHECK(got.last_codes() == "250 250 250");
  REQUIRE(got.kept.size() == 1);
  CHECK(got.kept[0].envelope.deliver_by->time == *mail::parse_date_time("2026-11-30T12:01:00Z"));
  CHECK(got.kept[0].envelope.priority == 9);
}
