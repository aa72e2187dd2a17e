#include "mailauth/auth_results.h"

#include "base/text.h"
#include "mail/header.h"

#include <catch2/catch.hpp>

namespace postrider::mailauth {
namespace {

using namespace std::string_literals;

std::string unfolded(std::string_view field) {
  std::string out;
  for (std::size_t i = 0; i < field.size(); ++i) {
    if (field.substr(i, 3) == "\r\n\t") {
      out.push_back(' ');
      i += 2;
    } else {
      out.push_back(field[i]);
    }
  }
  return out;
}

TEST_CASE("results are written", "[mailauth][auth_results]") {
  CHECK(authentication_results_field("mx.example.com", {}) ==
        "Authentication-Results: mx.example.com; none\r\n");
  const std::vector<MethodResult> results = {
      {"spf", "pass", "", "", {{"smtp", "mailfrom", "joe@example.com"}}},
      {"dkim",
       "fail",
       "2048-bit key",
       "body hash did not verify",
       {{"header", "d", "example.com"},
        {"header", "i", "@example.com"},
        {"header", "b", "ab/+c="}}},
      {"dmarc", "none"}};
  const auto field = authentication_results_field("mx.example.com", results);
  CHECK(unfolded(field) ==
        "Authentication-Results: mx.example.com; spf=pass smtp.mailfrom=joe@example.com; dkim=fail "
        "(2048-bit key) reason=\"body hash did not verify\" header.d=example.com "
        "header.i=@example.com header.b=\"ab/+c=\"; dmarc=none\r\n");
  for (const auto line : split(field, '\n'))
    CHECK(line.size() <= 79);  // with the CR
  CHECK(arc_authentication_results_field(3, "mx.example.com", {}) ==
        "ARC-Authentication-Results: i=3; mx.example.com; none\r\n");
}

std::string value_of(std::string_view value, bool utf8 = false) {
  const auto field = unfolded(authentication_results_field(
      "a", {{"spf", "pass", "", "", {{"smtp", "mailfrom", std::string(value)}}}}, utf8));
  const auto at = field.find("mailfrom=") + 9;
  return field.substr(at, field.size() - at - 2);
}

TEST_CASE("values that are not plain are quoted", "[mailauth][auth_results]") {
  CHECK(value_of("joe@example.com") == "joe@example.com");
  CHECK(value_of("@example.com") == "@example.com");
  CHECK(value_of("a.b-c") == "a.b-c");
  CHECK(value_of("") == "\"\"");
  CHECK(value_of("\"q q\"@example.com") == "\"\\\"q q\\\"@example.com\"");
  CHECK(value_of("a;b@example.com") == "\"a;b@example.com\"");
  CHECK(value_of("joe@[192.0.2.1]") == "\"joe@[192.0.2.1]\"");
  CHECK(value_of("a\\b") == "\"a\\\\b\"");
  CHECK(value_of("x (y)") == "\"x (y)\"");
  CHECK(value_of("x\r\nBcc: y") == "\"x??Bcc: y\"");
  CHECK(value_of("x\0y"s) == "\"x?y\"");
  CHECK(value_of("\xc3\xa4@example.com") == "\"??@example.com\"");
  CHECK(value_of("\xc3\xa4@example.com", true) == "\"\xc3\xa4@example.com\"");
  CHECK(value_of("\xff@example.com", true) == "\"?@example.com\"");
  CHECK(value_of(std::string(5000, 'x')).size() == 400);
  const auto cut = value_of(
      "x" +
          [] {
            std::string many;
            for (int i = 0; i < 400; ++i)
              many += "\xc3\xa4";
            return many;
          }(),
      true);
  CHECK(is_utf8(cut));
  CHECK(cut.size() == 401);
}

TEST_CASE("results of signatures", "[mailauth][auth_results]") {
  CHECK(authentication_results_field("a", dkim_results({})) ==
        "Authentication-Results: a; dkim=none\r\n");
  SignatureReport one, two, three;
  one.result = SignatureResult::pass;
  one.domain = "example.com";
  one.identity = "@example.com";
  one.selector = "s1";
  one.algorithm = "rsa-sha256";
  one.key_bits = 2048;
  one.data_text = "abcdefghijklmnop";
  two = one;
  two.result = SignatureResult::fail;
  two.reason = "signature did not verify";
  two.data_text = "abcdefghijXlmnop";
  two.testing = true;
  three.result = SignatureResult::policy;
  three.reason = "too many signatures";
  CHECK(unfolded(authentication_results_field("a", dkim_results({one, two, three, three}))) ==
        "Authentication-Results: a; dkim=pass (2048-bit key) header.d=example.com "
        "header.i=@example.com header.s=s1 header.a=rsa-sha256 header.b=abcdefghijk; dkim=fail "
        "(2048-bit key, testing) reason=\"signature did not verify\" header.d=example.com "
        "header.i=@example.com header.s=s1 header.a=rsa-sha256 header.b=abcdefghijX; dkim=policy "
        "(2 signatures) reason=\"too many signatures\"\r\n");
  const auto alone = dkim_results({one});
  CHECK(alone.front().properties.back().value == "abcdefgh");
}

// "id|method=result type.name=value ...", or the error.
std::string read(std::string_view value) {
  const auto parsed = parse_authentication_results(value);
  if (!parsed)
    return parsed.error().step();
  std::string out = parsed->authserv_id;
  for (const auto& result : parsed->results) {
    out += "|" + result.method + "=" + result.result;
    if (!result.reason.empty())
      out += " reason=" + result.reason;
    for (const auto& property : result.properties)
      out += " " + property.type + "." + property.name + "=" + property.value;
  }
  return out;
}

TEST_CASE("results are read", "[mailauth][auth_results]") {
  struct Case {
    std::string value;
    std::string want;
  };
  const std::vector<Case> cases = {
      {" example.org 1; none", "example.org"},
      {" example.org; none;", "example.org"},
      {" example.com;\r\n\tspf=pass smtp.mailfrom=example.net",
       "example.com|spf=pass smtp.mailfrom=example.net"},
      // RFC 8601 appendix B.5, B.6
      {" example.com;\r\n  auth=pass (cleartext) smtp.auth=sender@example.net;\r\n  spf=pass "
       "smtp.mailfrom=example.net",
       "example.com|auth=pass smtp.auth=sender@example.net|spf=pass smtp.mailfrom=example.net"},
      {" example.com;\r\n dkim=pass reason=\"good signature\"\r\n "
       "header.i=@mail-router.example.net;"
       "\r\n dkim=fail reason=\"bad signature\" header.i=@newyork.example.com",
       "example.com|dkim=pass reason=good signature header.i=@mail-router.example.net|dkim=fail "
       "reason=bad signature header.i=@newyork.example.com"},
      // B.7: comments anywhere
      {" foo.example.net (foobar) 1 (baz);\r\n dkim (Because I like it) / 1 (One yay) = (wait for "
       "it)"
       " fail\r\n policy (A dot can go here) . (like that) expired\r\n (this surprised me) = (as I "
       "wasn't expecting it) 1362471462",
       "foo.example.net|dkim=fail policy.expired=1362471462"},
      {" \"a b\\\"c\"; dkim=pass header.b=\"x/y\"", "a b\"c|dkim=pass header.b=x/y"},
      {" a; DKIM=PASS Header.D=Example.com", "a|dkim=pass header.d=Example.com"},
      {" a; spf=pass smtp.mailfrom=\"q q\"@example.com",
       "a|spf=pass smtp.mailfrom=q q@example.com"},
      {" a; dkim=pass header.b=ab/cd=", "a|dkim=pass header.b=ab/cd="},
      {"", "no authserv-id"},
      {";", "no authserv-id"},
      {" a", "a"},
      {" a 2; dkim=pass", "unknown version"},
      {" a; dkim/2=pass", "result without a method"},
      {" a; dkim", "result outside the grammar"},
      {" a; dkim=", "result outside the grammar"},
      {" a; dkim=pass header.d", "result outside the grammar"},
      {" a; dkim=pass d=x", "result outside the grammar"},
      {" a; dkim=pass (", "results outside the grammar"},
      {" a; dkim=pass header.d=\"x", "result outside the grammar"},
      {" a dkim=pass", "results outside the grammar"},
      {" a; none; dkim=pass", "results outside the grammar"},
      {"a;" + std::string(kMostResultsSize, ' '), "results too long"},
      {"a" +
           [] {
             std::string many;
             for (std::size_t i = 0; i <= kMostResults; ++i)
               many += ";x=pass";
             return many;
           }(),
       "too many results"},
  };
  for (const auto& c : cases)
    DYNAMIC_SECTION(c.value.substr(0, 80)) {
      CHECK(read(c.value) == c.want);
    }
}

TEST_CASE("what is written is read again", "[mailauth][auth_results]") {
  for (const auto& value : {"joe@example.com"s, "a b\"c\\d"s, "x;y=(z)"s, ""s, "@"s, "=?"s}) {
    const auto field = authentication_results_field(
        "mx.example.com", {{"spf", "pass", "a (b) \\", "r\"(", {{"smtp", "mailfrom", value}}}});
    const auto parsed =
        parse_authentication_results(std::string_view(field).substr(23, field.size() - 25));
    CAPTURE(field);
    REQUIRE(parsed.has_value());
    CHECK(parsed->results.at(0).reason == "r\"(");
    CHECK(parsed->results.at(0).properties.at(0).value == value);
  }
}

TEST_CASE("I17: our authserv-id in every spelling", "[mailauth][auth_results]") {
  const std::vector<std::string> ours = {
      " mx.example.com; dkim=pass",
      "mx.example.com;dkim=pass",
      " MX.Example.COM; dkim=pass",
      " mx.example.com.; dkim=pass",
      " mx.example.com",
      " mx.example.com dkim=pass",
      " mx.example.com 1; dkim=pass",
      " mx.example.com/1; dkim=pass",
      " mx.example.com 2; dkim=pass",
      " \"mx.example.com\"; dkim=pass",
      " \"mx\\.example\\.com\"; dkim=pass",
      " \"mx.exam\"\"ple.com\"; dkim=pass",
      " (a comment) mx.example.com (another; one) ; dkim=pass",
      " (nested (one) \\) two) mx.example.com; dkim=pass",
      "\r\n\tmx.example.com\r\n\t; dkim=pass",
      " mx . example . com; dkim=pass",
      " mx(x).(y)example.com; dkim=pass",
      " <mx.example.com>; dkim=pass",
      " mx.example.com\0; dkim=pass"s,
      " foreign.example mx.example.com; dkim=pass",
      " \xef\xbd\x8dx.example.com; dkim=pass",  // full width m
      // No id, no end, another version: nobody shall guess.
      "",
      " ; dkim=pass",
      " dkim=pass header.d=example.com",
      " (mx.example.com; dkim=pass",
      " \"mx.example.com; dkim=pass",
      " foreign.example 2; dkim=pass",
  };
  for (const auto& value : ours) {
    CAPTURE(value);
    CHECK(may_claim_authserv_id(value, "mx.example.com"));
  }
  for (const std::string value :
       {" mx.example.com:x; dkim=pass", " mx.example.com,x; dkim=pass",
        " ,mx.example.com; dkim=pass", " <mx.example.com>; dkim=pass",
        " x:mx.example.com; dkim=pass", " [mx.example.com]; x=pass", " mx.example.com|1; x=pass",
        " mx.example.com\xc2\xa0; dkim=pass", " \xc2\xa0mx.example.com; dkim=pass",
        " mx.example.com\xe2\x80\x83"
        "1; dkim=pass",
        " mx.exa\xe2\x80\x8bmple.com; dkim=pass", " \xef\xbb\xbfmx.example.com; x=pass",
        " mx.example.com\xe3\x80\x80; x=pass", " mx.example.com\\; x=pass"}) {
    CAPTURE(value);
    CHECK(may_claim_authserv_id(value, "mx.example.com"));
  }
  for (const std::string value :
       {" mx.example.com-x; dkim=pass", " mx.example.com_x; dkim=pass", " x-mx.example.com; none",
        " mx.example.com\xc3\xa9; dkim=pass", " mx:example.com; dkim=pass"}) {
    CAPTURE(value);
    CHECK_FALSE(may_claim_authserv_id(value, "mx.example.com"));
  }
  for (const auto& value :
       {" foreign.example; dkim=pass", " foreign.example 1; dkim=pass",
        " mx.example.com.example; dkim=pass", " amx.example.com; dkim=pass",
        " foreign.example; dkim=pass (mx.example.com)", " foreign.example; mx.example.com=pass",
        " (mx.example.com;) foreign.example; x=pass", " example.com; none", " foreign.example"}) {
    CAPTURE(value);
    CHECK_FALSE(may_claim_authserv_id(value, "mx.example.com"));
  }
  CHECK(may_claim_authserv_id(" xn--bcher-kva.example; none",
                              "b\xc3\xbc"
                              "cher.example"));
  CHECK(
      may_claim_authserv_id(" B\xc3\xbc"
                            "cher.example; none",
                            "xn--bcher-kva.example"));
}

TEST_CASE("I17: forged results are removed", "[mailauth][auth_results]") {
  const std::vector<std::string> ids = {"mx.example.com", "example.com"};
  CHECK_FALSE(
      without_forged_results("From: a\r\nAuthentication-Results: other; none\r\n\r\n", ids));
  CHECK_FALSE(without_forged_results("", ids));
  CHECK(without_forged_results("Authentication-Results: mx.example.com; dkim=pass\r\n"
                               "From: a\r\n"
                               "authentication-RESULTS :\r\n (x)\r\n \"example.com\"; dkim=pass\r\n"
                               "ARC-Authentication-Results: i=1; example.com; none\r\n"
                               "Authentication-Results: other; none\r\n"
                               "\r\n"
                               "Authentication-Results: mx.example.com; dkim=pass\r\n",
                               ids) ==
        "From: a\r\n"
        "ARC-Authentication-Results: i=1; example.com; none\r\n"
        "Authentication-Results: other; none\r\n"
        "\r\n"
        "Authentication-Results: mx.example.com; dkim=pass\r\n");
  // What was body stays body.
  for (const std::string rest :
       {"From me Mon\r\nSubject: x\r\n", "hello\r\n", "\r\nhello\r\n", ""}) {
    const auto left = without_forged_results("Authentication-Results: example.com\r\n" + rest, ids);
    REQUIRE(left);
    CHECK(mail::header_facts(*left).size == 0);
    CHECK(left->ends_with(rest));
  }
}

}  // namespace
}  // namespace postrider::mailauth
