// attacks.md 2.8: nobody relays through us, whatever the address is made of. Each row runs with
// every sender that the row names: none is proof of anything.
#include "support.h"

#include "smtpd/session/policy.h"

#include <catch2/catch.hpp>

using namespace postrider;
using namespace postrider::tests;

namespace {

struct Row {
  const char* id;
  const char* recipient;  // the argument behind "RCPT TO:"
  const char* code;
};

const std::vector<Row> kRows = {
    {"A01 plain", "<u@ext.test>", "550"},
    {"A02 percent at our address", "<u%ext.test@[127.0.0.1]>", "550"},
    {"A02 percent at us", "<u%ext.test@us.test>", "550"},
    {"A02 percent at a domain that we relay for", "<u%ext.test@backup.test>", "550"},
    {"A03 quoted, no domain", "<\"u@ext.test\">", "501"},
    {"A03 quoted percent, no domain", "<\"u%ext.test\">", "501"},
    {"A04 two at signs, our address", "<u@ext.test@[127.0.0.1]>", "501"},
    {"A04 two at signs, us", "<u@ext.test@us.test>", "501"},
    {"A05 quoted at our address", "<\"u@ext.test\"@[127.0.0.1]>", "550"},
    {"A05 quoted at us", "<\"u@ext.test\"@us.test>", "550"},
    {"A05 quoted at a domain that we relay for", "<\"u@ext.test\"@backup.test>", "550"},
    {"A06 route by our address", "<@[127.0.0.1]:u@ext.test>", "550"},
    {"A06 route by us", "<@us.test:u@ext.test>", "550"},
    {"A06 long route", "<@us.test,@x.test:u@ext.test>", "550"},
    {"A06 route to us is dropped", "<@x.test:y@us.test>", "250"},
    {"A07 bang alone", "<ext.test!u>", "501"},
    {"A07 bang at our address", "<ext.test!u@[127.0.0.1]>", "550"},
    {"A07 bang at us", "<ext.test!u@us.test>", "550"},
    {"A07 bang at a domain that we relay for", "<ext.test!u@backup.test>", "550"},
    {"A08 literal", "<u@[127.0.0.1]>", "550"},
    {"A08 IPv6 without tag", "<u@[::1]>", "501"},
    {"A08 IPv6", "<u@[IPv6:::1]>", "550"},
    {"A08 scoped", "<u@[IPv6:fe80::1%eth0]>", "501"},
    {"A08 zero", "<u@[0]>", "501"},
    {"A08 decimal", "<u@[2130706433]>", "501"},
    {"A08 hexadecimal", "<u@[0x7f.1]>", "501"},
    {"A08 short", "<u@[127.1]>", "501"},
    {"A09 localhost", "<u@localhost>", "550"},
    {"A09 upper case", "<y@US.TEST>", "250"},
    {"A09 two dots", "<u@us.test..>", "501"},
    {"A09 leading dot", "<u@.us.test>", "501"},
    {"A09 leading hyphen", "<u@-us.test>", "501"},
    {"A10 an A-label that looks like us", "<u@xn--s-4ga.test>", "550"},
    {"A11 space quoted", "<\"x@evil x\"@us.test>", "550"},
    {"A11 quoted", "<\"a b\"@us.test>", "550"},
    {"A11 escape without end", "<\"\\\"@us.test>", "501"},
    {"A11 quote within", "<\"a\"b\"@us.test>", "501"},
    {"A11 empty quotes", "<\"\">", "501"},
    {"A12 comment in the local part", "<u(c)@us.test>", "501"},
    {"A12 comment behind", "<u@us.test(c)evil>", "501"},
    {"A12 comment before", "<u@(c)us.test>", "501"},
    {"A13 two paths", "<u@us.test>, <v@ext.test>", "501"},
    {"A13 twice bracketed", "<<u@us.test>>", "501"},
    {"A13 no end", "<u@us.test", "501"},
    {"A13 no start", "u@us.test>", "501"},
    {"A13 spaces within", "< u@us.test >", "501"},
    {"A14 encoded word", "<=?utf-8?q?u=40ext?=@us.test>", "550"},
    {"A15 UTF-7", "<+AGE-@us.test>", "550"},
    {"A16 CR LF in ORCPT", "<y@us.test> ORCPT=rfc822;v+0D+0AX:y", "501"},
    {"A16 NUL in ORCPT", "<y@us.test> ORCPT=rfc822;+00", "501"},
    {"A16 no type in ORCPT", "<y@us.test> ORCPT=x", "250"},
    {"A19 tag", "<user+tag@us.test>", "550"},
    {"A19 empty tag", "<user+@us.test>", "550"},
    {"A20 an unknown user", "<nobody@us.test>", "550"},
    {"backup MX", "<u@backup.test>", "250"},
    {"below a backup MX", "<u@sub.backup.test>", "550"},
};

}  // namespace

TEST_CASE("A01-A20: nothing makes us relay for a stranger", "[smtpd][attacks]") {
  for (const auto* sender : {"<>", "<a@ext.test>", "<a@us.test>", "<a@[127.0.0.1]>"})
    for (const auto& row : kRows)
      DYNAMIC_SECTION(row.id << " from " << sender) {
        const Script script = {"EHLO client.test\r\n", std::string("MAIL FROM:") + sender + "\r\n",
                               std::string("RCPT TO:") + row.recipient + "\r\n"};
        const auto result =
            std::string_view(sender) == "<>" ? play(script) : play_in_memory(script);
        CHECK(codes_of(result.replies.at(2)) == "250");
        CHECK(result.last_codes() == row.code);
      }
}

TEST_CASE("A13: an address without brackets", "[smtpd][attacks]") {
  const auto codes =
      play({"EHLO c.test\r\n", "MAIL FROM:<>\r\n", "RCPT TO:u@ext.test\r\n"}).last_codes();
  CHECK((codes == "501" || codes == "550"));
}

TEST_CASE("A16: controls in ENVID", "[smtpd][attacks]") {
  for (const auto* value : {"+0A", "+G0", "+00"})
    CHECK(play({"EHLO c.test\r\n", std::string("MAIL FROM:<> ENVID=") + value + "\r\n"})
              .last_codes() == "501");
}

TEST_CASE("A20: VRFY and EXPN tell nothing", "[smtpd][attacks]") {
  const auto result =
      play({"EHLO c.test\r\n", "VRFY user\r\n", "VRFY nobody\r\n", "EXPN user\r\n"});
  CHECK(result.replies[2] == result.replies[3]);
  CHECK(result.last_codes() == "502");
}

TEST_CASE("our own clients may send anywhere, but not to who does not exist here",
          "[smtpd][policy]") {
  PlayOptions options;
  options.settings = trusting_settings();
  for (const auto& [recipient, code] :
       std::vector<std::pair<std::string, std::string>>{{"<u@ext.test>", "250"},
                                                        {"<u%ext.test@other.test>", "250"},
                                                        {"<u@[192.0.2.1]>", "250"},
                                                        {"<nobody@us.test>", "550"},
                                                        {"<y@us.test>", "250"}})
    CHECK(play({"EHLO c.test\r\n", "MAIL FROM:<>\r\n", "RCPT TO:" + recipient + "\r\n"}, options)
              .last_codes() == code);
}

TEST_CASE("L15: postmaster is always accepted", "[smtpd][attacks]") {
  for (const auto* recipient :
       {"<postmaster>", "<PostMaster>", "<postmaster@us.test>", "<POSTMASTER@us.test>"})
    CHECK(
        play({"EHLO c.test\r\n", "MAIL FROM:<>\r\n", std::string("RCPT TO:") + recipient + "\r\n"})
            .last_codes() == "250");
}

TEST_CASE("patterns of relay_to", "[smtpd][policy]") {
  using smtpd::domain_matches;
  CHECK(domain_matches("example.org", "example.org"));
  CHECK_FALSE(domain_matches("example.org", "a.example.org"));
  CHECK(domain_matches(".example.org", "a.example.org"));
  CHECK_FALSE(domain_matches(".example.org", "example.org"));
  CHECK_FALSE(domain_matches(".example.org", "badexample.org"));
  CHECK(domain_matches("*", "anything.test"));
}
