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

TEST_CASE("-t takes the addresses beside one that cannot be meant", "[cli][unit]") {
  struct Case {
    const char* name;
    std::string list;
    List want;
    std::size_t wrong;
  };
  const Case cases[] = {
      {"two words", "John Doe, c@x", {"c@x"}, 1},
      {"two words at the end", "c@x, John Doe", {"c@x"}, 1},
      {"an empty address", "<>, c@x", {"c@x"}, 1},
      {"angles twice", "<<b@x>>, c@x", {"c@x"}, 1},
      {"a link", "<mailto:b@x>; c@x", {"c@x"}, 1},
      {"an angle without end", "Bob <b@x, c@x, d@x", {"c@x", "d@x"}, 1},
      {"an angle without beginning", "b@x>, c@x", {"c@x"}, 1},
      {"a quote without end takes the rest", "c@x, \"Broken <b@x>, d@x", {"c@x"}, 1},
      {"a comment without end takes the rest", "c@x, b@x (Bob, d@x", {"c@x"}, 1},
      {"what is quoted behind it is no address",
       "<<b@x>> \"a, evil@x, b\" (y, evil@y), c@x",
       {"c@x"},
       1},
      {"a control character", std::string("b\0@x, c@x", 9), {"c@x"}, 1},
      {"signs right behind a comma", "a@x,>,\x01,<<b@x>,c@x", {"a@x", "c@x"}, 3},
      {"one too long", std::string(5000, 'a') + "@x, c@x", {"c@x"}, 1},
      {"several", "John Doe, c@x, <>, <<b@x>>, d@x, x y", {"c@x", "d@x"}, 4},
      {"nothing else", "John Doe", {}, 1},
  };
  for (const auto& c : cases) {
    DYNAMIC_SECTION(c.name) {
      const auto found = header_recipients("Subject: s\nTo: " + c.list + "\n\nx\n");
      REQUIRE(found);
      CHECK(found->addresses == c.want);
      REQUIRE(found->wrong.size() == c.wrong);
      CHECK(found->wrong.front().starts_with("To field: "));
    }
  }
  const auto fields = header_recipients("To: John Doe\nCc: b@x\nBcc: <x\nBcc: d@x\n\n");
  REQUIRE(fields);
  CHECK(fields->addresses == List{"b@x", "d@x"});
  CHECK(fields->wrong.size() == 2);
  // Only what counts is complained of.
  const auto resent = header_recipients("To: John Doe\nResent-To: b@x\n\n");
  REQUIRE(resent);
  CHECK(resent->addresses == List{"b@x"});
  CHECK(resent->wrong.empty());
}

TEST_CASE("the header ends where it does for everybody, however it comes", "[cli][unit]") {
  struct Case {
    const char* name;
    std::string content;
    std::size_t past;  // octets after which it is known; 0: never
  };
  const std::string header = "To: a@x\nSubject: s\n more\n";
  const Case cases[] = {
      {"an empty line", header + "\nx\n", header.size() + 1},
      {"an empty line with CR", "To: a@x\r\n\r\nx\r\n", 11},
      {"no empty line", header + "hello world\nx\n", header.size() + 12},
      {"a long line", header + std::string(5000, 'x'), header.size() + 998},
      {"nothing but a body", "hello\n", 6},
      {"an indented beginning", " hello\n", 7},
      {"only a header", header, 0},
      {"a field that is long", header + "X: " + std::string(5000, 'x'), 0},
      {"a field without its end", header + "X-Longer-Name", 0},
  };
  for (const auto& c : cases)
    for (const std::size_t step : {1U, 7U, 100'000U}) {
      DYNAMIC_SECTION(c.name << " by " << step) {
        HeaderEnd end;
        std::size_t size = 0;
        bool is_past = false;
        while (!is_past && size < c.content.size()) {
          size = std::min(size + step, c.content.size());
          is_past = end.is_past(std::string_view(c.content).substr(0, size));
        }
        CHECK(is_past == (c.past > 0));
        if (is_past && step == 1)
          CHECK(size == c.past);
      }
    }
}

TEST_CASE("-t of content without a header finds nobody", "[cli][unit]") {
  const auto found = header_recipients("just text\nTo: a@b\n");
  REQUIRE(found);
  CHECK(found->addresses.empty());
  CHECK(found->consumed == 0);
}

}  // namespace
}  // namespace postrider::cli
