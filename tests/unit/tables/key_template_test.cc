// What a key is put into.
#include "tables/key_template.h"

#include "tables/ldap_settings.h"

#include <catch2/catch.hpp>

#include <string>

using namespace postrider::tables;

TEST_CASE("%s, %u and %d are parts of the key", "[tables][templates]") {
  struct Case {
    std::string text, key, want;
  };
  const std::vector<Case> cases = {
      {"%s", "ann@us.test", "ann@us.test"},
      {"%u", "ann@us.test", "ann"},
      {"%d", "ann@us.test", "us.test"},
      {"%u", "ann", "ann"},
      {"%s", "ann", "ann"},
      {"%d", "ann", "-"},       // it has none
      {"%u", "@us.test", "-"},  // nobody
      {"%d", "@us.test", "us.test"},
      {"%d", "ann@", "-"},
      {"%s", "", "-"},
      {"%u", "a@b@us.test", "a@b"},
      {"/vmail/%d/%u/", "ann@us.test", "/vmail/us.test/ann/"},
      {"100%% %u", "ann", "100% ann"},
      {"%s", "%d@us.test", "%d@us.test"},  // what is put in is not read again
      {"plain", "ann", "plain"},
  };
  for (const auto& c : cases) {
    INFO(c.text << " of " << c.key);
    CHECK(check_key_template(c.text).empty());
    CHECK(expand_key(c.text, c.key).value_or("-") == c.want);
  }
  for (const char* wrong : {"%", "%x", "a%", "%S", "%1", "%%%"})
    CHECK(check_key_template(wrong).ends_with("; expected %s, %u, %d or %%"));
}

TEST_CASE("I05: a key stays one value in a filter and in a name", "[tables][templates][attacks]") {
  struct Case {
    std::string key, filter, dn;
  };
  const std::vector<Case> cases = {
      {"ann@us.test", "(mail=ann@us.test)", "ou=us.test,dc=x"},
      {"*@us.test", "(mail=\\2A@us.test)", "ou=us.test,dc=x"},
      {"a)(uid=*", "(mail=a\\29\\28uid\\3D\\2A)", "-"},
      {"a\\@us.test", "(mail=a\\5C@us.test)", "ou=us.test,dc=x"},
      {"a@x,dc=y", "(mail=a@x\\2Cdc\\3Dy)", "ou=x\\2Cdc\\3Dy,dc=x"},
      {"a@ #x+y;z<\">", "(mail=a@\\20\\23x\\2By\\3Bz\\3C\\22\\3E)",
       "ou=\\20\\23x\\2By\\3Bz\\3C\\22\\3E,dc=x"},
      {"j\xc3\xb6rg", "(mail=j\\C3\\B6rg)", "-"},
      {std::string("a\0b", 3), "(mail=a\\00b)", "-"},
  };
  for (const auto& c : cases) {
    INFO(c.key);
    CHECK(expand_key("(mail=%s)", c.key, escape_for_filter) == c.filter);
    CHECK(expand_key("ou=%d,dc=x", c.key, escape_for_dn).value_or("-") == c.dn);
  }
}

TEST_CASE("keys of other domains are not asked for", "[tables][templates]") {
  const std::vector<std::string> domains = {"us.test", "x.test"};
  for (const char* key : {"ann@us.test", "ann@US.test", "us.test", "@x.test"})
    CHECK(is_key_of(domains, key));
  for (const char* key : {"ann", "ann@sub.us.test", "ann@", "", "us.test@y.test"})
    CHECK_FALSE(is_key_of(domains, key));
  CHECK(is_key_of({}, "ann"));
}

TEST_CASE("values are joined, and bounded", "[tables][templates]") {
  JoinedValues joined("%u@in.test");
  CHECK(joined.add("ann@us.test"));
  CHECK(joined.add("@us.test"));  // no answer for it
  CHECK(joined.add("bob"));
  CHECK(joined.text() == "ann@in.test, bob@in.test");
  JoinedValues many("%s"), large("%s");
  std::size_t count = 0;
  while (count < 20'000 && many.add("x"))
    ++count;
  CHECK(count == 10'000);
  CHECK(large.add(std::string(1U << 20U, 'x')));
  CHECK_FALSE(large.add("x"));
}
