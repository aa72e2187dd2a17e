#include "mail/address.h"

#include <catch2/catch.hpp>

#include <vector>

namespace postrider::mail {
namespace {

using namespace std::string_literals;

// What RCPT makes of a path: the mailbox, or "refused".
std::string path_result(std::string_view text, bool smtputf8 = false) {
  const auto path = parse_path(text, {.smtputf8 = smtputf8, .bare_postmaster = true});
  if (!path || !path->rest.empty())
    return "refused";
  return path->mailbox;
}

struct Case {
  std::string name;
  std::string path;
  std::string want = "refused";
};

TEST_CASE("relay tricks are read as what they are (A01 to A19)", "[mail][address]") {
  const std::vector<Case> cases = {
      {"A01 plain", "<u@ext.test>", "u@ext.test"},
      {"A01 literal", "<a@[192.0.2.1]>", "a@[192.0.2.1]"},
      {"A02 percent hack is a literal local part", "<u%ext@us.test>", "u%ext@us.test"},
      {"A02 percent hack at a literal", "<u%ext@[192.0.2.1]>", "u%ext@[192.0.2.1]"},
      {"A03 quoted without a domain", "<\"u@ext\">"},
      {"A03 quoted percent without a domain", "<\"u%ext\">"},
      {"A04 two at signs", "<u@ext@us.test>"},
      {"A04 two at signs and a literal", "<u@ext@[192.0.2.1]>"},
      {"A05 quoted local part", "<\"u@ext\"@us.test>", "\"u@ext\"@us.test"},
      {"A05 quoted local part at a literal", "<\"u@ext\"@[192.0.2.1]>", "\"u@ext\"@[192.0.2.1]"},
      {"A06 source route over a literal", "<@[192.0.2.1]:u@ext.test>", "u@ext.test"},
      {"A06 source route", "<@us.test:u@ext.test>", "u@ext.test"},
      {"A06 source route of two", "<@us.test,@x.test:u@ext.test>", "u@ext.test"},
      {"A06 a route that ends nowhere", "<@us.test>"},
      {"A06 a route without an address", "<@us.test:>"},
      {"A06 a route with a bad domain", "<@us..test:u@ext.test>"},
      {"A06 a route with a space", "<@us.test, @x.test:u@ext.test>"},
      {"A07 bang without a domain", "<ext!u>"},
      {"A07 bang is a literal local part", "<ext!u@us.test>", "ext!u@us.test"},
      {"A07 bang at a literal", "<ext!u@[192.0.2.1]>", "ext!u@[192.0.2.1]"},
      {"A08 IPv4", "<u@[127.0.0.1]>", "u@[127.0.0.1]"},
      {"A08 IPv6 without its tag", "<u@[::1]>"},
      {"A08 IPv6", "<u@[IPv6:::1]>", "u@[IPv6:::1]"},
      {"A08 IPv4 in IPv6", "<u@[IPv6:::ffff:127.0.0.1]>"},
      {"A08 scoped", "<u@[IPv6:fe80::1%eth0]>"},
      {"A08 one number", "<u@[0]>"},
      {"A08 one large number", "<u@[2130706433]>"},
      {"A08 hexadecimal", "<u@[0x7f.1]>"},
      {"A08 short", "<u@[127.1]>"},
      {"A08 leading zeros", "<u@[127.0.0.01]>", "u@[127.0.0.1]"},
      {"A08 leading zeros are not octal", "<u@[010.00.000.099]>", "u@[10.0.0.99]"},
      {"A08 four digits", "<u@[127.0.0.0001]>"},
      {"A08 a sign", "<u@[127.0.0.+1]>"},
      {"A08 a number too large", "<u@[127.0.0.256]>"},
      {"A08 five numbers", "<u@[127.0.0.0.1]>"},
      {"A08 a hole", "<u@[127..0.1]>"},
      {"A08 a dot at the end", "<u@[127.0.0.1.]>"},
      {"A08 IPv6 in long form", "<u@[IPv6:0:0:0:0:0:0:0:1]>", "u@[IPv6:::1]"},
      {"A08 IPv6 upper case", "<u@[IPv6:2001:DB8::1]>", "u@[IPv6:2001:db8::1]"},
      {"A08 empty", "<u@[]>"},
      {"A08 open", "<u@[127.0.0.1>"},
      {"A08 text behind", "<u@[127.0.0.1]x>"},
      {"A08 another tag", "<u@[x400:a]>"},
      {"A08 NUL", "<u@[127.0.0.1\0]>"s},
      {"A09 single label", "<u@localhost>", "u@localhost"},
      {"A09 single label, dot", "<u@localhost.>", "u@localhost"},
      {"A09 dot at the end", "<u@us.test.>", "u@us.test"},
      {"A09 upper case is kept", "<u@US.test>", "u@US.test"},
      {"A09 two dots at the end", "<u@us..>"},
      {"A09 dot at the start", "<u@.us>"},
      {"A09 hyphen at the start", "<u@-us>"},
      {"A09 hyphen at the end", "<u@us->"},
      {"A09 hyphen before a dot", "<u@us-.test>"},
      {"A09 underscore", "<u@us_>", "u@us_"},
      {"A09 underscores", "<u@_my.web_app_1.test>", "u@_my.web_app_1.test"},
      {"A09 only a dot", "<u@.>"},
      {"A10 an A-label stays", "<u@xn--bcher-kva.test>", "u@xn--bcher-kva.test"},
      {"A10 an A-label of nothing", "<u@xn--us->"},
      {"A11 spaces and two addresses", "<\"x@evil.test x\"@us.test>", "\"x@evil.test x\"@us.test"},
      {"A11 a space", "<\"a b\"@us.test>", "\"a b\"@us.test"},
      {"A11 an escaped closing quote", "<\"\\\"@us.test>"},
      {"A11 an escaped quote", "<\"a\\\"b\"@us.test>", "\"a\\\"b\"@us.test"},
      {"A11 empty quotes alone", "<\"\">"},
      {"A11 empty quotes", "<\"\"@us.test>", "\"\"@us.test"},
      {"A11 a quote within", "<a\"b@us.test>"},
      {"A11 quoted and more", "<\"a\"b@us.test>"},
      {"A11 quoted words with a dot", "<\"a\".\"b\"@us.test>", "\"a\".\"b\"@us.test"},
      {"A11 a quoted word first", "<\"a\".b@us.test>", "\"a\".b@us.test"},
      {"A11 a quoted word within", "<a.\"b@c\".d@us.test>", "a.\"b@c\".d@us.test"},
      {"A11 a quoted word last", "<a.\"b\"@us.test>", "a.\"b\"@us.test"},
      {"A11 a quoted word and the domain in it", "<a.\"b@us.test>"},
      {"A11 two quoted words without a dot", "<\"a\"\"b\"@us.test>"},
      {"A11 an atom behind quotes", "<\"a\"b.c@us.test>"},
      {"A11 a path behind quotes", "<\"a\"../../b@us.test>"},
      {"A11 an escaped control", "<\"a\\\x01\"@us.test>"},
      {"A11 a control", "<\"a\x01\"@us.test>"},
      {"A11 a tab", "<\"a\tb\"@us.test>"},
      {"A12 comment in the local part", "<u(c)@us.test>"},
      {"A12 comment in the domain", "<u@us.test(c)evil>"},
      {"A12 comment before the domain", "<u@(c)us.test>"},
      {"A13 no brackets", "u@us.test"},
      {"A13 two opening brackets", "<<u@us.test>>"},
      {"A13 not closed", "<u@us.test"},
      {"A13 not opened", "u@us.test>"},
      {"A13 spaces inside", "< u@us.test >"},
      {"A13 a space before the bracket", " <u@us.test>"},
      {"A14 encoded word", "<=?utf-8?q?u=40ext?=@us.test>", "=?utf-8?q?u=40ext?=@us.test"},
      {"A15 UTF-7", "<+AGE-@us.test>", "+AGE-@us.test"},
      {"A19 tag", "<u+tag@us.test>", "u+tag@us.test"},
      {"A19 dashed tag", "<u-tag@us.test>", "u-tag@us.test"},
      {"A19 empty tag", "<u+@us.test>", "u+@us.test"},
      {"I01 two dots", "<..@us.test>"},
      {"I01 one dot", "<.@us.test>"},
      {"I01 a path", "<../../x@us.test>"},
      {"I01 a slash", "<a/b@us.test>", "a/b@us.test"},
      {"I01 a backslash", "<a\\b@us.test>"},
      {"I02 an option", "<-Cx@us.test>", "-Cx@us.test"},
      {"I03 a pipe", "<|id@us.test>", "|id@us.test"},
      {"I03 a semicolon", "<;id;@us.test>"},
      {"I03 a semicolon alone", "<;id;>"},
      {"I04 braces", "<${run{x}}@us.test>", "${run{x}}@us.test"},
      {"postmaster", "<postmaster>", "postmaster"},
      {"Postmaster", "<PostMaster>", "PostMaster"},
      {"not postmaster", "<postmasters>"},
      {"empty", "<>"},
      {"no local part", "<@>"},
      {"no domain", "<u@>"},
      {"nothing", ""},
  };
  for (const auto& c : cases)
    DYNAMIC_SECTION(c.name) {
      CHECK(path_result(c.path) == c.want);
    }
}

// The parser's part of isemail's collection: valid in an envelope or not (A17).
TEST_CASE("A17: addresses of the isemail collection", "[mail][address]") {
  const std::string long_label(63, 'a');
  const std::vector<std::pair<std::string, bool>> cases = {
      {"", false},
      {"test", false},
      {"@", false},
      {"test@", false},
      {"test@io", true},
      {"@io", false},
      {"@iana.org", false},
      {"test@iana.org", true},
      {"test@nominet.org.uk", true},
      {"test@about.museum", true},
      {"a@iana.org", true},
      {"test.test@iana.org", true},
      {".test@iana.org", true},
      {"test.@iana.org", true},
      {"test..iana.org", false},
      {"test_exa-mple.com", false},
      {"!#$%&`*+/=?^`{|}~@iana.org", true},
      {"test\\@test@iana.org", false},
      {"123@iana.org", true},
      {"test@123.com", true},
      {"abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijkl@iana.org", true},
      {"abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklm@iana.org", true},
      {"test@" + long_label + ".com", true},
      {"test@a" + long_label + ".com", false},
      {"test@mason-dixon.com", true},
      {"test@-iana.org", false},
      {"test@iana-.com", false},
      {"test@c--n.com", true},
      {"test@.iana.org", false},
      {"test@iana.org.", true},
      {"test@iana..com", false},
      {"\"test\"@iana.org", true},
      {"\"\"@iana.org", true},
      {"\"\"\"@iana.org", false},
      {"\"\\a\"@iana.org", true},
      {"\"\\\"\"@iana.org", true},
      {"\"\\\"@iana.org", false},
      {"\"\\\\\"@iana.org", true},
      {"test\"@iana.org", false},
      {"\"test@iana.org", false},
      {"\"test\"test@iana.org", false},
      {"test\"text\"@iana.org", false},
      {"\"test\"\"test\"@iana.org", false},
      {"\"test\".\"test\"@iana.org", true},
      {"\"test\\ test\"@iana.org", true},
      {"\"test\".test@iana.org", true},
      {"\"test\0\"@iana.org"s, false},
      {"test@[255.255.255.255]", true},
      {"test@a[255.255.255.255]", false},
      {"test@[255.255.255]", false},
      {"test@[255.255.255.255.255]", false},
      {"test@[255.255.255.256]", false},
      {"test@[1111:2222:3333:4444:5555:6666:7777:8888]", false},
      {"test@[IPv6:1111:2222:3333:4444:5555:6666:7777:8888]", true},
      {"test@[IPv6:1111:2222:3333:4444:5555:6666:7777]", false},
      {"test@[IPv6:1111:2222:3333:4444:5555:6666:7777:888G]", false},
      {"test@[IPv6::1111]", false},
      {"test@[RFC-5322-domain-literal]", false},
      {" test@iana.org", false},
      {"test @iana.org", false},
      {"test@ iana.org", false},
      {"test@iana.org ", false},
      {"(comment)test@iana.org", false},
      {"test@iana.org\r", false},
      {"test@iana.org\n", false},
      {"test@iana/icann.org", false},
      {"test@iana!icann.org", false},
      {"test@iana^icann.org", false},
      {"test.(comment)test@iana.org", false},
      {"test@org", true},
      {"test@[IPv6:1::2:]", false},
      {"\"test\\\xc2\xa9\"@iana.org", false},
  };
  for (const auto& [address, valid] : cases) {
    INFO(address);
    CHECK(parse_mailbox(address, false).has_value() == valid);
  }
}

TEST_CASE("L04: limits of lengths", "[mail][address]") {
  const auto domain_of_length = [](std::size_t length) {
    std::string domain;
    while (length - domain.size() > 64)
      domain.append(63, 'a').append(1, '.');
    return domain.append(length - domain.size(), 'b');
  };
  CHECK(is_host_name(domain_of_length(253)));
  CHECK_FALSE(is_host_name(domain_of_length(254)));
  CHECK(path_result("<" + domain_of_length(63) + "@b>").size() == 65);
  // A path of 256 octets, brackets included, and one of 257.
  CHECK(path_result("<a@" + domain_of_length(252) + ">").size() == 254);
  CHECK(path_result("<a@" + domain_of_length(253) + ">") == "refused");
  CHECK(path_result("<" + std::string(1U << 20U, 'a') + "@b>") == "refused");
  CHECK(path_result("<\"" + std::string(1U << 20U, 'a')) == "refused");
}

TEST_CASE("addresses are taken as the world has them", "[mail][address]") {
  const std::string local(180, 'v');
  CHECK(path_result("<" + local + "@b.test>") == local + "@b.test");
  CHECK(path_result("<" + std::string(247, 'v') + "@b.test>").size() == 254);
  CHECK(path_result("<" + std::string(248, 'v') + "@b.test>") == "refused");
  // With what is added to it.
  const auto with_origin = [](std::size_t local) {
    return parse_path("<" + std::string(local, 'v') + ">", {.lenient = true, .origin = "b.test"});
  };
  CHECK(with_origin(247).value().mailbox.size() == 254);
  CHECK_FALSE(with_origin(248).has_value());
  for (const auto* odd : {"a..b", ".a", "a.", "...a...", "-x", "|x", "/x", "x%y", "x!y"}) {
    CHECK(path_result("<"s + odd + "@b.test>") == odd + "@b.test"s);
    CHECK(parse_mailbox(odd + "@b.test"s, false).value() == odd + "@b.test"s);
  }
  // What we write ourselves keeps to the RFC.
  CHECK(quoted_local_part("a..b") == "\"a..b\"");
  CHECK(quoted_local_part("a.") == "\"a.\"");
  CHECK(quoted_local_part("a.b") == "a.b");
  CHECK(parse_mailbox("u@[ipv6:2001:0DB8:0::1]", false).value() == "u@[IPv6:2001:db8::1]");
  CHECK(parse_mailbox("u@[IPv6:1111:2222:3333:4444::255.255.255.255]", false).value() ==
        "u@[IPv6:1111:2222:3333:4444::ffff:ffff]");
  CHECK(parse_mailbox("u@[IPv6:1111:2222:3333:4444:5555:6666:255.255.255.255]", false));
  for (const auto* disguised : {"::ffff:127.0.0.1", "::FFFF:7f00:1", "::127.0.0.1",
                                "0:0:0:0:0:ffff:7f00:0001", "fe80::1%eth0", ""})
    CHECK_FALSE(parse_mailbox("u@[IPv6:"s + disguised + "]", false));
  CHECK(is_host_name("mx_1.test"));
  CHECK_FALSE(is_host_name("-mx.test"));
  CHECK(is_dns_name("-mx.test"));
  for (const auto* bad : {"", ".", "mx..test", "mx.test.", "mx test", "mx/test", "m\\x.test"})
    CHECK_FALSE(is_dns_name(bad));
}

TEST_CASE("clients of our own may leave out brackets and domain", "[mail][address]") {
  const auto read = [](std::string_view text, std::string_view origin = "us.test") {
    const auto path = parse_path(
        text, {.null_allowed = true, .bare_postmaster = true, .lenient = true, .origin = origin});
    return path ? path->mailbox + "|" + std::string(path->rest) : "refused";
  };
  CHECK(read("<root>") == "root@us.test|");
  CHECK(read("root SIZE=1") == "root@us.test| SIZE=1");
  CHECK(read("a@b.test SIZE=1") == "a@b.test| SIZE=1");
  CHECK(read("< a@b.test >") == "a@b.test|");
  CHECK(read("<root>", "") == "root|");
  CHECK(read("<postmaster>") == "postmaster|");
  CHECK(read("Postmaster") == "Postmaster|");
  CHECK(read("<>") == "|");
  CHECK(read("<\"a@b\">") == "\"a@b\"@us.test|");
  CHECK(read("<x!y>") == "x!y@us.test|");
  for (const auto* bad : {"", "<", "a@", "<a@>", "<a@b@c>", "a>", "<a", "<a><b>x", "<<a>>", "a\x01",
                          "<a b>", "(c)a@b.test"}) {
    const auto got = read(bad);
    INFO(bad);
    CHECK((got == "refused" || !got.ends_with("|")));
  }
}

TEST_CASE("a refusal says which rule was broken", "[mail][address]") {
  const auto why = [](std::string_view text) {
    const auto path = parse_path(text, {});
    return path ? "" : path.error().step();
  };
  CHECK(why("<u@" + std::string(64, 'a') + ".test>") == "domain label longer than 63 octets");
  CHECK(why("<u@a..b>") == "empty domain label");
  CHECK(why("<u@-a>") == "domain label with a hyphen at its start or end");
  CHECK(why("<u>") == "no domain");
  CHECK(why("<u@>") == "no domain");
  CHECK(why("<@b.test:>") == "malformed local part");
  CHECK(why("<..@b.test>") == "malformed local part");
  CHECK(why("<" + std::string(300, 'a') + "@b>") == "longer than 254 octets");
  CHECK(why("u@b.test") == "no angle brackets");
  CHECK(why("<u@b.test") == "no closing bracket");
  CHECK(why("<u@b.test(c)>") == "character that no address has");
  CHECK(why("<u@[1.2.3]>") == "not an address literal");
}

TEST_CASE("L10, L12: UTF-8 needs SMTPUTF8 and must be valid", "[mail][address]") {
  CHECK(path_result("<\xc3\xbc@us.test>") == "refused");
  CHECK(path_result("<\xc3\xbc@us.test>", true) == "\xc3\xbc@us.test");
  CHECK(path_result("<u@b\xc3\xbc"
                    "cher.test>",
                    true) ==
        "u@b\xc3\xbc"
        "cher.test");
  CHECK(path_result("<\"\xc3\xbc \"@us.test>", true) == "\"\xc3\xbc \"@us.test");
  for (const auto* bad : {"\xff", "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xc3"}) {
    CHECK(path_result("<"s + bad + "@us.test>", true) == "refused");
    CHECK(path_result("<u@"s + bad + ".test>", true) == "refused");
  }
}

TEST_CASE("domains become A-labels", "[mail][address]") {
  CHECK(to_ascii_domain("Example.ORG").value() == "example.org");
  CHECK(to_ascii_domain("b\xc3\xbc"
                        "cher.test")
            .value() == "xn--bcher-kva.test");
  CHECK(to_ascii_domain("B\xc3\x9c"
                        "CHER.test")
            .value() == "xn--bcher-kva.test");
  // Decomposed form: u and a combining diaeresis.
  CHECK(to_ascii_domain("bu\xcc\x88"
                        "cher.test")
            .value() == "xn--bcher-kva.test");
  // IDNA2008, not transitional: the sharp s has a label of its own.
  CHECK(to_ascii_domain("stra\xc3\x9f"
                        "e.test")
            .value() == "xn--strae-oqa.test");
  for (const auto* bad : {"", ".", "a..b", "\xff", "\xc3\xbc..test", "-a", "a b"})
    CHECK_FALSE(to_ascii_domain(bad).has_value());
  CHECK_FALSE(to_ascii_domain(std::string(300, 'a')).has_value());
}

TEST_CASE("A-labels become U-labels where they stand for some", "[mail][address]") {
  const std::pair<std::string, std::string> cases[] = {
      {"xn--bcher-kva.test",
       "b\xc3\xbc"
       "cher.test"},
      {"mx.xn--bcher-kva.test",
       "mx.b\xc3\xbc"
       "cher.test"},
      {"plain.test", "plain.test"},
      {"xn--.test", "xn--.test"},
      {"xn--a.test", "xn--a.test"},
      {"", ""},
      {"b\xc3\xbc"
       "cher.test",
       "b\xc3\xbc"
       "cher.test"},
      {"[192.0.2.1]", "[192.0.2.1]"},
  };
  for (const auto& [given, wanted] : cases) {
    INFO(given);
    CHECK(to_unicode_domain(given) == wanted);
  }
  const std::string with_nul("xn--bcher-kva\0.test", 19);
  CHECK(to_unicode_domain(with_nul) == with_nul);
}

TEST_CASE("the meaning of a local part survives quoting", "[mail][address]") {
  CHECK(unquoted_local_part("\"a b\"") == "a b");
  CHECK(unquoted_local_part("\"a\\\"b\\\\\"") == "a\"b\\");
  CHECK(unquoted_local_part("a.b") == "a.b");
  CHECK(unquoted_local_part("\"") == "\"");
  CHECK(unquoted_local_part("\"a\".b") == "a.b");
  CHECK(unquoted_local_part("a.\"b\\\"@\\\\\".c") == "a.b\"@\\.c");
  CHECK(unquoted_local_part("\"a\".\"b\"") == "a.b");
  CHECK(unquoted_local_part("a\"b") == "a\"b");
  CHECK(quoted_local_part("\"a\".b") == "\"\\\"a\\\".b\"");
  CHECK(quoted_local_part("a.b") == "a.b");
  CHECK(quoted_local_part("a b") == "\"a b\"");
  CHECK(quoted_local_part(".a") == "\".a\"");
  CHECK(quoted_local_part("") == "\"\"");
  for (const auto* meaning : {"a", "a b", "a\"b", "a\\", "\\\"", "@", "a@b", "..", "\xc3\xbc"})
    CHECK(unquoted_local_part(quoted_local_part(meaning)) == meaning);
}

TEST_CASE("a path is read up to its bracket", "[mail][address]") {
  const auto path = parse_path("<a@b.test> SIZE=1", {});
  REQUIRE(path.has_value());
  CHECK(path->rest == " SIZE=1");
  const auto quoted = parse_path("<\"a>b\"@b.test>x", {});
  REQUIRE(quoted.has_value());
  CHECK(quoted->mailbox == "\"a>b\"@b.test");
  CHECK(quoted->rest == "x");
}

}  // namespace
}  // namespace postrider::mail
