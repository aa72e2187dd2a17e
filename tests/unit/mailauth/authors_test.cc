#include "mailauth/authors.h"

#include <catch2/catch.hpp>

#include <string>
#include <vector>

namespace postrider::mailauth {
namespace {

std::string authors_of(const std::vector<std::string_view>& fields) {
  const auto authors = read_authors(fields);
  std::string text;
  for (const auto& domain : authors.domains)
    text.append(text.empty() ? "" : " ").append(domain);
  return text + (authors.are_well_formed() ? "" : " (" + authors.problem + ")");
}

TEST_CASE("author domains of well-formed From fields", "[mailauth][dmarc]") {
  struct Case {
    std::string value;
    std::string want;
  };
  const std::vector<Case> cases = {
      {" ann@example.org", "example.org"},
      {"Ann <ann@Example.ORG>\r\n", "example.org"},
      {"Ann Lee <ann@example.org>", "example.org"},
      {"\"Lee, Ann\" <ann@example.org>", "example.org"},
      {"\"ceo@bank.test\" <ann@example.org>", "example.org"},
      {"(ceo@bank.test) ann@example.org (really)", "example.org"},
      {"ann@(a (nested) \\) comment)example.org", "example.org"},
      {"Ann\r\n <ann@example.org>", "example.org"},
      {"=?utf-8?q?J=C3=BC?= <a@example.org>", "example.org"},
      {"J\xc3\xbc <a@b\xc3\xbc"
       "cher.test>",
       "xn--bcher-kva.test"},
      {"\"a b\"@example.org", "example.org"},
      {"\"a@b\\\"\"@example.org", "example.org"},
      {"ann . lee @ example . org", "example.org"},
      {"A. B. Lee <ann@example.org>", "example.org"},
      {"<@relay.test,@hub.test:ann@example.org>", "example.org"},
      {"ann@example.org, bob@example.org", "example.org"},
      {"ann@example.org, Bob <bob@other.test>", "example.org other.test"},
      {"ann@example.org, , bob@other.test,", "example.org other.test"},
      {"Friends: ann@example.org, <bob@other.test>;", "example.org other.test"},
      {"Friends: ann@example.org;, bob@other.test", "example.org other.test"},
      {"ann@example.org.", "example.org"},
  };
  for (const auto& c : cases)
    DYNAMIC_SECTION(c.value) {
      CHECK(authors_of({c.value}) == c.want);
    }
}

TEST_CASE("author domains of From fields that break the grammar", "[mailauth][dmarc]") {
  struct Case {
    std::string value;
    std::string want;
  };
  const std::string no_address = " (From: what is not an address)";
  const std::vector<Case> cases = {
      {"", " (From: no address)"},
      {" \r\n ", " (From: no address)"},
      {"()", " (From: no address)"},
      {"Ann", no_address},
      {"<>", no_address},
      {"Friends:;", " (From: no address)"},
      {"@example.org", "example.org" + no_address},
      {"ann@", " (From: what is not an address)"},
      {"ann@localhost", " (From: an address without a domain name)"},
      {"ann@[192.0.2.1]", " (From: an address without a domain name)"},
      {"ceo@bank.test <ann@example.org>", "bank.test example.org" + no_address},
      {"<ann@example.org> ceo@bank.test", "example.org bank.test" + no_address},
      {"<ann@example.org> <ceo@bank.test>", "example.org bank.test" + no_address},
      {"<<ann@example.org>>", "example.org" + no_address},
      {"<ann@example.org", "example.org" + no_address},
      {"ann@example.org>", "example.org" + no_address},
      {"ann@example.org bob@other.test", "example.org other.test" + no_address},
      {"ann@bank.test@example.org", "bank.test example.org" + no_address},
      {"Ann Lee ann@example.org", "example.org" + no_address},
      {"ann@example.org Ann Lee", "example.org" + no_address},
      {"(ann@example.org", " (From: what is not an address)"},
      {"\"ann@example.org", " (From: what is not an address)"},
      {"ann@[example.org", " (From: what is not an address)"},
      {"ann)@example.org", "example.org" + no_address},
      {"ann\\@example.org", "example.org" + no_address},
      {std::string("ann\0@example.org", 16), "example.org" + no_address},
      {"ann@exa\x01mple.org", " (From: what is not an address)"},
      {"ann@example.org; bob@other.test", "example.org other.test (From: a semicolon)"},
      {"Friends: ann@example.org", "example.org (From: a group without an end)"},
      {"A: B: ann@example.org;", "example.org (From: a colon in an address)"},
      {"ceo@bank.test: ann@example.org;", "bank.test example.org (From: a colon in an address)"},
      {"ann@b\xff.test", " (From: an address without a domain name)"},
      {"ann@exam_ple..org", " (From: an address without a domain name)"},
  };
  for (const auto& c : cases)
    DYNAMIC_SECTION(c.value) {
      CHECK(authors_of({c.value}) == c.want);
    }
  CHECK(authors_of({}) == " (no From field)");
  CHECK(authors_of({"a@one.test", "b@two.test"}) == "one.test two.test (several From fields)");
}

TEST_CASE("author domains of a header", "[mailauth][dmarc]") {
  const std::string section =
      "Subject: x\r\nfrom: ann@one.test,\r\n bob@two.test\r\nSender: c@three.test\r\n\r\nFrom: "
      "d@four.test\r\n";
  const auto authors = read_authors(HeaderIndex(section));
  CHECK(authors.domains == std::vector<std::string>{"one.test", "two.test"});
  CHECK(authors.are_well_formed());
}

TEST_CASE("author domains are bounded", "[mailauth][dmarc]") {
  std::string value;
  for (int i = 0; i < 8; ++i)
    value += "a@d" + std::to_string(i) + ".test, ";
  CHECK(read_authors({value}).are_well_formed());
  value += "a@d0.test, ";
  CHECK(read_authors({value}).are_well_formed());
  value += "a@d8.test";
  CHECK(read_authors({value}).domains.size() == kMostAuthorDomains);
  CHECK(read_authors({value}).problem == "From: more than 8 domains");

  std::string flood;
  while (flood.size() < 500'000)
    flood += "<@(((\"";
  CHECK_FALSE(read_authors({flood}).are_well_formed());
  std::string dots(500'000, '.');
  dots.insert(0, "a@");
  CHECK_FALSE(read_authors({dots}).are_well_formed());
  std::string many;
  while (many.size() < 500'000)
    many += "a@b.test ";
  CHECK(read_authors({many}).domains == std::vector<std::string>{"b.test"});
}

}  // namespace
}  // namespace postrider::mailauth
