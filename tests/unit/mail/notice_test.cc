#include "mail/notice.h"

#include "base/file.h"
#include "base/text.h"
#include "mail/convert.h"
#include "mail/header.h"
#include "tests/support/folder.h"

#include <catch2/catch.hpp>

#include <cstdlib>

namespace postrider::mail {
namespace {

using namespace std::string_literals;

const TimePoint kReceived{std::chrono::seconds(1795440884)};

Message original() {
  Message message;
  message.id = MessageId{1795440884000000};
  message.received = kReceived;
  message.envelope.sender = "sender@client.test";
  message.envelope.envelope_id = "QQ314159+2Bx";
  message.content.trace =
      "Received: from client.test ([192.0.2.9])\r\n\tby mx.example.org (Postrider) with ESMTP id "
      "1;\r\n\tMon, 23 Nov 2026 13:34:44 +0000\r\n";
  return message;
}

const std::string kText =
    "From: Sender <sender@client.test>\r\nSubject: Hello\r\n\r\nText.\r\n.\r\n";

NoticeRecipient refused() {
  NoticeRecipient one;
  one.recipient.address = "nobody@ext.test";
  one.recipient.original_recipient = "rfc822;no+2Bbody@ext.test";
  one.outcome.verdict = Verdict::bounce;
  one.outcome.stage = Stage::rcpt;
  one.outcome.status = {5, 1, 1};
  one.outcome.remote = "mx1.ext.test[192.0.2.25]:25";
  one.outcome.reply = Reply(550, {5, 1, 1}, "No such user here\nAsk the postmaster of ext.test");
  one.last_attempt = kReceived + std::chrono::seconds(2);
  return one;
}

NoticeInput input_for(const Message& message, NoticeKind kind = NoticeKind::failure) {
  NoticeInput input;
  input.kind = kind;
  input.original = &message;
  input.original_text = kText;
  input.recipients.push_back(refused());
  input.reporting_mta = "mx.example.org";
  input.boundary = "=_boundary";
  input.id = MessageId{1795440890000000};
  input.now = kReceived + std::chrono::seconds(6);
  input.to = "sender@client.test";
  return input;
}

// The files are written again with REWRITE_GOLDEN=1; the diff is for review.
void check_golden(const std::string& name, const std::string& text) {
  const std::string path = test::tests_folder() + "/golden/" + name;
  if (std::getenv("REWRITE_GOLDEN") != nullptr)
    REQUIRE(replace_file(path, text, 0644).has_value());
  const auto want = read_file(path);
  REQUIRE(want.has_value());
  CHECK(text == *want);
}

// Whatever went in: lines of at most 998 octets that end in CRLF, no other controls than tabs.
void check_clean(const std::string& notice) {
  REQUIRE(notice.ends_with("\r\n"));
  for (const auto line : split(std::string_view(notice).substr(0, notice.size() - 2), '\n')) {
    const bool last = line.data() + line.size() == notice.data() + notice.size() - 2;
    CHECK((last || line.ends_with('\r')));
    CHECK(line.size() <= 999);
    for (const char c : line.substr(0, line.size() - (last ? 0 : 1)))
      CHECK((c == '\t' || (static_cast<unsigned char>(c) >= 0x20 && c != 0x7F)));
  }
}

TEST_CASE("a failure notice reads like this", "[mail][notice]") {
  const auto message = original();
  auto input = input_for(message);
  NoticeRecipient unreachable;
  unreachable.recipient.address = "somebody@far.test";
  unreachable.outcome.verdict = Verdict::bounce;
  unreachable.outcome.stage = Stage::expired;
  unreachable.outcome.status = {5, 4, 7};
  unreachable.outcome.text =
      "the message has waited for 5d; last: connect to mx.far.test[192.0.2.26]:25: Connection "
      "timed out";
  input.recipients.push_back(unreachable);
  const auto notice = compose_notice(input);
  check_golden("notice_failure.txt", notice);
  check_clean(notice);
  CHECK(is_ascii(notice));
}

TEST_CASE("a delay notice reads like this", "[mail][notice]") {
  const auto message = original();
  auto input = input_for(message, NoticeKind::delay);
  auto& one = input.recipients[0];
  one.action = "delayed";
  one.outcome.verdict = Verdict::retry;
  one.outcome.status = {4, 2, 2};
  one.outcome.reply = Reply(452, {4, 2, 2}, "Mailbox full");
  one.will_retry_until = kReceived + std::chrono::hours(120);
  const auto notice = compose_notice(input);
  check_golden("notice_delay.txt", notice);
  check_clean(notice);
}

TEST_CASE("a success notice reads like this", "[mail][notice]") {
  const auto message = original();
  auto input = input_for(message, NoticeKind::success);
  auto& one = input.recipients[0];
  one.action = "relayed";
  one.outcome.verdict = Verdict::delivered;
  one.outcome.status = {2, 0, 0};
  one.outcome.reply = Reply(250, {2, 0, 0}, "Ok: queued as 12345");
  one.outcome.relayed_to_non_dsn = true;
  check_golden("notice_success.txt", compose_notice(input));
  one.outcome.relayed_to_non_dsn = false;  // a trace of RFC 2852, or of a host behind it
  CHECK(compose_notice(input).find("passed on to another mail system\r\n") != std::string::npos);
}

TEST_CASE("M03: a double bounce tells the postmaster what it is", "[mail][notice]") {
  auto message = original();
  message.envelope.sender.clear();
  auto input = input_for(message);
  input.to = "postmaster@mx.example.org";
  check_golden("notice_double_bounce.txt", compose_notice(input));
}

TEST_CASE("a notice about UTF-8 addresses is that of RFC 6533", "[mail][notice]") {
  auto message = original();
  message.envelope.smtputf8 = true;
  message.envelope.sender = "j\xc3\xbcrgen@client.test";
  auto input = input_for(message);
  input.to = message.envelope.sender;
  input.recipients[0].recipient.address = "\xe7\x94\xa8\xe6\x88\xb7@ext.test";
  input.recipients[0].recipient.original_recipient = "utf-8;\xe7\x94\xa8@ext.test";
  const auto notice = compose_notice(input);
  check_golden("notice_utf8.txt", notice);
  CHECK(is_utf8(notice));
}

TEST_CASE("M08: the report to a sender without SMTPUTF8 is ASCII, the text need not be",
          "[mail][notice]") {
  const auto message = original();
  auto input = input_for(message);
  input.recipients[0].recipient.address = "\xc3\xbc@ext.test";
  input.recipients[0].recipient.original_recipient = "utf-8;\xc3\xbc+x@ext.test";
  input.recipients[0].outcome.reply.text =
      "Gr\xc3\xbc\xc3\x9f"
      "e";
  auto notice = compose_notice(input);
  const auto report = notice.find("Content-Description: Delivery report");
  CHECK(is_ascii(notice.substr(report)));
  CHECK(notice.find("\r\nContent-Type: text/plain; charset=utf-8\r\n"
                    "Content-Transfer-Encoding: 8bit\r\n") < report);
  CHECK(notice.find("\r\nContent-Transfer-Encoding: 8bit\r\n") < notice.find("\r\n\r\n"));
  CHECK(notice.find("Gr\xc3\xbc\xc3\x9f"
                    "e") < report);
  CHECK(notice.find("Final-Recipient: utf-8; \\x{FC}@ext.test\r\n") != std::string::npos);
  CHECK(notice.find("Original-Recipient: utf-8;\\x{FC}\\x{2B}x@ext.test\r\n") != std::string::npos);
}

TEST_CASE("RET says how much of the original comes back (M07)", "[mail][notice]") {
  auto message = original();
  auto input = input_for(message);
  const auto has_body = [&] {
    return compose_notice(input).find("Text.\r\n") != std::string::npos;
  };
  CHECK(has_body());
  message.envelope.ret = Return::headers;
  CHECK_FALSE(has_body());
  message.envelope.ret = Return::full;
  CHECK(has_body());
  input.kind = NoticeKind::delay;
  CHECK_FALSE(has_body());
  input.kind = NoticeKind::failure;
  input.original_complete = false;
  CHECK_FALSE(has_body());
  input.original_complete = true;
  message.envelope.body = BodyType::binary_mime;
  CHECK_FALSE(has_body());
  message.envelope.body = BodyType::seven_bit;
  const std::string large = kText + std::string(50000, 'x');
  input.original_text = large;
  const auto notice = compose_notice(input);
  CHECK(notice.find("xxxx") == std::string::npos);
  CHECK(notice.find("Subject: Hello\r\n") != std::string::npos);
  const std::string endless_header = "Subject: " + std::string(1U << 20U, 'y');
  input.original_text = endless_header;
  CHECK(compose_notice(input).size() < 60000);
  check_clean(compose_notice(input));
}

TEST_CASE("O09: what is quoted is clean", "[mail][notice]") {
  auto message = original();
  auto input = input_for(message);
  for (const auto& hostile :
       {"A: b\r\n\r\na\nb\rc\r\r\nd\n.\ne\n.\r\nf\r\n.\rg"s, "A: b\0c\r\n\r\n\0"s, "\r\n.\r\n"s,
        ""s, "\n"s, "A: "s + std::string(3000, 'x') + "\r\n\r\nb"s}) {
    input.original_text = hostile;
    for (const auto ret : {Return::full, Return::headers}) {
      message.envelope.ret = ret;
      check_clean(compose_notice(input));
    }
  }
}

TEST_CASE("I07: what a remote or a client said stays in its field", "[mail][notice]") {
  auto message = original();
  auto input = input_for(message);
  const auto evil = "x\r\nAction: delivered\nFinal-Recipient: rfc822; victim@x.test\0\x1b[2J"s;
  input.recipients[0].outcome.reply.text = evil;
  input.recipients[0].outcome.text = evil;
  input.recipients[0].outcome.remote = evil;
  input.recipients[0].recipient.address = evil;
  input.recipients[0].recipient.original_recipient = evil;
  message.envelope.sender = evil;
  message.envelope.envelope_id = evil;
  input.to = evil;
  const auto notice = compose_notice(input);
  check_clean(notice);
  CHECK(notice.find("\r\nAction: delivered") == std::string::npos);
  CHECK(notice.find("\r\nFinal-Recipient: rfc822; victim") == std::string::npos);
}

TEST_CASE("long reasons are folded", "[mail][notice]") {
  const auto message = original();
  auto input = input_for(message);
  for (const auto& text : {std::string(16384, 'x'), std::string(5000, ' '),
                           "a " + std::string(3000, 'y') + " b", std::string(300, '(')}) {
    input.recipients[0].outcome.reply.text = text;
    check_clean(compose_notice(input));
  }
}

std::size_t count(std::string_view text, std::string_view what) {
  std::size_t found = 0;
  for (auto at = text.find(what); at != std::string_view::npos; at = text.find(what, at + 1))
    ++found;
  return found;
}

TEST_CASE("no more than the beginning of a reply is quoted", "[mail][notice]") {
  const auto message = original();
  auto input = input_for(message);
  auto& outcome = input.recipients[0].outcome;
  std::string wide = "first";
  while (wide.size() < 16384)
    wide.append("\xc3\xbc");
  for (const auto& text : {"first " + std::string(16378, 'x'), wide})
    for (const bool is_ours : {false, true}) {
      outcome.reply = is_ours ? Reply() : Reply(550, {5, 1, 1}, text);
      outcome.text = text;
      const auto notice = compose_notice(input);
      check_clean(notice);
      CHECK(notice.size() < 5000);
      CHECK(is_utf8(notice));
      CHECK(count(notice, "first") == 2);
      CHECK(count(notice, "...") == 2);
      CHECK((is_ours || notice.find("(in reply to RCPT TO command)") != std::string::npos));
    }
}

TEST_CASE("a notice about thousands of long replies is short and names everybody",
          "[mail][notice]") {
  constexpr std::size_t kMany = 10000;
  const auto message = original();
  auto input = input_for(message);
  auto one = refused();
  one.outcome.reply.text = "why " + std::string(16380, 'x');
  input.recipients.assign(kMany, one);
  for (std::size_t i = 0; i < kMany; ++i)
    input.recipients[i].recipient.address = "r" + std::to_string(i) + "@ext.test";
  const auto notice = compose_notice(input);
  CHECK(notice.size() < (1U << 20U) + kMany * 150);
  const auto report = notice.substr(notice.find("Content-Description: Delivery report"));
  for (const auto* field :
       {"\r\n\r\nOriginal-Recipient: rfc822;no+body@ext.test\r\n", "\r\nFinal-Recipient: rfc822; r",
        "\r\nAction: failed\r\n", "\r\nStatus: 5.1.1\r\n"})
    CHECK(count(report, field) == kMany);
  CHECK(report.find("Final-Recipient: rfc822; r9999@ext.test\r\n") != std::string::npos);
  const auto told = count(notice, "<r");
  CHECK((told > 100 && told < kMany));
  CHECK(notice.find("The same happened to " + std::to_string(kMany - told) + " further") !=
        std::string::npos);
  CHECK(count(report, "Diagnostic-Code:") > 100);
}

TEST_CASE("a notice can be converted for any hop", "[mail][notice]") {
  auto message = original();
  message.content.has_8bit = true;
  auto input = input_for(message);
  const std::string body = "Subject: a\r\n\r\ngr\xc3\xbcn\r\n";
  const std::string header = "Subject: gr\xc3\xbcn\r\n\r\na\r\n";
  for (const bool smtputf8 : {false, true})
    for (const auto* text : {&body, &header}) {
      message.envelope.smtputf8 = smtputf8;
      message.content.has_8bit_header = text == &header;
      input.original_text = *text;
      const auto notice = compose_notice(input);
      CHECK_FALSE(is_ascii(notice));
      const auto converted = to_seven_bit(notice, false);
      REQUIRE(converted.has_value());
      CHECK(is_ascii(*converted));
    }
}

TEST_CASE("what no hop without 8BITMIME can take is not quoted whole", "[mail][notice]") {
  const std::string text =
      "Content-Type: text/plain; charset=utf-8\r\n"
      "Content-Transfer-Encoding: 8bit\r\n\r\ngr\xc3\xbcn\r\n";
  const std::string ascii = "Content-Type: text/plain\r\n\r\ngreen\r\n";
  const auto in = [](const char* type, const std::string& part) {
    return std::string("Subject: a\r\nMIME-Version: 1.0\r\nContent-Type: ") + type +
           "; boundary=b\r\n\r\n--b\r\n" + part + "--b--\r\n";
  };
  const struct {
    const char* what;
    std::string text;
    bool is_whole;
  } cases[] = {
      {"8-bit text", "Subject: a\r\nMIME-Version: 1.0\r\n" + text, true},
      {"in a multipart", in("multipart/mixed", text), true},
      {"signed, 7 bits", in("multipart/signed", ascii), true},
      {"signed, 8 bits", in("multipart/signed", text), false},
      {"8 bits in a part that is encoded",
       "Subject: a\r\nContent-Transfer-Encoding: base64\r\n\r\ngr\xc3\xbcn\r\n", false},
      {"in a composite part", "Subject: a\r\nContent-Type: message/partial\r\n\r\ngr\xc3\xbcn\r\n",
       false},
  };
  auto message = original();
  message.envelope.ret = Return::full;
  auto input = input_for(message);
  for (const auto& one : cases) {
    INFO(one.what);
    message.content.has_8bit = !is_ascii(one.text);
    input.original_text = one.text;
    const auto notice = compose_notice(input);
    CHECK((notice.find("Content-Type: message/rfc822\r\n") != std::string::npos) == one.is_whole);
    CHECK(notice.find("\r\nSubject: a\r\n") != std::string::npos);
    CHECK(to_seven_bit(notice, false).has_value());
    check_clean(notice);
  }
}

TEST_CASE("a notice can be made without the body that it quotes", "[mail][notice]") {
  auto message = original();
  auto input = input_for(message);
  const auto whole = compose_notice(input);
  const auto shorter = without_body(whole);
  message.envelope.ret = Return::headers;
  REQUIRE(shorter);
  CHECK(*shorter == compose_notice(input));
  CHECK_FALSE(without_body(*shorter));
  CHECK(without_body(whole.substr(0, whole.size() - 30)) == shorter);  // its end is missing
  message.envelope.ret = Return::full;
  message.envelope.smtputf8 = true;
  input.to = message.envelope.sender = "j\xc3\xbcrgen@client.test";
  const auto global = without_body(compose_notice(input));
  REQUIRE(global);
  CHECK(global->find("Content-Type: message/global-headers\r\n") != std::string::npos);
  for (const auto& other : {std::string(), kText, "Subject: a\r\n\r\n" + whole})
    CHECK_FALSE(without_body(other));
}

TEST_CASE("a notice's header section is complete (RFC 3834, 3464)", "[mail][notice]") {
  const auto message = original();
  auto input = input_for(message);
  input.to = "postmaster";
  const auto notice = compose_notice(input);
  const auto facts = header_facts(notice);
  CHECK(facts.has_date);
  CHECK(facts.has_from);
  CHECK(facts.has_message_id);
  CHECK(notice.find("\r\nTo: <postmaster@mx.example.org>\r\n") != std::string::npos);
  CHECK(notice.find("\r\nAuto-Submitted: auto-replied\r\n") != std::string::npos);
}

}  // namespace
}  // namespace postrider::mail
