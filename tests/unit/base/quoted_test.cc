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
      {"command:/bin/curl https://me:pw@h", "command:/bin/curl https://***@h"},
      {"inline:{far.example=smtp://me:pw@h}", "inline:{far.example=smtp://***@h}"},
      // Nothing secret.
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
  CHECK(quote_value("smtp://a:pw@host.example", 10) == "\"smtp://***...\"");
}

}  // namespace
}  // namespace postrider
