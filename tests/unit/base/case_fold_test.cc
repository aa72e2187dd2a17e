#include "base/case_fold.h"

#include <catch2/catch.hpp>

using namespace postrider;

TEST_CASE("case is folded in every alphabet, and nothing else", "[base][unit]") {
  struct Case {
    std::string name, given, want;
  };
  const Case cases[] = {
      {"nothing", "", ""},
      {"ASCII", "Ann.Smith+X@B.Test", "ann.smith+x@b.test"},
      {"Latin", "J\xc3\x9cRGEN", "j\xc3\xbcrgen"},
      {"one that becomes two",
       "Stra\xc3\x9f"
       "e",
       "strasse"},
      {"Greek, with its final sigma", "\xce\xa3\xcf\x82", "\xcf\x83\xcf\x83"},
      {"Cyrillic", "\xd0\x98\xd0\x92\xd0\x90\xd0\x9d", "\xd0\xb8\xd0\xb2\xd0\xb0\xd0\xbd"},
      {"no case", "\xe7\x94\xb0\xe4\xb8\xad", "\xe7\x94\xb0\xe4\xb8\xad"},
      {"composed and not stay different", "U\xcc\x88", "u\xcc\x88"},
      {"compatibility forms stay", "\xef\xac\x83\xe2\x91\xa0", "ffi\xe2\x91\xa0"},
      {"no UTF-8", "J\xdcRGEN", "j\xdcrgen"},
      {"a NUL", std::string("\xc3\x9c\0A", 4), std::string("\xc3\x9c\0a", 4)},
      {"beyond the table", "\xf0\x9e\xa4\x80Z", "\xf0\x9e\xa4\x80z"},
  };
  for (const auto& c : cases)
    DYNAMIC_SECTION(c.name) {
      CHECK(folded_case(c.given) == c.want);
      CHECK(folded_case(c.want) == c.want);
    }
  // What grows most has its room.
  std::string many, grown;
  for (int i = 0; i < 1000; ++i) {
    many += "\xce\x90";
    grown += "\xce\xb9\xcc\x88\xcc\x81";
  }
  CHECK(folded_case(many) == grown);
}
