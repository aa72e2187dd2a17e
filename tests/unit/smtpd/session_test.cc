#include "support.h"

#include <catch2/catch.hpp>

using namespace postrider;
using namespace postrider::tests;

namespace {

struct Case {
  std::string name;
  Script sent;
  std::string last;  // the reply to the last step
};

void check(const std::vector<Case>& cases, const PlayOptions& options = {}) {
  for (const auto& c : cases)
    DYNAMIC_SECTION(c.name) {
      const auto result = play_in_memory(c.sent, options);
      CHECK(result.replies.back() == c.last);
    }
}

const std::string kMail = "MAIL FROM:<a@ext.test>\r\n";
const std::string kRcpt = "RCPT TO:<user@us.test>\r\n";
const std::string kEhlo = "EHLO client.test\r\n";

}  // namespace

TEST_CASE("each command is refused until the command before it", "[smtpd][session]") {
  check({
      {"MAIL before EHLO", {kMail}, "503 5.5.1 Send EHLO first, and one MAIL per message\r\n"},
      {"RCPT before MAIL", {kEhlo, kRcpt}, "503 5.5.1 Send MAIL first\r\n"},
      {"DATA before MAIL", {kEhlo, "DATA\r\n"}, "503 5.5.1 Send MAIL and RCPT first\r\n"},
      {"DATA before RCPT", {kEhlo, kMail, "DATA\r\n"}, "503 5.5.1 Send RCPT first\r\n"},
      {"a second MAIL",
       {kEhlo, kMail, kMail},
       "503 5.5.1 Send EHLO first, and one MAIL per message\r\n"},
      {"verbs ignore case", {"ehlo c.test\r\n", "mail from:<a@b.test>\r\n"}, "250 2.1.0 Ok\r\n"},
      {"trailing space", {kEhlo, "MAIL FROM:<a@b.test> \t \r\n"}, "250 2.1.0 Ok\r\n"},
      {"HELO will do", {"HELO c.test\r\n", kMail}, "250 2.1.0 Ok\r\n"},
      {"an unknown verb", {kEhlo, "FROB\r\n"}, "500 5.5.2 Command not recognized\r\n"},
      {"an empty line", {kEhlo, "\r\n"}, "500 5.5.2 Command not recognized\r\n"},
  });
}

TEST_CASE("commands that move no mail have their answers", "[smtpd][session]") {
  check({
      {"NOOP", {kEhlo, "NOOP\r\n"}, "250 2.0.0 Ok\r\n"},
      {"NOOP with words", {kEhlo, "NOOP are you there\r\n"}, "250 2.0.0 Ok\r\n"},
      {"RSET", {kEhlo, "RSET\r\n"}, "250 2.0.0 Ok\r\n"},
      {"RSET with words", {kEhlo, "RSET now\r\n"}, "501 5.5.4 This command takes no argument\r\n"},
      {"VRFY", {kEhlo, "VRFY user\r\n"}, "252 2.0.0 Send mail to find out\r\n"},
      {"VRFY alone", {kEhlo, "VRFY\r\n"}, "501 5.5.4 An argument is needed\r\n"},
      {"EXPN", {kEhlo, "EXPN list\r\n"}, "502 5.5.1 Not offered here\r\n"},
      {"STARTTLS", {kEhlo, "STARTTLS\r\n"}, "502 5.5.1 Not offered here\r\n"},
      {"AUTH", {kEhlo, "AUTH PLAIN AGEAYg==\r\n"}, "502 5.5.1 Not offered here\r\n"},
      {"QUIT", {kEhlo, "QUIT\r\n"}, "221 2.0.0 Bye\r\n"},
      {"QUIT at once", {"QUIT\r\n"}, "221 2.0.0 Bye\r\n"},
  });
  CHECK(play_in_memory({kEhlo, "HELP\r\n"}).replies.back().starts_with("214-2.0.0 "));
}

TEST_CASE("EHLO offers what is served", "[smtpd][session]") {
  CHECK(play({kEhlo}).replies.back() ==
        "250-mx.us.test\r\n250-PIPELINING\r\n250-SIZE 52428800\r\n250-8BITMIME\r\n"
        "250-SMTPUTF8\r\n250-CHUNKING\r\n250-BINARYMIME\r\n250-DSN\r\n"
        "250-ENHANCEDSTATUSCODES\r\n250-LIMITS "
        "RCPTMAX=1000\r\n250-DELIVERBY\r\n250-MT-PRIORITY\r\n250 HELP\r\n");
  CHECK(play({"HELO client.test\r\n"}).replies.back() == "250 mx.us.test\r\n");
}

TEST_CASE("a message is taken and answered with its id", "[smtpd][session]") {
  const auto result = play(with_data("Subject: x\r\n\r\nhello\r\n..dot\r\n.\r\n"));
  CHECK(result.replies.back() == "250 2.0.0 Ok: queued as ID\r\n");
  REQUIRE(result.kept.size() == 1);
  CHECK(result.kept[0].content == "Subject: x\r\n\r\nhello\r\n.dot\r\n");
  CHECK(result.kept[0].envelope.sender == "x@ext.test");
  CHECK(result.kept[0].protocol == "ESMTP");
}

TEST_CASE("the keyword of the protocol is that of RFC 3848 and 6531", "[smtpd][session]") {
  auto script = with_data("\r\n.\r\n");
  script[0] = "HELO client.test\r\n";
  CHECK(play(script).kept.at(0).protocol == "SMTP");
  script[0] = kEhlo;
  script[1] = "MAIL FROM:<\xc3\xa9@ext.test> SMTPUTF8\r\n";
  const auto utf8 = play(script);
  CHECK(utf8.kept.at(0).protocol == "UTF8SMTP");
  CHECK(utf8.kept.at(0).envelope.smtputf8);
}

TEST_CASE("what MAIL and RCPT said is kept", "[smtpd][session]") {
  auto script = with_data("\r\n.\r\n");
  script[1] = "MAIL FROM:<> RET=HDRS ENVID=abc+2B SIZE=100 BODY=8BITMIME\r\n";
  script[2] = "RCPT TO:<y@us.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;y+40us.test\r\n";
  PlayOptions options;
  options.settings = trusting_settings();
  const auto envelope = play(script, options).kept.at(0).envelope;
  CHECK(envelope.sender.empty());
  CHECK(envelope.ret == mail::Return::headers);
  CHECK(envelope.envelope_id == "abc+2B");
  CHECK(envelope.body == mail::BodyType::eight_bit_mime);
  REQUIRE(envelope.recipients.size() == 1);
  CHECK(envelope.recipients[0].notify.success());
  CHECK(envelope.recipients[0].original_recipient == "rfc822;y+40us.test");
}

TEST_CASE("trouble of ours is temporary and names the session", "[smtpd][session]") {
  PlayOptions options;
  SECTION("a disk that runs full is told at MAIL") {
    options.conditions.storage = smtpd::Storage::no_room;
    CHECK(play({kEhlo, kMail}, options).replies.back() ==
          "452 4.3.1 Not enough room, try again later\r\n");
  }
  SECTION("broken storage is told at MAIL") {
    options.conditions.storage = smtpd::Storage::failed;
    CHECK(play({kEhlo, kMail}, options).replies.back() ==
          "451 4.3.0 Storage trouble, try again later [ID]\r\n");
  }
  SECTION("a commit that fails") {
    options.store_result = smtpd::Storage::failed;
    const auto result = play(with_data("\r\n.\r\n"), options);
    CHECK(result.replies.back() == "451 4.3.0 Storage trouble, try again later [ID]\r\n");
    CHECK(result.kept.empty());
  }
  SECTION("a commit that finds no room") {
    options.store_result = smtpd::Storage::no_room;
    CHECK(play(with_data("\r\n.\r\n"), options).replies.back() ==
          "452 4.3.1 Not enough room, try again later\r\n");
  }
  SECTION("a directory that cannot tell") {
    CHECK(play({kEhlo, kMail, "RCPT TO:<maybe@us.test>\r\n"}).replies.back() ==
          "451 4.3.0 Cannot check this recipient now [ID]\r\n");
  }
}

TEST_CASE("a server that stops finishes what is begun", "[smtpd][session]") {
  PlayOptions options;
  options.conditions.stopping = true;
  CHECK(play_in_memory({}, options).replies.back() == "421 4.3.2 Service is shutting down\r\n");
  CHECK(play_in_memory({}, options).closed);
}

TEST_CASE("a submission needs a known client", "[smtpd][session]") {
  PlayOptions options;
  options.role = smtpd::Role::submission;
  CHECK(play({kEhlo, kMail}, options).replies.back() == "530 5.7.0 Authentication required\r\n");
  options.settings = trusting_settings();
  CHECK(play({kEhlo, kMail, "RCPT TO:<z@ext.test>\r\n"}, options).replies.back() ==
        "250 2.1.5 Ok\r\n");
}

TEST_CASE("M01: a message with a hundred Received fields is a loop", "[smtpd][session]") {
  std::string fields;
  for (int i = 0; i < 99; ++i)
    fields += "Received: from a by b; Mon, 23 Nov 2026 13:34:44 +0000\r\n";
  CHECK(play(with_data(fields + "\r\nx\r\n.\r\n")).last_codes() == "250");
  fields += "rEceived : from a by b\r\n";
  CHECK(play(with_data(fields + "\r\nx\r\n.\r\n")).replies.back() == "554 5.4.6 Too many hops\r\n");
  // Lines of the body are nobody's trace.
  CHECK(play(with_data("Subject: x\r\n\r\n" + fields + ".\r\n")).last_codes() == "250");
}

// A stranger's reports of success would go to whoever he names, with more octets than he sent.
TEST_CASE("notices of success are for clients that may relay", "[smtpd]") {
  const auto notify_of = [](const PlayOptions& options, const std::string& words) {
    auto script = with_data("\r\nx\r\n.\r\n");
    script[2] = "RCPT TO:<y@us.test> NOTIFY=" + words + " ORCPT=rfc822;y@us.test\r\n";
    const auto got = play(script, options);
    REQUIRE(got.kept.size() == 1);
    CHECK(got.kept[0].envelope.recipients[0].original_recipient == "rfc822;y@us.test");
    return static_cast<int>(got.kept[0].envelope.recipients[0].notify.bits);
  };
  using mail::Notify;
  PlayOptions stranger;
  CHECK(notify_of(stranger, "SUCCESS") == Notify::kNever);
  CHECK(notify_of(stranger, "SUCCESS,FAILURE") == Notify::kFailure);
  CHECK(notify_of(stranger, "DELAY") == Notify::kDelay);
  PlayOptions ours;
  ours.settings = trusting_settings();
  CHECK(notify_of(ours, "SUCCESS") == Notify::kSuccess);
  PlayOptions open;
  open.settings.success_notices = true;
  CHECK(notify_of(open, "SUCCESS,FAILURE") == (Notify::kSuccess | Notify::kFailure));
}

TEST_CASE("clients that may relay may leave out brackets and domain", "[smtpd]") {
  Script script = {"EHLO client.test\r\n",
                   "MAIL FROM:root SIZE=10\r\n",
                   "RCPT TO:<user>\r\n",
                   "RCPT TO: y@us.test\r\n",
                   "DATA\r\n",
                   "\r\nx\r\n.\r\n"};
  PlayOptions options;
  options.settings = trusting_settings();
  options.settings.origin = "us.test";
  const auto ours = play(script, options);
  REQUIRE(ours.kept.size() == 1);
  CHECK(ours.kept[0].envelope.sender == "root@us.test");
  CHECK(ours.kept[0].envelope.recipients[0].address == "user@us.test");
  CHECK(ours.kept[0].envelope.recipients[1].address == "y@us.test");
  const auto stranger =
      play({script[0], script[1], "MAIL FROM:<x@ext.test>\r\n", script[2], script[3]});
  CHECK(stranger.codes(2) == "501");
  CHECK(stranger.codes(4) == "501");
  CHECK(stranger.codes(5) == "501");
  CHECK(stranger.replies[4] == "501 5.1.3 Bad recipient address: no domain\r\n");
}

TEST_CASE("QUIT takes no argument (RFC 5321 4.1.1)", "[smtpd]") {
  const auto got = play({"EHLO client.test\r\n", "QUIT now\r\n", "QUIT \r\n"});
  CHECK(got.codes(2) == "501");
  CHECK(got.codes(3) == "221");
  CHECK(got.closed);
}
