// The files of tables that a server answers.
#include "tables/ldap_settings.h"
#include "tables/pgsql_settings.h"
#include "tests/support/folder.h"

#include <catch2/catch.hpp>

#include <string>

using namespace postrider;
using namespace postrider::tables;

namespace {

Source file_of(const std::string& text) {
  Source source;
  source.path = "/t";
  source.text = text;
  return source;
}

const std::string kPgsql =
    "dbname = \"mail\"\nuser = \"postrider\"\nquery = \"SELECT a FROM t WHERE k = $1\"\n";
const std::string kLdap =
    "server = \"ldap://127.0.0.1\"\nbase = \"dc=x\"\nfilter = \"(mail=%s)\"\nattribute = \"uid\"\n";

template <class Read>
std::string problem(const Read& read, const std::string& text) {
  const auto settings = read(file_of(text));
  return settings ? std::string("none") : settings.error().step();
}

}  // namespace

TEST_CASE("a PostgreSQL table's file", "[tables][pgsql]") {
  const auto read =
      read_pgsql_settings(file_of(
          kPgsql + "server = [\"/run/p\", \"db.test\", \"[2001:db8::1]:5433\", \"127.0.0.1:1\"]\n"
                   "time_limit = \"2s\"\ncache = \"0s\"\nconnections = 2\ndomains = \"x.test\"\n"));
  REQUIRE(read.has_value());
  REQUIRE(read->servers.size() == 4);
  CHECK(read->servers[0].host == "/run/p");
  CHECK(read->servers[2].host == "2001:db8::1");
  CHECK(read->servers[2].port == "5433");
  CHECK(read->servers[3].port == "1");
  CHECK(read->verifies);
  CHECK(read->common.time_limit.count() == 2000);
  CHECK_FALSE(read_pgsql_settings(file_of(kPgsql))->verifies);  // a socket
  CHECK_FALSE(read_pgsql_settings(file_of(kPgsql + "server = \"localhost\""))->verifies);
  CHECK(
      read_pgsql_settings(file_of(kPgsql + "server = \"localhost\"\ntls = \"verify\""))->verifies);
  CHECK_FALSE(
      read_pgsql_settings(file_of(kPgsql + "server = \"db.test\"\ntls = \"off\""))->verifies);
}

TEST_CASE("what is wrong in a PostgreSQL table's file", "[tables][pgsql]") {
  struct Case {
    std::string text, want;
  };
  const std::vector<Case> cases = {
      {"",
       "/t: dbname: is missing; expected one\n/t: query: is missing; expected one\n/t: user: is "
       "missing; expected one"},
      {kPgsql + "qeury = 1", "/t:4: qeury: unknown key; did you mean query?"},
      {kPgsql + "user = \"x\"", "/t:4: is not TOML (key-value pair: cannot redefine"},
      {kPgsql + "password = \"secret\"", "/t:4: password: unknown key; expected "},
      {kPgsql + "server = \"a b\"", "/t:4: server: \"a b\" is not a server; expected "},
      {kPgsql + "server = \"h:0\"", "/t:4: server: \"h:0\" is not a server; expected "},
      {kPgsql + "server = \"h,i\"", "/t:4: server: \"h,i\" is not a server; expected "},
      {kPgsql + "server = []", "/t:4: server: is empty; expected at least one server"},
      {kPgsql + "tls = \"maybe\"",
       "/t:4: tls: \"maybe\" is not allowed; expected \"verify\" or \"off\""},
      {kPgsql + "parameters = [\"%u\", \"%d\"]",
       "/t:3: query: uses $1, and there are 2 parameters; expected as many"},
      {kPgsql + "parameters = \"%x\"", "/t:4: parameters: has \"%x\" in it; expected "},
      {kPgsql + "time_limit = 5",
       "/t:4: time_limit: is not a duration with a unit; expected from 100ms to 1m"},
      {kPgsql + "connections = 0", "/t:4: connections: 0 is out of range; expected from 1 to 64"},
      {kPgsql + "password_file = \"x\"", "/t:4: password_file: is not an absolute path; expected "},
      {"dbname = \"m\"\nuser = \"u\"\nquery = \"SELECT a FROM t WHERE k = '%s'\"",
       "/t:3: query: has %s in it; expected $1, and parameters = [\"%s\"] to say what that is"},
      {"dbname = 1\nuser = true\nquery = \"SELECT 1\"",
       "/t:1: dbname: is of another kind; expected a text\n/t:2: user: is of another kind; "
       "expected a text\n/t:3: query: does not use the key; expected "},
  };
  for (const auto& c : cases) {
    INFO(c.text);
    CHECK(problem(read_pgsql_settings, c.text).substr(0, c.want.size()) == c.want);
  }
}

TEST_CASE("an LDAP table's file", "[tables][ldap]") {
  const auto read = [](const std::string& server, const std::string& more = {}) {
    const auto settings = read_ldap_settings(file_of(
        "server = \"" + server +
        "\"\nbase = \"ou=%d,dc=x\"\nfilter = \"(&(a=b)(mail=%s))\"\nattribute = \"uid\"\n" + more));
    return settings ? settings->servers.front().url +
                          (settings->servers.front().starts_tls ? " starts TLS" : "")
                    : settings.error().step();
  };
  CHECK(read("ldap://127.0.0.1:389") == "ldap://127.0.0.1:389");
  CHECK(read("ldap://localhost/") == "ldap://localhost");
  CHECK(read("ldap://[::1]:1", "tls = \"verify\"") == "ldap://[::1]:1 starts TLS");
  CHECK(read("ldap://ldap.test") == "ldap://ldap.test starts TLS");
  CHECK(read("ldap://ldap.test", "tls = \"off\"") == "ldap://ldap.test");
  CHECK(read("ldaps://ldap.test:637") == "ldaps://ldap.test:637");
  CHECK(read("ldapi:///run/slapd/ldapi") == "ldapi://%2Frun%2Fslapd%2Fldapi");
}

TEST_CASE("what is wrong in an LDAP table's file", "[tables][ldap]") {
  struct Case {
    std::string text, want;
  };
  const auto with_filter = [](const std::string& filter) {
    return "server = \"ldap://127.0.0.1\"\nbase = \"dc=x\"\nattribute = \"uid\"\nfilter = \"" +
           filter + "\"\n";
  };
  const std::vector<Case> cases = {
      {kLdap + "tls = \"off\"\nscope = \"all\"", "/t:6: scope: \"all\" is not allowed; expected "},
      {kLdap + "bind_dn = \"cn=x\"", "/t:5: bind_dn: stands alone; expected "},
      {kLdap + "password_file = \"/x\"", "/t:5: password_file: stands alone; expected "},
      {with_filter("mail=%s"), "/t:4: filter: \"mail=%s\" is not a filter for a key; expected "},
      {with_filter("(mail=%s"), "/t:4: filter: "},
      {with_filter("(a=%s)(b=%s)"), "/t:4: filter: "},
      {with_filter("(a=b)"), "/t:4: filter: "},
      {with_filter("(mail=%x)"), "/t:4: filter: has \"%x\" in it; expected "},
      {"server = \"http://x\"", "/t: attribute: is missing; expected one"},
      {"server = \"ldap://h?x\"\nbase = \"x\"\nfilter = \"(a=%s)\"\nattribute = \"u*\"",
       "/t:1: server: \"ldap://h?***\" is not a server; expected \"ldap://host\", \"ldaps://host\" "
       "or \"ldapi:///path\"\n/t:4: attribute: \"u*\" is not an attribute; expected "},
      {"server = \"ldaps://h\"\nbase = \"x\"\nfilter = \"(a=%s)\"\nattribute = \"u\"\ntls = "
       "\"off\"",
       "/t:5: tls: is off, and ldaps://h has TLS; expected \"ldap://\""},
  };
  for (const auto& c : cases) {
    INFO(c.text);
    CHECK(problem(read_ldap_settings, c.text).substr(0, c.want.size()) == c.want);
  }
}
