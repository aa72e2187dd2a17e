#include "mail/smtp_command.h"

#include <catch2/catch.hpp>

#include <vector>

namespace postrider::mail {
namespace {

using namespace std::string_literals;

const MailRules kRules{.size_limit = 1000000};

std::string codes(const Reply& reply) {
  return std::to_string(reply.code) + " " + to_string(reply.enhanced);
}

// The sender in brackets, or the codes of the refusal.
std::string mail_result(std::string_view arguments, const MailRules& rules = kRules) {
  const auto command = parse_mail(arguments, rules);
  return command ? "<" + command->sender + ">" : codes(command.error());
}

std::string rcpt_result(std::string_view arguments, bool smtputf8 = false) {
  const auto recipient = parse_rcpt(arguments, {.smtputf8 = smtputf8});
  return recipient ? "<" + recipient->address + ">" : codes(recipient.error());
}

struct Case {
  std::string name;
  std::string arguments;
  std::string want;
};

TEST_CASE("ORCPT is advice: its faults cost it, not the mail", "[mail][command]") {
  const auto original = [](std::string_view value, bool smtputf8) {
    const auto recipient =
        parse_rcpt("TO:<u@us.test> ORCPT=" + std::string(value), {.smtputf8 = smtputf8});
    return recipient ? recipient->original_recipient : codes(recipient.error());
  };
  for (const bool smtputf8 : {false, true}) {
    CHECK(original("rfc822;a+2Bb@c.test", smtputf8) == "rfc822;a+2Bb@c.test");
    // As Postfix sends it.
    CHECK(original("rfc822;r+C3+BC@dst.example", smtputf8) == "utf-8;r\\x{FC}@dst.example");
    CHECK(original("utf-8;r+C3+BC@dst.example", smtputf8) == "utf-8;r\\x{FC}@dst.example");
    CHECK(original("rfc822;r\xc3\xbc@dst.example", smtputf8) == "utf-8;r\\x{FC}@dst.example");
    CHECK(original("utf-8;r\\x{FC}@dst.example", smtputf8) == "utf-8;r\\x{FC}@dst.example");
    CHECK(original("rfc822;+F0+9F+98+80@x", smtputf8) == "utf-8;\\x{1F600}@x");
    CHECK(original("rfc822;srs0=x=y@c.test", smtputf8) == "rfc822;srs0+3Dx+3Dy@c.test");
    CHECK(original("x400;r+C3+BC", smtputf8).empty());
    CHECK(original("rfc822;+FF", smtputf8).empty());
    CHECK(original("rfc822;", smtputf8).empty());
    CHECK(original("rfc822;" + std::string(494, 'x'), smtputf8).empty());
    for (const auto* typeless : {"x", "junk@c.test", ";a", "a_b;c"})
      CHECK(original(typeless, smtputf8).empty());
    for (const auto* attack :
         {"rfc822;v+0D+0AX:y", "rfc822;+00", "v+0D+0AX", "+00", "rfc822;+G0", "rfc822;a+4"})
      CHECK(original(attack, smtputf8) == "501 5.5.4");
  }
  CHECK(original("utf-8;r\xc3\xbc@dst.example", true) == "utf-8;r\xc3\xbc@dst.example");
  CHECK(original("utf-8;r\xc3\xbc@dst.example", false) == "utf-8;r\\x{FC}@dst.example");
}

TEST_CASE("a command line is a verb and what follows", "[mail][command]") {
  const auto check = [](std::string_view line, std::string_view verb, std::string_view arguments) {
    const auto command = split_command(line);
    CHECK(command.verb == verb);
    CHECK(command.arguments == arguments);
  };
  check("mail FROM:<a@b>", "mail", "FROM:<a@b>");
  check("NOOP", "NOOP", "");
  check("NOOP \t ", "NOOP", "");
  check("MAIL\t FROM:<a@b>  ", "MAIL", "FROM:<a@b>");
  check("", "", "");
  check(" NOOP", "", "NOOP");
  check("\x16\x03\x01 a", "\x16\x03\x01", "a");
}

TEST_CASE("MAIL takes a path and its parameters", "[mail][command]") {
  const std::vector<Case> cases = {
      {"plain", "FROM:<a@b.test>", "<a@b.test>"},
      {"null reverse-path", "FROM:<>", "<>"},
      {"lower case", "from:<a@b.test>", "<a@b.test>"},
      {"L13: a space behind the colon", "FROM: <a@b.test>", "<a@b.test>"},
      {"L13: spaces at the end", "FROM:<a@b.test>  \t", "<a@b.test>"},
      {"no path", "FROM:", "501 5.1.7"},
      {"no brackets", "FROM:a@b.test", "501 5.1.7"},
      {"the wrong word", "TO:<a@b.test>", "501 5.5.4"},
      {"nothing", "", "501 5.5.4"},
      {"bare postmaster is not a sender", "FROM:<postmaster>", "501 5.1.7"},
      {"source route", "FROM:<@x.test:a@b.test>", "<a@b.test>"},
      {"size", "FROM:<a@b.test> SIZE=1000000", "<a@b.test>"},
      {"size above the limit", "FROM:<a@b.test> SIZE=1000001", "552 5.3.4"},
      {"L07: 2^64-1", "FROM:<a@b.test> SIZE=18446744073709551615", "552 5.3.4"},
      {"L07: 2^64", "FROM:<a@b.test> SIZE=18446744073709551616", "552 5.3.4"},
      {"L07: 20 digits", "FROM:<a@b.test> SIZE=99999999999999999999", "552 5.3.4"},
      {"L07: negative", "FROM:<a@b.test> SIZE=-1", "501 5.5.4"},
      {"L07: exponent", "FROM:<a@b.test> SIZE=1e9", "501 5.5.4"},
      {"L07: empty", "FROM:<a@b.test> SIZE=", "501 5.5.4"},
      {"L07: without value", "FROM:<a@b.test> SIZE", "501 5.5.4"},
      {"L07: twice", "FROM:<a@b.test> SIZE=1 size=1", "501 5.5.4"},
      {"L07: 21 digits", "FROM:<a@b.test> SIZE=000000000000000000001", "501 5.5.4"},
      {"L07: plus sign", "FROM:<a@b.test> SIZE=+1", "501 5.5.4"},
      {"L14: unknown", "FROM:<a@b.test> FOO=BAR", "555 5.5.4"},
      {"L14: unknown without value", "FROM:<a@b.test> FOO", "555 5.5.4"},
      {"no space before a parameter", "FROM:<a@b.test>SIZE=1", "501 5.5.4"},
      {"a parameter without a name", "FROM:<a@b.test> =1", "501 5.5.4"},
      {"two equals signs", "FROM:<a@b.test> SIZE=1=2", "501 5.5.4"},
      {"several", "FROM:<a@b.test>  SIZE=1\tBODY=8bitmime  SMTPUTF8 ", "<a@b.test>"},
      {"body unknown", "FROM:<a@b.test> BODY=9BIT", "501 5.5.4"},
      {"smtputf8 with a value", "FROM:<a@b.test> SMTPUTF8=1", "501 5.5.4"},
      {"ret", "FROM:<a@b.test> RET=full", "<a@b.test>"},
      {"ret unknown", "FROM:<a@b.test> RET=SOME", "501 5.5.4"},
      {"ret twice", "FROM:<a@b.test> RET=FULL RET=FULL", "501 5.5.4"},
      {"envid", "FROM:<a@b.test> ENVID=QQ314159+2B", "<a@b.test>"},
      {"A16: a control in ENVID", "FROM:<a@b.test> ENVID=+0A", "501 5.5.4"},
      {"A16: no hexadecimal digits", "FROM:<a@b.test> ENVID=+G0", "501 5.5.4"},
      {"A16: cut short", "FROM:<a@b.test> ENVID=a+4", "501 5.5.4"},
      {"A16: 8-bit in ENVID", "FROM:<a@b.test> ENVID=+C3+BC", "<a@b.test>"},
      {"ENVID of 100", "FROM:<a@b.test> ENVID=" + std::string(100, 'x'), "<a@b.test>"},
      {"ENVID of 101", "FROM:<a@b.test> ENVID=" + std::string(101, 'x'), "<a@b.test>"},
      {"auth of nobody", "FROM:<a@b.test> AUTH=<>", "<a@b.test>"},
      {"auth of somebody", "FROM:<a@b.test> AUTH=e+2Bf@b.test", "<a@b.test>"},
      {"auth of nonsense", "FROM:<a@b.test> AUTH=nonsense", "<a@b.test>"},
      {"L10: 8-bit without SMTPUTF8", "FROM:<\xc3\xbc@b.test>", "553 5.6.7"},
      {"UTF-8 with SMTPUTF8", "FROM:<\xc3\xbc@b.test> SMTPUTF8", "<\xc3\xbc@b.test>"},
      {"UTF-8 in the domain", "FROM:<a@b\xc3\xbc.test> SMTPUTF8", "<a@b\xc3\xbc.test>"},
      {"L12: invalid UTF-8", "FROM:<\xff@b.test> SMTPUTF8", "501 5.1.7"},
      {"L12: overlong form", "FROM:<\xc0\xaf@b.test> SMTPUTF8", "501 5.1.7"},
      {"L12: surrogate", "FROM:<\xed\xa0\x80@b.test> SMTPUTF8", "501 5.1.7"},
      {"L09: NUL", "FROM:<a\0@b.test>"s, "501 5.1.7"},
      {"L09: NUL behind the path", "FROM:<a@b.test>\0"s, "501 5.5.4"},
      {"L04: local part of 64", "FROM:<" + std::string(64, 'a') + "@b.test>",
       "<" + std::string(64, 'a') + "@b.test>"},
      {"L04: local part of 65", "FROM:<" + std::string(65, 'a') + "@b.test>",
       "<" + std::string(65, 'a') + "@b.test>"},
      {"P15: what looks like a parameter of another server", "FROM:<a@b.test> XFOO=<script>",
       "555 5.5.4"},
  };
  for (const auto& c : cases)
    DYNAMIC_SECTION(c.name) {
      CHECK(mail_result(c.arguments) == c.want);
    }
}

TEST_CASE("MAIL's parameters are read", "[mail][command]") {
  const auto command = parse_mail(
      "FROM:<a@b.test> SIZE=12 BODY=BINARYMIME SMTPUTF8 RET=HDRS ENVID=x+2By AUTH=e+2Bf@b.test",
      kRules);
  REQUIRE(command.has_value());
  CHECK(command->size == 12U);
  CHECK(command->body == BodyType::binary_mime);
  CHECK(command->body_given);
  CHECK(command->smtputf8);
  CHECK(command->ret == Return::headers);
  CHECK(command->envelope_id == "x+2By");
  CHECK(command->auth == "e+f@b.test");
}

TEST_CASE("what is not offered is not known", "[mail][command]") {
  const MailRules rules{.size_limit = 0, .smtputf8 = false, .binary_mime = false};
  CHECK(mail_result("FROM:<a@b.test> SMTPUTF8", rules) == "555 5.5.4");
  CHECK(mail_result("FROM:<a@b.test> BODY=BINARYMIME", rules) == "501 5.5.4");
  CHECK(mail_result("FROM:<a@b.test> REQUIRETLS", rules) == "555 5.5.4");
  CHECK(parse_mail("FROM:<a@b.test> requiretls", {.require_tls = true})->require_tls);
  CHECK(mail_result("FROM:<a@b.test> REQUIRETLS=YES", {.require_tls = true}) == "501 5.5.4");
  CHECK(mail_result("FROM:<a@b.test> SIZE=18446744073709551615", rules) == "<a@b.test>");
}

TEST_CASE("RCPT takes a path and its parameters", "[mail][command]") {
  const std::vector<Case> cases = {
      {"plain", "TO:<a@b.test>", "<a@b.test>"},
      {"the case is kept", "to:<A@B.Test>", "<A@B.Test>"},
      {"L15: postmaster", "TO:<postmaster>", "<postmaster>"},
      {"L15: PostMaster", "TO:<PostMaster>", "<PostMaster>"},
      {"L15: postmaster with a domain", "TO:<postmaster@us.test>", "<postmaster@us.test>"},
      {"null path", "TO:<>", "501 5.1.3"},
      {"no domain", "TO:<u>", "501 5.1.3"},
      {"L14: unknown", "TO:<a@b.test> X", "555 5.5.4"},
      {"notify", "TO:<a@b.test> NOTIFY=success,FAILURE,delay", "<a@b.test>"},
      {"never", "TO:<a@b.test> NOTIFY=NEVER", "<a@b.test>"},
      {"M05: never is alone", "TO:<a@b.test> NOTIFY=NEVER,FAILURE", "501 5.5.4"},
      {"notify empty", "TO:<a@b.test> NOTIFY=", "501 5.5.4"},
      {"notify with a hole", "TO:<a@b.test> NOTIFY=SUCCESS,,DELAY", "<a@b.test>"},
      {"notify of holes", "TO:<a@b.test> NOTIFY=,,", "501 5.5.4"},
      {"notify unknown", "TO:<a@b.test> NOTIFY=SOMETIMES", "501 5.5.4"},
      {"notify twice", "TO:<a@b.test> NOTIFY=DELAY NOTIFY=DELAY", "501 5.5.4"},
      {"orcpt", "TO:<a@b.test> ORCPT=rfc822;a+2Bb@c.test", "<a@b.test>"},
      {"A16: CR LF in ORCPT", "TO:<u@us.test> ORCPT=rfc822;v+0D+0AX:y", "501 5.5.4"},
      {"A16: NUL in ORCPT", "TO:<u@us.test> ORCPT=rfc822;+00", "501 5.5.4"},
      {"A16: no type", "TO:<u@us.test> ORCPT=x", "<u@us.test>"},
      {"A16: no address", "TO:<u@us.test> ORCPT=rfc822;", "<u@us.test>"},
      {"ORCPT of 500", "TO:<u@us.test> ORCPT=rfc822;" + std::string(493, 'x'), "<u@us.test>"},
      {"ORCPT of 501", "TO:<u@us.test> ORCPT=rfc822;" + std::string(494, 'x'), "<u@us.test>"},
      {"raw UTF-8 in ORCPT", "TO:<u@us.test> ORCPT=utf-8;\xc3\xbc@x.test", "<u@us.test>"},
      {"L10: 8-bit", "TO:<\xc3\xbc@us.test>", "553 5.6.7"},
      {"A13: two paths", "TO:<u@us>, <v@ext>", "501 5.5.4"},
  };
  for (const auto& c : cases)
    DYNAMIC_SECTION(c.name) {
      CHECK(rcpt_result(c.arguments) == c.want);
    }
  CHECK(rcpt_result("TO:<\xc3\xbc@us.test> ORCPT=utf-8;\xc3\xbc@x.test", true) ==
        "<\xc3\xbc@us.test>");
  CHECK(rcpt_result("TO:<\xff@us.test>", true) == "501 5.1.3");
}

TEST_CASE("RCPT's parameters are read", "[mail][command]") {
  const auto recipient =
      parse_rcpt("TO:<a@b.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;o+2Bx@c.test", {});
  REQUIRE(recipient.has_value());
  CHECK(recipient->notify.success());
  CHECK(recipient->notify.delay());
  CHECK_FALSE(recipient->notify.failure());
  CHECK(recipient->original_recipient == "rfc822;o+2Bx@c.test");
  CHECK(parse_rcpt("TO:<a@b.test> NOTIFY=NEVER", {})->notify.bits == Notify::kNever);
}

TEST_CASE("BDAT takes a size and LAST (B01, B02)", "[mail][command]") {
  const auto result = [](std::string_view arguments) {
    const auto command = parse_bdat(arguments);
    if (!command)
      return codes(command.error());
    return std::to_string(command->size) + (command->last ? " last" : "");
  };
  CHECK(result("0") == "0");
  CHECK(result("86 LAST") == "86 last");
  CHECK(result("86  last ") == "86 last");
  CHECK(result("18446744073709551615 LAST") == "18446744073709551615 last");
  for (const auto* bad :
       {"-1", "0x10", "1e3", "+5", "5 5", "", "5 LASTX", "LAST", "5LAST", "18446744073709551616",
        "9223372036854775808000", "5 LAST LAST", "100000000000000000000000000000"})
    DYNAMIC_SECTION(bad) {
      CHECK(result(bad) == "501 5.5.4");
    }
}

TEST_CASE("EHLO is lenient about names and strict about octets (P17)", "[mail][command]") {
  for (const auto* good : {"client.test", "localhost", "my_pc", "[192.0.2.1]", "[IPv6:2001:db8::1]",
                           "192.0.2.1", "a", "host-1.", "-x"})
    DYNAMIC_SECTION(good) {
      CHECK(*parse_helo(good) == good);
    }
  for (const auto& bad : {""s, " "s, "a b"s, "a\0b"s, "a\xfc"s, "<script>"s, "a(b)"s, "a\x1b[2J"s,
                          "[a"s, "[]"s, std::string(256, 'a')})
    CHECK(codes(parse_helo(bad).error()) == "501 5.5.4");
  CHECK(parse_helo(std::string(255, 'a')).has_value());
}

TEST_CASE("xtext is decoded without controls and encoded back", "[mail][command]") {
  CHECK(decode_xtext("a+2Bb+3dc") == "a+b=c");
  CHECK(decode_xtext("") == "");
  for (const auto* bad : {"+", "+2", "+0A", "+7F", "+1b", "a=b", "a b", "\xc3\xbc", "+G0", "a\tb"})
    CHECK_FALSE(decode_xtext(bad).has_value());
  for (const auto* text : {"a@b.test", "a+b=c d", "\xc3\xbc", "\"a b\"@c"})
    CHECK(decode_xtext(encode_xtext(text)) == text);
  CHECK(encode_xtext("a+b=c d") == "a+2Bb+3Dc+20d");
}

}  // namespace
}  // namespace postrider::mail
