#include "base/quoted.h"

#include <catch2/catch.hpp>

#include <string>
#include <vector>

namespace postrider {
namespace {

TEST_CASE("a value is quoted without what may be a secret in it", "[base][quoted]") {
  struct Case {
    std::string value, shown;
  };
  const std::vector<Case> cases = {
      {"smtp://user:pw@host:25", "smtp://***@host:25"},
      {"smtp://pw@host:25", "smtp://***@host:25"},
      {"smtp://user:a/pw@host", "smtp://***@host"},
      {"smtp://user:sec ret\"x@host", "smtp://***@host"},
      {"user:pw@host:25", "***@host:25"},
      {"tcp:me:pw@127.0.0.1:9", "tcp:***@127.0.0.1:9"},
      {"lmtp:pw@127.0.0.1:9", "lmtp:***@127.0.0.1:9"},
      {"pgsql:postgresql://me:pw@h/db", "pgsql:postgresql://***@h/db"},
      {"//me:pw@127.0.0.1:9/db", "//***@127.0.0.1:9/db"},
      {"ldapi://%2Frun%2Fldapi/x?key=pw", "ldapi://%2Frun%2Fldapi/x?***"},
      {"pgsql:host=x password=pw dbname=y", "pgsql:host=x password=*** dbname=y"},
      {"host=x password = 'p w' user=y", "host=x password = *** user=y"},
      {"Server=h;Pwd=pw;Port=1", "Server=h;Pwd=***;Port=1"},
      {"https://id.example.org:8080/a?b=c", "https://id.example.org:8080/***?***"},
      {"https://hooks.example/services/T/B/pw", "https://hooks.example/***"},
      {"https://host/#pw", "https://host/#***"},
      {"smtp://127.0.0.1:9/?password=pw", "smtp://127.0.0.1:9/?***"},
      {"command:/bin/curl https://me:pw@h", "command:/bin/curl ***"},
      {"inline:{far.example=smtp://me:pw@h}", "inline:{far.example=smtp://***@h}"},
      {"anna:hunter2pass", "anna:***"},
      {"|/usr/bin/x --password pw", "|/usr/bin/x ***"},
      {"\"|/usr/bin/x -u me -ppw\"", "\"|/usr/bin/x ***"},
      {"/usr/bin/x --token pw", "/usr/bin/x ***"},
      {"k3y.zen.dq.spamhaus.net=127.0.0.2*3", "***.zen.dq.spamhaus.net=127.0.0.2*3"},
      {"bl.example zq7secr3tkey.dbl.dq.spamhaus.net", "bl.example ***.dbl.dq.spamhaus.net"},
      // Nothing secret.
      {"zen.dq.spamhaus.net", "zen.dq.spamhaus.net"},
      {"zen.spamhaus.org=127.0.0.[2..11]*2", "zen.spamhaus.org=127.0.0.[2..11]*2"},
      {"mx1.example.org:587x", "mx1.example.org:587x"},
      {"2001:db8::zz", "2001:db8::zz"},
      {"Server2019", "Server2019"},
      {"AB:CD", "AB:CD"},
      {"xn--80ak6aa92e.example", "xn--80ak6aa92e.example"},
      {"text:/etc/postrider/relay", "text:/etc/postrider/relay"},
      {"/var/lib/acme/x1-AbC2dEf3/cert.pem", "/var/lib/acme/x1-AbC2dEf3/cert.pem"},
      {"example.org:sel2024:/etc/dkim/sel2024.pem", "example.org:sel2024:/etc/dkim/sel2024.pem"},
      {"127.0.0.1:99999", "127.0.0.1:99999"},
      {"5 minutes", "5 minutes"},
      {"inline:{far.example=x}", "inline:{far.example=x}"},
      {"https://host", "https://host"},
      {"https://host/", "https://host/"},
      {"smtp://[2001:db8::1]:25", "smtp://[2001:db8::1]:25"},
      {"maildir:/var/mail/a@b", "maildir:/var/mail/a@b"},
      {"/etc//postrider/a@b", "/etc//postrider/a@b"},
      {"sqlite:/db?SELECT value FROM t WHERE key = :key",
       "sqlite:/db?SELECT value FROM t WHERE key = :key"},
      {"error:5.1.1 no such user ann@x", "error:5.1.1 no such user ann@x"},
      {"ann@x.test", "ann@x.test"},
      {"=", "="},
      {"password=\"", "password=***"},
      {"//", "//"},
      {"", ""},
  };
  for (const auto& c : cases)
    DYNAMIC_SECTION(c.value) {
      CHECK(quotable(c.value) == c.shown);
    }
  CHECK(quote_value("a\x01") == "\"a\\x01\"");
  CHECK(quote_value("{PLAIN}pw") == "a value of 9 octets (not shown: it may be a secret)");
  CHECK(quote_value("smtp://a:pw@host.example", 10) == "\"smtp://***...\"");
}

TEST_CASE("a value of the form of a secret is not quoted at all", "[base][quoted]") {
  const std::string kept = "Zq7SeCr3tXw";
  const std::vector<std::string> secrets = {
      kept,
      "-----BEGIN PRIVATE KEY-----",
      "Bearer abc",
      "bearer abc",
      "Basic dXNlcjpwdw==",
      "Authorization: Basic abc",
      "$6$salt$hash",
      "$2y$05$abcdefghijklmnopqrstuv",
      "$argon2id$v=19$m=65536",
      "anna:$6$salt$hash",
      "{PLAIN}pw",
      "{SSHA512}abc",
      "{BLF-CRYPT}abc",
      "ghp_abcdefghij",
      "github_pat_abcdef_ghijkl",
      "AKIAABCDEFGHIJKLMNOP",
      "xoxb-123456789012-abc",
      "sk_live_abcdefgh",
      "eyJhbGciOiJIUzI1NiJ9.e30.x",
      "dGhpcyBpcyBhIHNlY3JldCBrZXk=",
      "3f2a9c1b4d5e6f708192a3b4c5d6e7f8",
      "/etc/x/" + kept + kept,
      "mail." + kept + ".example",
      "password is " + kept,
  };
  for (const auto& secret : secrets)
    DYNAMIC_SECTION(secret) {
      CHECK(quotable(secret) == "***");
      CHECK(quote_value(secret) == "a value of " + std::to_string(secret.size()) +
                                       " octets (not shown: it may be a secret)");
    }
}

}  // namespace
}  // namespace postrider
