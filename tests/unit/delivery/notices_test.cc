#include "delivery/notices.h"

#include "messages.h"
#include "rig.h"

#include "delivery/job/job_outcome.h"

#include <catch2/catch.hpp>

#include <regex>

using namespace postrider;
using namespace postrider::delivery;
using mail::Notify;
using mail::Verdict;

namespace {

struct KeptLog : Log {
  bool enabled(Level) const override { return true; }
  void write(LogEvent event) override {
    std::string line;
    format_text(event, line);
    lines.push_back(line);
  }
  std::vector<std::string> lines;
};

struct Desk {
  queue::Lease lease;
  queue::Record record;
  DeliverySettings settings;
  WatchedCustody custody{"/nonexistent"};
  KeptLog log;
  SystemRandom random;
  TimePoint now{std::chrono::hours(500000)};
  DoubleBounces double_bounces;

  explicit Desk(std::vector<std::string> recipients, std::string sender = "from@sender.test") {
    settings.own.hostname = "us.test";
    lease.message = make_message(std::move(recipients), "Subject: original\r\n\r\nBody.\r\n",
                                 std::move(sender));
  }
  void notify(std::uint32_t index, std::uint8_t bits) {
    std::const_pointer_cast<mail::Message>(lease.message)->envelope.recipients[index].notify.bits =
        bits;
  }
  void end(std::uint32_t index, Verdict verdict, mail::Stage stage = mail::Stage::rcpt) {
    const std::uint8_t klass = verdict == Verdict::delivered ? 2
                               : verdict == Verdict::retry   ? 4
                                                             : 5;
    record.results.push_back({index, decide(verdict, stage, {klass, 0, 0}, "words"), {}});
  }
  std::vector<queue::Submission>& write() {
    add_notices(lease, *lease.message->content.bytes, record,
                {settings, custody, log, random, now, double_bounces});
    return record.notices;
  }
  std::string text(std::size_t number = 0) {
    return *record.notices.at(number).message->content.bytes;
  }
};

}  // namespace

TEST_CASE("several failures share one notice to the sender", "[delivery][notice]") {
  Desk desk({"a@x.test", "b@x.test", "c@x.test"});
  desk.end(0, Verdict::bounce);
  desk.end(1, Verdict::delivered);
  desk.end(2, Verdict::bounce);
  REQUIRE(desk.write().size() == 1);
  CHECK(desk.text().find("a@x.test") != std::string::npos);
  CHECK(desk.text().find("c@x.test") != std::string::npos);
  CHECK(desk.text().find("b@x.test") == std::string::npos);
  const auto& message = *desk.record.notices[0].message;
  CHECK(message.envelope.sender.empty());
  CHECK(message.envelope.recipients[0].address == "from@sender.test");
  CHECK(message.content.size == message.content.bytes->size());
  CHECK(message.content.ends_with_crlf);
}

TEST_CASE("a notice about a message under REQUIRETLS is under it too, and holds no body",
          "[delivery][notice]") {
  Desk desk({"a@x.test"});
  auto& envelope = std::const_pointer_cast<mail::Message>(desk.lease.message)->envelope;
  envelope.tls = mail::TlsWish::required;
  envelope.ret = mail::Return::full;
  desk.end(0, Verdict::bounce);
  REQUIRE(desk.write().size() == 1);
  CHECK(desk.record.notices[0].message->envelope.tls == mail::TlsWish::required);
  CHECK(desk.text().find("Subject: original") != std::string::npos);
  CHECK(desk.text().find("Body.") == std::string::npos);
}

TEST_CASE("a report that several did not get counts for each of them", "[delivery][notice]") {
  Desk desk({"a@x.test", "b@y.test"}, "");
  desk.settings.double_bounce = "postmaster@us.test";
  while (desk.double_bounces.may_tell(desk.now)) {
  }
  desk.end(0, Verdict::bounce);
  desk.end(1, Verdict::bounce);
  CHECK(desk.write().empty());
  CHECK(desk.double_bounces.counted().count == 2);
  CHECK(desk.double_bounces.counted().domains.contains("y.test"));
}

TEST_CASE("M05: NOTIFY is respected", "[delivery][notice]") {
  SECTION("NEVER") {
    Desk desk({"a@x.test"});
    desk.notify(0, Notify::kNever);
    desk.end(0, Verdict::bounce);
    CHECK(desk.write().empty());
  }
  SECTION("only SUCCESS, and it failed") {
    Desk desk({"a@x.test"});
    desk.notify(0, Notify::kSuccess);
    desk.end(0, Verdict::bounce);
    CHECK(desk.write().empty());
  }
  SECTION("SUCCESS at a hop without DSN: relayed") {
    Desk desk({"a@x.test"});
    desk.notify(0, Notify::kSuccess);
    desk.end(0, Verdict::delivered, mail::Stage::body_end);
    desk.record.results[0].outcome.relayed_to_non_dsn = true;
    REQUIRE(desk.write().size() == 1);
    CHECK(desk.text().find("Action: relayed") != std::string::npos);
  }
  SECTION("SUCCESS at a hop with DSN: its business") {
    Desk desk({"a@x.test"});
    desk.notify(0, Notify::kSuccess);
    desk.end(0, Verdict::delivered, mail::Stage::body_end);
    CHECK(desk.write().empty());
  }
  SECTION("SUCCESS here: delivered") {
    Desk desk({"a@here.test"});
    desk.notify(0, Notify::kSuccess);
    desk.end(0, Verdict::delivered, mail::Stage::local);
    REQUIRE(desk.write().size() == 1);
    CHECK(desk.text().find("Action: delivered") != std::string::npos);
  }
  SECTION("no wish to hear of delays") {
    Desk desk({"a@x.test", "b@x.test"});
    desk.lease.reason = queue::Lease::Reason::delay_notice;
    desk.lease.recipients.resize(2);
    desk.lease.recipients[1].index = 1;
    desk.notify(0, Notify::kFailure);
    REQUIRE(desk.write().size() == 1);
    CHECK(desk.text().find("b@x.test") != std::string::npos);
    CHECK(desk.text().find("a@x.test") == std::string::npos);
  }
}

TEST_CASE("M03, M06: there is no notice about a message with a null sender", "[delivery][notice]") {
  Desk desk({"a@x.test"}, "");
  SECTION("dropped") {
    desk.end(0, Verdict::bounce);
    CHECK(desk.write().empty());
  }
  SECTION("told to the administrator, if configured") {
    desk.settings.double_bounce = "postmaster@us.test";
    desk.end(0, Verdict::bounce);
    REQUIRE(desk.write().size() == 1);
    const auto& notice = *desk.record.notices[0].message;
    CHECK(notice.envelope.sender.empty());
    CHECK(notice.envelope.recipients[0].address == "postmaster@us.test");
  }
  SECTION("but never about the notice to the administrator") {
    desk.settings.double_bounce = "A@x.test";
    desk.end(0, Verdict::bounce);
    CHECK(desk.write().empty());
  }
  SECTION("nor to him under the name of this host") {
    desk.settings.double_bounce = "postmaster";
    std::const_pointer_cast<mail::Message>(desk.lease.message)->envelope.recipients[0].address =
        "Postmaster@us.test";
    desk.end(0, Verdict::bounce);
    CHECK(desk.write().empty());
    CHECK(desk.double_bounces.counted().count == 0);
  }
  SECTION("nor about one that tells of others, whoever could not get it") {
    desk.settings.double_bounce = "postmaster";
    desk.end(0, Verdict::bounce);
    REQUIRE(desk.write().size() == 1);
    auto told = desk.text();
    const auto counted = [&] {
      DoubleBounces many;
      many.count("x@far.test", {}, desk.now);
      return compose_digest(many.counted(), "us.test", "postmaster", mail::MessageId{1}, desk.now);
    }();
    for (const auto& text : {told, counted}) {
      desk.record.notices.clear();
      auto& content = std::const_pointer_cast<mail::Message>(desk.lease.message)->content;
      content.bytes =
          std::make_shared<const std::string>("Received: from far\r\n\tby us.test\r\n" + text);
      CHECK(desk.write().empty());
    }
    CHECK(desk.log.lines.back().find("it told of notices that are undeliverable") !=
          std::string::npos);
  }
  SECTION("ten in an hour, and the others counted, each with a line that says what failed") {
    desk.settings.double_bounce = "postmaster@us.test";
    desk.end(0, Verdict::bounce);
    for (int i = 0; i < 25; ++i)
      desk.write();
    CHECK(desk.record.notices.size() == 10U);
    CHECK(desk.double_bounces.counted().count == 15);
    REQUIRE(desk.log.lines.size() == 25U);
    CHECK(desk.log.lines.back().find("warn notice_dropped id=") != std::string::npos);
    CHECK(desk.log.lines.back().find(" to=a@x.test ") != std::string::npos);
    CHECK(desk.log.lines.back().find(" failure=words") != std::string::npos);
    desk.now += std::chrono::hours(2);  // not before the digest has gone
    desk.write();
    CHECK(desk.record.notices.size() == 10U);
    desk.double_bounces.told(*desk.double_bounces.due(desk.now), desk.now);
    for (int i = 0; i < 25; ++i)
      desk.write();
    CHECK(desk.record.notices.size() == 19U);
  }
  SECTION("nor about success or delay") {
    desk.notify(0, Notify::kSuccess);
    desk.end(0, Verdict::delivered, mail::Stage::local);
    desk.lease.reason = queue::Lease::Reason::delay_notice;
    desk.lease.recipients.resize(1);
    CHECK(desk.write().empty());
  }
}

TEST_CASE("a notice has a command's own words, and no path of ours", "[delivery][notice]") {
  struct Case {
    const char *text, *shown;
  };
  const Case cases[] = {
      {"temporary failure. Command output: see https://us.test/quota",
       "temporary failure. Command output: see https://us.test/quota"},
      {"open /var/mail/ann. Command output: try a/b",
       "it cannot be delivered on this machine now. Command output: try a/b"},
      {"open /var/mail/ann: Permission denied", "it cannot be delivered on this machine now"},
  };
  for (const auto& c : cases) {
    Desk desk({"a@x.test"});
    desk.end(0, Verdict::bounce, mail::Stage::local);
    auto& outcome = desk.record.results[0].outcome;
    outcome.text = c.text;
    outcome.remote = "local";
    outcome.reply = {};
    outcome.stage = mail::Stage::expired;
    desk.write();
    INFO(desk.text());
    const auto shown = std::regex_replace(desk.text(), std::regex("\r\n *"), " ");
    CHECK(shown.find(c.shown) != std::string::npos);
    CHECK(shown.find("/var/mail") == std::string::npos);
  }
}

TEST_CASE("a notice that was too large goes once more, without the body", "[delivery][notice]") {
  const struct {
    const char* what;
    mail::EnhancedCode status;
    int reply;
    bool is_ours, goes_again;
  } cases[] = {
      {"larger than the host's limit", {5, 3, 4}, 0, true, true},
      {"larger than the mailbox takes", {5, 2, 3}, 550, true, true},
      {"552 alone", {5, 0, 0}, 552, true, true},
      {"there is no such user", {5, 1, 1}, 550, true, false},
      {"another system's notice", {5, 3, 4}, 0, false, false},
  };
  for (const auto& one : cases) {
    INFO(one.what);
    Desk first({"a@x.test"});
    first.end(0, Verdict::bounce);
    REQUIRE(first.write().size() == 1);
    CHECK(first.text().find("\r\n\r\nBody.\r\n") != std::string::npos);
    const auto fail = [&](const std::shared_ptr<const mail::Message>& message, Desk& desk) {
      auto notice = std::make_shared<mail::Message>(*message);
      if (!one.is_ours)
        notice->origin.protocol = "ESMTP";
      desk.settings.double_bounce = "postmaster@us.test";
      desk.lease.message = notice;
      auto outcome = decide(Verdict::bounce, mail::Stage::mail, one.status, "words");
      outcome.reply.code = one.reply;
      desk.record.results.push_back({0, outcome, {}});
      desk.write();
    };
    Desk again({"unused@x.test"});
    fail(first.record.notices[0].message, again);
    REQUIRE(again.record.notices.size() == 1);
    const auto& shorter = again.record.notices[0].message;
    CHECK(shorter->envelope.sender.empty());
    CHECK(shorter->envelope.recipients[0].address ==
          (one.goes_again ? "from@sender.test" : "postmaster@us.test"));
    if (!one.goes_again)
      continue;
    CHECK(again.text().find("Subject: original") != std::string::npos);
    CHECK(again.text().find("Body.") == std::string::npos);
    Desk last({"unused@x.test"});
    fail(shorter, last);
    REQUIRE(last.record.notices.size() == 1);
    CHECK(last.record.notices[0].message->envelope.recipients[0].address == "postmaster@us.test");
  }
}

namespace {

struct TimedDesk : Desk {
  TimedDesk(bool returns, bool traces = false) : Desk({"a@x.test"}) {
    auto& message = *std::const_pointer_cast<mail::Message>(lease.message);
    message.received = now - std::chrono::hours(2);
    message.envelope.deliver_by =
        mail::DeliverBy{.time = now - std::chrono::hours(1), .returns = returns, .traces = traces};
  }
  void pass_on(bool knows_by) {
    end(0, Verdict::delivered, mail::Stage::body_end);
    record.results[0].outcome.relayed_to_non_dsn = !knows_by;
  }
  void be_late() {
    lease.reason = queue::Lease::Reason::delay_notice;
    lease.recipients.resize(1);
    lease.recipients[0].last = decide(Verdict::retry, mail::Stage::rcpt, {4, 2, 1}, "greylisted");
  }
};

}  // namespace

TEST_CASE("RFC 2852: mode N tells of a host behind which nobody would", "[delivery][notice]") {
  const auto told = [](bool returns, bool knows_by, std::uint8_t notify) {
    TimedDesk desk(returns);
    desk.notify(0, notify);
    desk.pass_on(knows_by);
    return desk.write().size() == 1 && desk.text().find("Action: relayed") != std::string::npos;
  };
  CHECK(told(false, false, 0));
  CHECK(told(false, false, Notify::kFailure));
  CHECK(told(false, false, Notify::kSuccess | Notify::kDelay));
  CHECK_FALSE(told(false, false, Notify::kNever));
  // Who is told of delays and not of success: strangers, too (smtpd/session/policy.h).
  CHECK_FALSE(told(false, false, Notify::kFailure | Notify::kDelay));
  CHECK_FALSE(told(false, true, 0));
  CHECK_FALSE(told(true, true, 0));
}

TEST_CASE("RFC 2852: a trace tells of each host", "[delivery][notice]") {
  for (const bool returns : {false, true}) {
    TimedDesk desk(returns, true);
    desk.pass_on(true);
    REQUIRE(desk.write().size() == 1);
    CHECK(desk.text().find("Action: relayed") != std::string::npos);
    CHECK(desk.text().find("passed on to another mail system\r\n") != std::string::npos);
    CHECK(desk.text().find("\r\nDeliver-By-Date: ") != std::string::npos);
    TimedDesk never(returns, true);
    never.notify(0, Notify::kNever);
    never.pass_on(true);
    CHECK(never.write().empty());
    TimedDesk here(returns, true);
    here.end(0, Verdict::delivered, mail::Stage::local);
    CHECK(here.write().empty());
  }
}

TEST_CASE("RFC 2852: mode N tells that it is late, to all but those who never hear",
          "[delivery][notice]") {
  TimedDesk desk(false);
  desk.notify(0, Notify::kFailure);
  desk.be_late();
  REQUIRE(desk.write().size() == 1);
  CHECK(desk.text().find("Action: delayed\r\nStatus: 4.4.7\r\n") != std::string::npos);
  CHECK(desk.text().find("greylisted") != std::string::npos);
  TimedDesk never(false);
  never.notify(0, Notify::kNever);
  never.be_late();
  CHECK(never.write().empty());
}

TEST_CASE("RFC 4865, 6710: a notice tells of the release and has the priority",
          "[delivery][notice]") {
  Desk desk({"a@x.test"});
  auto& message = *std::const_pointer_cast<mail::Message>(desk.lease.message);
  message.envelope.release = desk.now - std::chrono::hours(1);
  message.envelope.priority = 5;
  desk.end(0, Verdict::bounce);
  REQUIRE(desk.write().size() == 1);
  CHECK(desk.text().find("\r\nFuture-Release-Request: until;2027-01-15T07:00:00Z\r\n") !=
        std::string::npos);
  CHECK(desk.record.notices[0].message->envelope.priority == 5);
  CHECK(desk.record.notices[0].message->envelope.release == TimePoint());
}
