#include "delivery/auth/sasl_client.h"

#include "base/text.h"

#include <catch2/catch.hpp>

using namespace postrider;
using namespace postrider::delivery;

namespace {

Credentials password() {
  Credentials made;
  made.user = "user";
  made.secret = "pencil";
  return made;
}

SaslContext context() {
  SaslContext made;
  made.is_private = true;
  made.nonce = "rOprNGfwEbeRWgbNEkqO";
  made.host = "relay.test";
  made.port = "587";
  return made;
}

constexpr const char* kFirst =
    "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

}  // namespace

TEST_CASE("SCRAM-SHA-256 gives the exchange of RFC 7677", "[delivery][sasl]") {
  const auto sasl = make_sasl_client("SCRAM-SHA-256", password(), context());
  CHECK(sasl->initial() == "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
  const auto proof = sasl->step(kFirst);
  REQUIRE(proof.has_value());
  CHECK(*proof ==
        "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
        "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
  CHECK_FALSE(sasl->may_succeed());
  CHECK(sasl->step("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").has_value());
  CHECK(sasl->may_succeed());
}

TEST_CASE("a server that breaks the rules of SCRAM learns nothing", "[delivery][sasl]") {
  for (const char* challenge :
       {"", "r=other,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        "r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        "r=rOprNGfwEbeRWgbNEkqOx,s=!,i=4096", "r=rOprNGfwEbeRWgbNEkqOx,s=,i=4096",
        "r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=1",
        "r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=99999999",
        "m=x,r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"}) {
    INFO(challenge);
    const auto sasl = make_sasl_client("SCRAM-SHA-256", password(), context());
    (void)sasl->initial();
    CHECK_FALSE(sasl->step(challenge).has_value());
    CHECK_FALSE(sasl->may_succeed());
  }
  const auto sasl = make_sasl_client("SCRAM-SHA-256", password(), context());
  REQUIRE(sasl->step(kFirst).has_value());
  CHECK_FALSE(sasl->step("v=AAAA").has_value());
  CHECK_FALSE(sasl->may_succeed());
}

TEST_CASE("SCRAM says whether it binds the channel", "[delivery][sasl]") {
  auto bound = context();
  bound.channel_binding = std::string(32, 'x');
  CHECK(make_sasl_client("SCRAM-SHA-256-PLUS", password(), bound)->initial()->substr(0, 16) ==
        "p=tls-exporter,,");
  CHECK(make_sasl_client("SCRAM-SHA-256", password(), bound)->initial()->substr(0, 3) == "y,,");
}

TEST_CASE("the simple mechanisms say what their documents say", "[delivery][sasl]") {
  const auto plain = make_sasl_client("PLAIN", password(), context());
  CHECK(plain->initial() == std::string("\0user\0pencil", 12));
  const auto login = make_sasl_client("LOGIN", password(), context());
  CHECK_FALSE(login->initial());
  CHECK(*login->step("Username:") == "user");
  CHECK(*login->step("Password:") == "pencil");
  CHECK_FALSE(login->step("again").has_value());
  Credentials tim;  // RFC 2195
  tim.user = "tim";
  tim.secret = "tanstaaftanstaaf";
  CHECK(*make_sasl_client("CRAM-MD5", tim, context())
             ->step("<1896.697170952@postoffice.reston.mci.net>") ==
        "tim b913a602c7eda7a495b4e6e7334d3890");
  Credentials token;
  token.user = "a,b=c@example.org";
  token.secret = "abc";
  token.is_token = true;
  const auto bearer = make_sasl_client("OAUTHBEARER", token, context());
  CHECK(bearer->initial() ==
        "n,a=a=2Cb=3Dc@example.org,\1host=relay.test\1port=587\1auth=Bearer abc\1\1");
  CHECK(*bearer->step("{\"status\":\"invalid_token\"}") == "\1");
  CHECK_FALSE(bearer->may_succeed());
  const auto x = make_sasl_client("XOAUTH2", token, context());
  CHECK(x->initial() == "user=a,b=c@example.org\1auth=Bearer abc\1\1");
  CHECK(x->step("{}")->empty());
  CHECK_FALSE(x->may_succeed());
}

TEST_CASE("the strongest mechanism comes first, and no secret goes out in clear",
          "[delivery][sasl]") {
  using Names = std::vector<std::string>;
  auto clear = context();
  clear.is_private = false;
  CHECK(mechanisms_for(password(), context()) ==
        Names{"SCRAM-SHA-256", "CRAM-MD5", "PLAIN", "LOGIN"});
  CHECK(mechanisms_for(password(), clear).empty());
  auto brave = password();
  brave.allow_clear = true;
  CHECK(mechanisms_for(brave, clear).size() == 4);
  brave.mechanisms = {"LOGIN"};
  CHECK(mechanisms_for(brave, clear) == Names{"LOGIN"});
  auto token = password();
  token.is_token = true;
  CHECK(mechanisms_for(token, context()) == Names{"OAUTHBEARER", "XOAUTH2"});
  CHECK(mechanisms_for(token, clear).empty());
  auto bound = context();
  bound.channel_binding = "x";
  CHECK(mechanisms_for(password(), bound).front() == "SCRAM-SHA-256-PLUS");
}

TEST_CASE("PLAIN and SCRAM send what SASLprep makes of name and password", "[delivery][sasl]") {
  auto typed = password();
  typed.user =
      "us\xC2\xAD"
      "er";                             // a soft hyphen goes
  typed.secret = "pencil\xE2\x85\xA8";  // compatibility forms become one
  CHECK(make_sasl_client("PLAIN", typed, context())->initial() ==
        std::string("\0user\0pencilIX", 14));
  CHECK(make_sasl_client("SCRAM-SHA-256", typed, context())->initial() ==
        "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
  const auto login = make_sasl_client("LOGIN", typed, context());
  CHECK(*login->step("") == typed.user);
  CHECK(*login->step("") == typed.secret);
  typed.secret = "a\xD8\xA7";  // both directions: prohibited
  CHECK_FALSE(can_be_prepared(typed));
  CHECK(mechanisms_for(typed, context()) == std::vector<std::string>{"CRAM-MD5", "LOGIN"});
}

TEST_CASE("what a server says of a refused token is kept, harmless", "[delivery][sasl]") {
  Credentials token;
  token.user = "u";
  token.secret = "t";
  token.is_token = true;
  for (const char* mechanism : {"OAUTHBEARER", "XOAUTH2"}) {
    const auto sasl = make_sasl_client(mechanism, token, context());
    CHECK(sasl->refusal().empty());
    CHECK(sasl->step("{\"status\":\"401\"}\r\n").has_value());
    CHECK(sasl->refusal() == escaped("{\"status\":\"401\"}\r\n"));
    CHECK(sasl->refusal().find('\n') == std::string::npos);
  }
}
