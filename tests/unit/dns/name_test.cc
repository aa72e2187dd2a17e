#include "dns/name.h"

#include <catch2/catch.hpp>

#include <string>

namespace postrider::dns {

using namespace std::literals;

TEST_CASE("a name is read from text, lower case, with or without the last dot", "[dns][name]") {
  const auto name = Name::from_text("Mx1.Example.TEST");
  REQUIRE(name);
  CHECK(name->wire() == "\3mx1\7example\4test"s);
  CHECK(name->text() == "mx1.example.test");
  CHECK(Name::from_text("mx1.example.test.") == name);
  CHECK(name->is_host());
  CHECK(Name::from_text("_25._tcp.mx1.example.test")->is_host());
}

TEST_CASE("text that is not a name is refused", "[dns][name]") {
  struct Case {
    std::string name;
    std::string text;
    bool want;
  };
  const std::string label(63, 'a');
  const std::string longest = label + "." + label + "." + label + "." + std::string(61, 'a');
  const std::vector<Case> cases = {
      {"empty", "", false},
      {"the root alone", ".", false},
      {"an empty label", "a..b", false},
      {"a leading dot", ".a", false},
      {"two last dots", "a..", false},
      {"a label of 63", label + ".test", true},
      {"a label of 64", label + "a.test", false},
      {"255 octets", longest, true},
      {"255 octets and a dot", longest + ".", true},
      {"256 octets", longest + "a", false},
      {"a space", "a b", false},
      {"a NUL", "a\0b"s, false},
      {"8 bits", "\xe4.test", false},
      {"a backslash", "a\\.b", false},
      {"DEL", "a\x7f", false},
  };
  for (const auto& c : cases) {
    DYNAMIC_SECTION(c.name) {
      CHECK(Name::from_text(c.text).has_value() == c.want);
    }
  }
}

TEST_CASE("D12 a name with odd octets passes for no other name", "[dns][name][attack]") {
  Name odd;
  REQUIRE(odd.append_label("a.b"));
  REQUIRE(odd.append_label("c\0\xff\\ "s));
  REQUIRE(odd.append_label("TEST"));
  CHECK(odd.text() == "a\\.b.c\\000\\255\\\\\\032.test");
  CHECK_FALSE(odd.is_host());
  CHECK_FALSE(odd == *Name::from_text("a.b.test"));
  Name upper;
  REQUIRE(upper.append_label("EXAMPLE"));
  CHECK(upper == *Name::from_text("example"));
}

TEST_CASE("a name is below its parents and no other", "[dns][name]") {
  const auto name = *Name::from_text("mx.example.test");
  CHECK(name.is_at_or_below(name));
  CHECK(name.is_at_or_below(*Name::from_text("example.test")));
  CHECK(name.is_at_or_below(Name()));
  CHECK_FALSE(name.is_at_or_below(*Name::from_text("ample.test")));
  CHECK_FALSE(name.is_at_or_below(*Name::from_text("a.mx.example.test")));
  CHECK(Name().is_at_or_below(Name()));
  CHECK_FALSE(Name().is_host());
}

}  // namespace postrider::dns
