#include "cli/header_recipients.h"
#include "cli/recipient_list.h"
#include "tests/support/results.h"

#include <catch2/catch.hpp>

namespace postrider::cli {
namespace {

using List = std::vector<std::string>;

TEST_CASE("an address list gives the addresses in it", "[cli][unit]") {
  struct Case {
    const char* name;
    std::string list;
    List want;
  };
  const Case cases[] = {
      {"one", "a@b", {"a@b"}},
      {"several, with gaps", "a@b ,\r\n\tc@d,, e@f,", {"a@b", "c@d", "e@f"}},
      {"unqualified", "root, postmaster", {"root", "postmaster"}},
      {"a name before", "Alice Smith <a@b>", {"a@b"}},
      {"a quoted name with specials", "\"Smith, A. <x@y>\" <a@b>, c@d", {"a@b", "c@d"}},
      {"a name behind, as a comment", "a@b (Alice, the (one) \\) we know)", {"a@b"}},
      {"an encoded name", "=?UTF-8?Q?J=C3=BCrgen?= <j@b>", {"j@b"}},
      {"a name in UTF-8", "Jürgen <j@b>", {"j@b"}},
      {"a group", "friends: a@b, C <c@d>; , e@f", {"a@b", "c@d", "e@f"}},
      {"an empty group", "undisclosed-recipients:;", {}},
      {"a source route", "<@x,@y:a@b>", {"a@b"}},
      {"source routes as RFC 5322 has them",
       "<,@x , ,@y:a@b>, C <@x:c@d>, <@[192.0.2.1]:e@f>",
       {"a@b", "c@d", "e@f"}},
      {"a quoted local part", "\"a b\"@c, <\"x,y\"@z>", {"\"a b\"@c", "\"x,y\"@z"}},
      {"an address literal",
       "a@[192.0.2.1], <b@[IPv6:2001:db8::1]>",
       {"a@[192.0.2.1]", "b@[IPv6:2001:db8::1]"}},
      {"white space around the at sign", "a @ b . c", {"a@b.c"}},
      {"nothing", "", {}},
      {"a comment alone", "(nobody)", {}},
      {"I02: a leading hyphen is part of it", "-Cx@us, --help@us", {"-Cx@us", "--help@us"}},
      {"I05: nothing is done to quotes of other languages", "x'/**/UNION@us", {"x'/**/UNION@us"}},
  };
  for (const auto& c : cases) {
    DYNAMIC_SECTION(c.name) {
      List addresses;
      const auto parsed = parse_address_list(c.list, addresses);
      REQUIRE(parsed);
      CHECK(addresses == c.want);
    }
  }
}

TEST_CASE("an address list that cannot be meant is refused", "[cli][unit]") {
  const std::string deep(60, '(');
  for (const std::string& list :
       {std::string("a b@c"), std::string("Alice Smith"), std::string("a@b <"), std::string("<a@b"),
        std::string("a@b>"), std::string("<a@b> <c@d>"), std::string("<<a@b>>"), std::string("<>"),
        std::string("\"a@b"), std::string("a@[1"), std::string("a(b"), std::string("a\0b@c", 6),
        std::string("a\x01@c"), deep, std::string(5000, 'a') + "@b", std::string("\"a\\"),
        std::string("(a\\"), std::string("<@x,@y>"), std::string("<@x,y >")}) {
    List addresses;
    INFO(list);
    CHECK_FALSE(parse_address_list(list, addresses));
  }
}

TEST_CASE("what cannot be meant is quoted as it was written", "[cli][unit]") {
  List addresses;
  const auto parsed = parse_address_list("a@x.example b@x.example", addresses);
  REQUIRE_FALSE(parsed);
  CHECK(parsed.error().step().find("\"a@x.example b@x.example\"") != std::string::npos);
}

TEST_CASE("a list is bounded in its number of addresses", "[cli][unit]") {
  std::string list;
  for (std::size_t i = 0; i <= kMostListed; ++i)
    list.append("a@b,");
  List addresses;
  CHECK_FALSE(parse_address_list(list, addresses));
}

TEST_CASE("-t takes recipients from the header and removes Bcc", "[cli][unit]") {
  const auto found = header_recipients(
      "From: x@y\nTo: a@b,\n\tc@d\nSubject: To: nobody@z\nbcc: hidden@e\nCC: f@g\nBcc :\n "
      "deeper@h\n\nTo: not@this\n");
  REQUIRE(found);
  CHECK(found->addresses == List{"a@b", "c@d", "hidden@e", "f@g", "deeper@h"});
  CHECK(found->header == "From: x@y\nTo: a@b,\n\tc@d\nSubject: To: nobody@z\nCC: f@g\n");
}

TEST_CASE("-t of a message that is sent again takes the Resent- fields alone", "[cli][unit]") {
  const auto found = header_recipients(
      "Resent-To: new@x\r\nResent-Bcc: blind@x\r\nTo: old@x\r\nBcc: olds@x\r\n\r\nbody");
  REQUIRE(found);
  CHECK(found->addresses == List{"new@x", "blind@x"});
  CHECK(found->header == "Resent-To: new@x\r\nTo: old@x\r\n");
}

TEST_CASE("-t refuses a header that it cannot understand", "[cli][unit]") {
  CHECK_FALSE(header_recipients("To: a b c\n\n"));
  CHECK_FALSE(header_recipients("To: a@b\nBcc: <x\n\n"));
}

TEST_CASE("-t of content without a header finds nobody", "[cli][unit]") {
  const auto found = header_recipients("just text\nTo: a@b\n");
  REQUIRE(found);
  CHECK(found->addresses.empty());
  CHECK(found->consumed == 0);
}

}  // namespace
}  // namespace postrider::cli
