// What a name is, wherever it is written: what `check` takes is what is delivered to.
#include "daemon/config/values.h"
#include "delivery/routing/route.h"
#include "mail/address.h"

#include <catch2/catch.hpp>

#include <string>

using namespace postrider;

namespace {

// Labels of 63 octets and a last one, this long in all.
std::string name_of(std::size_t octets) {
  std::string name;
  while (octets - name.size() > 64)
    name += std::string(63, 'a') + ".";
  return name + std::string(octets - name.size(), 'b');
}

}  // namespace

TEST_CASE("configuration, next hops and addresses agree on what a name is", "[daemon][config]") {
  const struct {
    std::string name;
    bool is_one;
  } rows[] = {
      {"mx.example.org", true},
      {"MX.Example.Org", true},
      {"web_app_1", true},
      {"my_dom.example", true},
      {"_dmarc.example", true},
      {"_", true},
      {"3com.example", true},
      {"a-b.example", true},
      {"a--b.example", true},
      {"localhost", true},
      {std::string(63, 'a') + ".test", true},
      {std::string(64, 'a') + ".test", false},
      {name_of(252), true},
      {name_of(253), true},
      {name_of(254), false},
      {"-x.test", false},
      {"x-.test", false},
      {"a..b", false},
      {".a", false},
      {"", false},
      {"a b.test", false},
      {"a/b.test", false},
      {"a*.test", false},
      {"a\x01.test", false},
  };
  for (const auto& row : rows) {
    INFO(row.name);
    CHECK(mail::is_host_name(row.name) == row.is_one);
    CHECK(daemon::check_host_name(row.name).empty() == row.is_one);
    CHECK(daemon::check_domain(row.name).empty() == row.is_one);
    CHECK(delivery::parse_next_hop("smtp://" + row.name + ":25").has_value() == row.is_one);
    const bool fits = row.name.size() <= 252;  // a mailbox has 254 octets at most
    CHECK(mail::parse_mailbox("u@" + row.name, false).has_value() == (row.is_one && fits));
  }
}

TEST_CASE("names outside ASCII are the same to configuration, next hops and addresses",
          "[daemon][config]") {
  const struct {
    std::string name;
    bool is_one;
  } rows[] = {{"b\xc3\xbc"
               "cher.example",
               true},
              {"b\xfc"
               "cher.example",
               false},
              {"\xc3\xbc..example", false},
              {"\xc3\xbc b.example", false}};
  for (const auto& row : rows) {
    INFO(row.name);
    CHECK(daemon::check_domain(row.name).empty() == row.is_one);
    CHECK(delivery::parse_next_hop("smtp://" + row.name + ":25").has_value() == row.is_one);
    CHECK(mail::parse_mailbox("u@" + row.name, true).has_value() == row.is_one);
  }
}
