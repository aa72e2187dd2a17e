#include "mail/rewrite.h"

#include <catch2/catch.hpp>

#include <map>

using namespace postrider;
using namespace postrider::mail;

namespace {

Rewriter::Find table(std::map<std::string, std::string> entries) {
  return [entries = std::move(entries)](const std::string& key,
                                        bool) -> Result<std::optional<Rewriter::Entry>> {
    const auto found = entries.find(key);
    if (found == entries.end())
      return std::optional<Rewriter::Entry>();
    return std::optional(Rewriter::Entry{found->second, "table:" + key});
  };
}

Rewriter example() {
  Rewriter::Rules rules;
  rules.sender = table({{"ann@us.test", "Ann.Smith@corp.test"},
                        {"ann", "never@corp.test"},
                        {"bob", "b"},
                        {"@old.test", "@us.test"},
                        {"bad@us.test", "not an address"}});
  rules.recipient = table({{"x@far.test", "y@far.test"}});
  rules.is_local = [](std::string_view domain) { return domain == "us.test"; };
  rules.masquerade = {"us.test"};
  rules.masquerade_except = {"root"};
  return Rewriter(std::move(rules));
}

std::string places_of(std::string_view value) {
  std::string out;
  for (const auto& [begin, size] : address_places(value))
    out.append("[").append(value.substr(begin, size)).append("]");
  return out;
}

}  // namespace

TEST_CASE("the most exact entry of a table counts, and an extension stays", "[mail][rewrite]") {
  const auto rewriter = example();
  const std::pair<const char*, const char*> cases[] = {
      {"ann@us.test", "Ann.Smith@corp.test"},
      {"ann+tag@us.test", "Ann.Smith+tag@corp.test"},
      {"bob@us.test", "b@us.test"},
      {"bob+tag@us.test", "b+tag@us.test"},
      {"bob@elsewhere.test", "bob@elsewhere.test"},
      {"any+tag@old.test", "any+tag@us.test"},
      {"postmaster", "postmaster"},
      {"", ""},
  };
  for (const auto& [given, wanted] : cases) {
    INFO(given);
    const auto fresh = rewriter.sender(given);
    REQUIRE(fresh.has_value());
    CHECK(*fresh == wanted);
  }
  const auto wrong = rewriter.sender("bad@us.test");
  REQUIRE_FALSE(wrong.has_value());
  CHECK(wrong.error().step() ==
        "table:bad@us.test: \"not an address\" is not an address to rewrite to");
}

TEST_CASE("a recipient that is changed keeps what it was for notices", "[mail][rewrite]") {
  const auto rewriter = example();
  Recipient plain;
  plain.address = "x@far.test";
  CHECK(*rewriter.apply(plain));
  CHECK(plain.address == "y@far.test");
  CHECK(plain.original_recipient == "rfc822;x@far.test");
  Recipient given;
  given.address = "x@far.test";
  given.original_recipient = "rfc822;first@far.test";
  CHECK(*rewriter.apply(given));
  CHECK(given.original_recipient == "rfc822;first@far.test");
  CHECK_FALSE(*rewriter.apply(given));
}

TEST_CASE("subdomains of a masqueraded domain are cut off, but for some users", "[mail][rewrite]") {
  const auto rewriter = example();
  CHECK(rewriter.masqueraded("ann@a.b.us.test") == "ann@us.test");
  CHECK(rewriter.masqueraded("ann@us.test") == "ann@us.test");
  CHECK(rewriter.masqueraded("ann@xus.test") == "ann@xus.test");
  CHECK(rewriter.masqueraded("ROOT@a.us.test") == "ROOT@a.us.test");
}

TEST_CASE("addresses are found in what people write around them", "[mail][rewrite]") {
  const std::pair<std::string, const char*> cases[] = {
      {" a@b.test, C <c@d.test>", "[a@b.test][c@d.test]"},
      {"\"x, <no@no.test>\" <a@b.test> (c, d@e.test)", "[a@b.test]"},
      {"group: a@b.test, c@d.test;, e@f.test", "[a@b.test][c@d.test][e@f.test]"},
      {"a@b.test (one (two) three), c@d.test", "[a@b.test][c@d.test]"},
      {"\r\n\ta@b.test,\r\n <c@d.test>\r\n", "[a@b.test][c@d.test]"},
      {"undisclosed-recipients:;", ""},
      {"", ""},
      {",,;:<>,(", ""},
      {"<a@b.test", ""},
      {"a@b.test>", ""},
      {"\"open, a@b.test", ""},
      {"(((((((", ""},
      {std::string(100000, '('), ""},
      {std::string(100000, ','), ""},
      {"a@b.test\\", ""},
      {"two words@b.test", ""},
      {"friends (of mine): a@b.test, c@d.test (her);", "[a@b.test][c@d.test]"},
      {"x () y :e@- (z) :a@b.test", "[a@b.test]"},
  };
  for (const auto& [value, wanted] : cases) {
    INFO(value.substr(0, 80));
    CHECK(places_of(value) == wanted);
  }
}

TEST_CASE("in a header the fields of addresses alone are changed", "[mail][rewrite]") {
  const auto rewriter = example();
  const auto fresh = rewriter.header(
      "From: Ann <ann@us.test>\r\nSubject: ann@us.test\r\nTO: x@far.test,\r\n z@host.us.test\r\n"
      "Reply-To: bob@old.test\r\nX-From: ann@us.test\r\n\r\n");
  REQUIRE(fresh.has_value());
  CHECK(*fresh ==
        "From: Ann <Ann.Smith@corp.test>\r\nSubject: ann@us.test\r\nTO: y@far.test,\r\n "
        "z@us.test\r\nReply-To: bob@us.test\r\nX-From: ann@us.test\r\n\r\n");
}

TEST_CASE("wrong values of a table are told when it is read", "[mail][rewrite]") {
  for (const char* good : {"a@b.test", "a", "@b.test", "$1@b.test", "\"a b\"@c.test", " a@b.test "})
    CHECK(check_rewrite_value(good).empty());
  for (const char* bad : {"", "@", "a b", "a@", "a, b", "a@b@c", "a@b.test c@d.test"})
    CHECK_FALSE(check_rewrite_value(bad).empty());
}
