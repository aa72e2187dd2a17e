#include "delivery/notices.h"

#include "messages.h"
#include "rig.h"

#include "delivery/job/job_outcome.h"

#include <catch2/catch.hpp>

using namespace postrider;
using namespace postrider::delivery;
using mail::Notify;
using mail::Verdict;

namespace {

struct Desk {
  queue::Lease lease;
  queue::Record record;
  DeliverySettings settings;
  WatchedCustody custody{"/nonexistent"};
  NullLog log;
  SystemRandom random;

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
                {settings, custody, log, random, TimePoint(std::chrono::hours(500000))});
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
  SECTION("nor about success or delay") {
    desk.notify(0, Notify::kSuccess);
    desk.end(0, Verdict::delivered, mail::Stage::local);
    desk.lease.reason = queue::Lease::Reason::delay_notice;
    desk.lease.recipients.resize(1);
    CHECK(desk.write().empty());
  }
}
