#include "base/url.h"

#include <catch2/catch.hpp>

#include <vector>

using namespace postrider;

namespace {

std::string parts(std::string_view url) {
  const auto found = parse_http_url(url);
  if (!found)
    return "none";
  return std::string(found->is_https ? "s " : "- ") + found->host + " " +
         std::to_string(found->port) + " " + found->target;
}

}  // namespace

TEST_CASE("the parts of a URL", "[base][url]") {
  struct Case {
    std::string url;
    std::string want;
  };
  const std::vector<Case> cases = {
      {"https://id.example.org/token", "s id.example.org 443 /token"},
      {"HTTPS://ID.example.org", "s id.example.org 443 /"},
      {"http://id.example.org:8080/a?b=c#d", "- id.example.org 8080 /a?b=c"},
      {"https://id.example.org?b=/c", "s id.example.org 443 /?b=/c"},
      {"https://[2001:DB8::1]:444/x", "s 2001:db8::1 444 /x"},
      {"https://[::1]", "s ::1 443 /"},
      {"https://192.0.2.1/", "s 192.0.2.1 443 /"},
      {"ftp://id.example.org/", "none"},
      {"https:///token", "none"},
      {"https://", "none"},
      {"https://id.example.org:0/", "none"},
      {"https://id.example.org:65536/", "none"},
      {"https://id.example.org:/", "none"},
      {"https://::1/", "none"},
      {"https://[id.example.org]/", "none"},
      {"https://user@id.example.org/", "none"},
      {"https://id.example.org/a b", "none"},
      {"https://id.example.org/a\r\nHost: x", "none"},
      {"https://id.\xC3\xA9.org/", "none"},
  };
  for (const auto& c : cases)
    DYNAMIC_SECTION(c.url) {
      CHECK(parts(c.url) == c.want);
    }
}

TEST_CASE("percent-encoding leaves nothing that a form could be cut at", "[base][url]") {
  CHECK(percent_encoded("AZaz09-._~") == "AZaz09-._~");
  CHECK(percent_encoded("a b&c=d+e%/") == "a%20b%26c%3Dd%2Be%25%2F");
  CHECK(percent_encoded(std::string_view("\0\xC3\xA9", 3)) == "%00%C3%A9");
}

TEST_CASE("no password of a URL is repeated", "[base][url]") {
  struct Case {
    std::string text, shown;
  };
  const std::vector<Case> cases = {
      {"smtp://user:secret@host", "smtp://user:***@host"},
      {"SMTPS://user:secret@host:465/", "SMTPS://user:***@host:465/"},
      {"amqps://:secret@host", "amqps://:***@host"},
      {"ldap://cn=a,dc=b:secret@[::1]:389/x", "ldap://cn=a,dc=b:***@[::1]:389/x"},
      {"smtp://user:sec@ret/x:y@host", "smtp://user:***@host"},
      {"smtp://user:sec ret\"x@host", "smtp://user:***@host"},
      {"user:secret@host:25", "user:***@host:25"},
      {"next hop \"smtp://user:secret@host\": expected mx",
       "next hop \"smtp://user:***@host\": expected mx"},
      {"a smtp://u:s1@h, b smtp://u:s2@h c", "a smtp://u:***@h, b smtp://u:***@h c"},
      {"smtp://u:s1@h,smtp://v:s2@k", "smtp://u:***@k"},
      // Nothing secret.
      {"https://id.example.org:8080/a?b=c", "https://id.example.org:8080/a?b=c"},
      {"amqp://user@host", "amqp://user@host"},
      {"smtp://[2001:db8::1]:25", "smtp://[2001:db8::1]:25"},
      {"maildir:/var/mail/a@b", "maildir:/var/mail/a@b"},
      {"error:5.1.1 no such user ann@x", "error:5.1.1 no such user ann@x"},
      {"ann: bob@x.test", "ann: bob@x.test"},
      {"ann@x.test", "ann@x.test"},
      {"://", "://"},
      {"", ""},
  };
  for (const auto& c : cases)
    DYNAMIC_SECTION(c.text) {
      CHECK(without_passwords(c.text) == c.shown);
    }
}
