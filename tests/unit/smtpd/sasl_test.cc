#include "smtpd/auth/sasl.h"

#include "base/base64.h"
#include "base/digest.h"
#include "smtpd/auth/auth_exchange.h"
#include "smtpd/auth/user_key.h"

#include <catch2/catch.hpp>

using namespace postrider;
using namespace postrider::smtpd::auth;
using namespace std::string_literals;
using Kind = Move::Kind;

namespace {

Answer granted(std::string user) {
  Answer answer;
  answer.verdict = Answer::Verdict::granted;
  answer.user = std::move(user);
  return answer;
}

Answer verdict(Answer::Verdict of) {
  Answer answer;
  answer.verdict = of;
  return answer;
}

// The example of RFC 7677 §3.
const std::string kClientNonce = "rOprNGfwEbeRWgbNEkqO";
const std::string kServerNonce = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
const std::string kFirst = "n,,n=user,r=" + kClientNonce;
const std::string kServerFirst =
    "r=" + kClientNonce + kServerNonce + ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
const std::string kFinal =
    "c=biws,r=" + kClientNonce + kServerNonce + ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

Answer keys_of_pencil() {
  auto answer = verdict(Answer::Verdict::go_on);
  answer.keys.salt = *decode_base64("W22ZaJ0SNY7soEsUEjb6gQ==");
  answer.keys.iterations = 4096;
  const auto salted = pbkdf2_sha256("pencil", answer.keys.salt, 4096);
  answer.keys.stored_key = sha256(hmac_sha256(salted, "Client Key"));
  answer.keys.server_key = hmac_sha256(salted, "Server Key");
  return answer;
}

}  // namespace

TEST_CASE("PLAIN asks for the password of the user it names", "[smtpd][sasl]") {
  struct Case {
    std::string name, response;
    Kind want;
  };
  const Case cases[] = {
      {"without an authorization identity", "\0anna\0secret"s, Kind::ask},
      {"with its own", "anna\0anna\0secret"s, Kind::ask},
      {"with another's", "bert\0anna\0secret"s, Kind::refused},
      {"X12 a NUL in the authorization identity", "an\0na\0anna\0secret"s, Kind::malformed},
      {"X12 nothing", "", Kind::malformed},
      {"one NUL", "\0anna"s, Kind::malformed},
      {"no user", "\0\0secret"s, Kind::malformed},
      {"no password", "\0anna\0"s, Kind::malformed},
      {"a NUL in the password", "\0anna\0sec\0ret"s, Kind::malformed},
      {"a user of 256 octets", "\0"s + std::string(256, 'a') + "\0x"s, Kind::malformed},
      {"a password of 1,025 octets", "\0a\0"s + std::string(1025, 'x'), Kind::malformed},
      {"a password of 1,024 octets", "\0a\0"s + std::string(1024, 'x'), Kind::ask},
  };
  for (const auto& c : cases)
    DYNAMIC_SECTION(c.name) {
      const auto move = make_plain()->on_response(c.response);
      CHECK(move.kind == c.want);
      if (c.name == "with its own") {
        CHECK(move.question.user == "anna");
        CHECK(move.question.secret == "secret");
      }
    }
}

TEST_CASE("LOGIN asks for the name, then the password", "[smtpd][sasl]") {
  auto login = make_login();
  CHECK(login->start().bytes == "Username:");
  CHECK(login->on_response("anna").bytes == "Password:");
  const auto move = login->on_response("secret");
  CHECK(move.kind == Kind::ask);
  CHECK(move.question.user == "anna");
  CHECK(move.question.secret == "secret");
  CHECK(login->on_answer(granted("anna")).kind == Kind::granted);
  CHECK(make_login()->on_response("").kind == Kind::malformed);
}

TEST_CASE("SCRAM-SHA-256 holds the exchange of RFC 7677", "[smtpd][sasl]") {
  auto scram = make_scram_sha256(false, {}, kServerNonce);
  CHECK(scram->start().bytes.empty());
  auto move = scram->on_response(kFirst);
  REQUIRE(move.kind == Kind::ask);
  CHECK(move.question.user == "user");
  move = scram->on_answer(keys_of_pencil());
  CHECK(move.bytes == kServerFirst);
  move = scram->on_response(kFinal);
  REQUIRE(move.kind == Kind::ask);
  CHECK(move.question.kind == Question::Kind::proved);
  CHECK(move.question.holds);
  move = scram->on_answer(granted("user"));
  CHECK(move.bytes == "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
  move = scram->on_response("");
  CHECK(move.kind == Kind::granted);
  CHECK(move.user == "user");
}

namespace {

// The final message of somebody who knows the password and signs whatever is in it: only its
// content can be wrong (RFC 5802 §3).
std::string final_of_pencil(const std::string& first_bare, const std::string& server_first,
                            const std::string& without_proof) {
  const auto salted = pbkdf2_sha256("pencil", *decode_base64("W22ZaJ0SNY7soEsUEjb6gQ=="), 4096);
  const auto client_key = hmac_sha256(salted, "Client Key");
  const auto signature =
      hmac_sha256(sha256(client_key), first_bare + "," + server_first + "," + without_proof);
  std::string proof = client_key;
  for (std::size_t i = 0; i < proof.size(); ++i)
    proof[i] = static_cast<char>(proof[i] ^ signature[i]);
  return without_proof + ",p=" + encode_base64(proof);
}

const std::string kExporter = std::string(32, 'e');
const std::string kEndPoint = std::string(32, 'c');

Bindings both_bindings() {
  Bindings bindings;
  bindings.offered = true;
  bindings.tls_exporter = kExporter;
  bindings.server_end_point = kEndPoint;
  return bindings;
}

}  // namespace

TEST_CASE("SCRAM does not take the right proof of another channel or nonce", "[smtpd][sasl]") {
  const auto nonce = kClientNonce + kServerNonce;
  struct Case {
    std::string name;
    bool plus;
    std::string header, binding, nonce;  // what "c=" holds, and "r="
    bool want;
  };
  const std::string exporter = "p=tls-exporter,,", end_point = "p=tls-server-end-point,,";
  const Case cases[] = {
      {"as it should be", false, "n,,", "n,,", nonce, true},
      {"another flag", false, "n,,", "y,,", nonce, false},
      {"a binding that was not agreed", false, "n,,", exporter + kExporter, nonce, false},
      {"an authorization identity", false, "n,,", "n,a=other,", nonce, false},
      {"no binding at all", false, "n,,", "", nonce, false},
      {"a longer nonce", false, "n,,", "n,,", nonce + "x", false},
      {"only the client's nonce", false, "n,,", "n,,", kClientNonce, false},
      {"only the server's nonce", false, "n,,", "n,,", kServerNonce, false},
      {"another server nonce", false, "n,,", "n,,", kClientNonce + "other", false},
      {"an empty nonce", false, "n,,", "n,,", "", false},
      {"bound as it should be", true, exporter, exporter + kExporter, nonce, true},
      {"bound to the certificate", true, end_point, end_point + kEndPoint, nonce, true},
      {"bound to another channel", true, exporter, exporter + std::string(32, 'x'), nonce, false},
      {"bound to nothing", true, exporter, exporter, nonce, false},
      {"half a binding", true, exporter, exporter + kExporter.substr(16), nonce, false},
      {"more than the binding", true, exporter, exporter + kExporter + "x", nonce, false},
      {"the other kind's data", true, exporter, exporter + kEndPoint, nonce, false},
      {"the other kind", true, exporter, end_point + kEndPoint, nonce, false},
      {"another certificate", true, end_point, end_point + std::string(32, 'x'), nonce, false},
      {"without its binding", true, exporter, "n,,", nonce, false},
      {"bound, with a longer nonce", true, exporter, exporter + kExporter, nonce + "x", false},
      {"bound, with the client's nonce", true, exporter, exporter + kExporter, kClientNonce, false},
  };
  for (const auto& c : cases)
    DYNAMIC_SECTION(c.name << (c.plus ? ", -PLUS" : "")) {
      auto bindings = both_bindings();
      bindings.offered = c.plus;
      auto scram = make_scram_sha256(c.plus, bindings, kServerNonce);
      const auto first_bare = "n=user,r=" + kClientNonce;
      REQUIRE(scram->on_response(c.header + first_bare).kind == Kind::ask);
      REQUIRE(scram->on_answer(keys_of_pencil()).bytes == kServerFirst);
      const auto move = scram->on_response(final_of_pencil(
          first_bare, kServerFirst, "c=" + encode_base64(c.binding) + ",r=" + c.nonce));
      REQUIRE(move.kind == Kind::ask);
      CHECK(move.question.kind == Question::Kind::proved);
      CHECK(move.question.holds == c.want);
    }
}

TEST_CASE("SCRAM's proof is of this user's password, salt and iterations", "[smtpd][sasl]") {
  const auto nonce = kClientNonce + kServerNonce;
  const auto first_bare = "n=user,r=" + kClientNonce;
  const auto without_proof = "c=biws,r=" + nonce;
  const auto holds = [&](const std::string& final, const Answer& keys) {
    auto scram = make_scram_sha256(false, {}, kServerNonce);
    (void)scram->on_response("n,," + first_bare);
    (void)scram->on_answer(keys);
    return scram->on_response(final).question.holds;
  };
  CHECK(holds(final_of_pencil(first_bare, kServerFirst, without_proof), keys_of_pencil()));
  // A proof for another name, another challenge, with an extension that was not signed.
  CHECK_FALSE(holds(final_of_pencil("n=other,r=" + kClientNonce, kServerFirst, without_proof),
                    keys_of_pencil()));
  CHECK_FALSE(holds(final_of_pencil(first_bare, "r=" + nonce + ",s=AAAA,i=1", without_proof),
                    keys_of_pencil()));
  auto extended = final_of_pencil(first_bare, kServerFirst, without_proof);
  extended.insert(extended.find(",p="), ",x=y");
  CHECK_FALSE(holds(extended, keys_of_pencil()));
  CHECK(holds(final_of_pencil(first_bare, kServerFirst, without_proof + ",x=y"), keys_of_pencil()));
  auto other = keys_of_pencil();
  other.keys.stored_key = sha256("another");
  CHECK_FALSE(holds(final_of_pencil(first_bare, kServerFirst, without_proof), other));
}

TEST_CASE("SCRAM does not take a proof of anything else", "[smtpd][sasl]") {
  struct Case {
    std::string name, final;
    Kind want;
  };
  const auto nonce = kClientNonce + kServerNonce;
  const std::string proof = ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
  const Case cases[] = {
      {"another proof",
       "c=biws,r=" + nonce + ",p=eHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", Kind::ask},
      {"a short proof", "c=biws,r=" + nonce + ",p=dHzb", Kind::malformed},
      {"no proof", "c=biws,r=" + nonce, Kind::malformed},
      {"no nonce", "c=biws" + proof, Kind::malformed},
      {"nothing", "", Kind::malformed},
  };
  for (const auto& c : cases)
    DYNAMIC_SECTION(c.name) {
      auto scram = make_scram_sha256(false, {}, kServerNonce);
      (void)scram->on_response(kFirst);
      (void)scram->on_answer(keys_of_pencil());
      const auto move = scram->on_response(c.final);
      CHECK(move.kind == c.want);
      CHECK_FALSE(move.question.holds);
      CHECK(scram->on_answer(verdict(Answer::Verdict::refused)).kind == Kind::refused);
    }
}

TEST_CASE("SCRAM reads the client's first message strictly", "[smtpd][sasl]") {
  struct Case {
    std::string name, first;
    bool plus, offered;
    Kind want;
  };
  const Case cases[] = {
      {"no channel binding", "n,,n=u,r=abc", false, true, Kind::ask},
      {"the client saw no -PLUS, and there was none", "y,,n=u,r=abc", false, false, Kind::ask},
      {"the client saw no -PLUS, and there was one", "y,,n=u,r=abc", false, true, Kind::malformed},
      {"bound to the exporter", "p=tls-exporter,,n=u,r=abc", true, true, Kind::ask},
      {"bound to the certificate", "p=tls-server-end-point,,n=u,r=abc", true, true, Kind::ask},
      {"bound to what we do not offer", "p=tls-unique,,n=u,r=abc", true, true, Kind::malformed},
      {"-PLUS without a binding", "n,,n=u,r=abc", true, true, Kind::malformed},
      {"a binding without -PLUS", "p=tls-exporter,,n=u,r=abc", false, true, Kind::malformed},
      {"acting as oneself", "n,a=u,n=u,r=abc", false, false, Kind::ask},
      {"acting for another", "n,a=v,n=u,r=abc", false, false, Kind::refused},
      {"a comma in the name", "n,,n=a=2Cb,r=abc", false, false, Kind::ask},
      {"a lone equals sign", "n,,n=a=b,r=abc", false, false, Kind::malformed},
      {"a mandatory extension", "n,,m=x,n=u,r=abc", false, false, Kind::malformed},
      {"no name", "n,,n=,r=abc", false, false, Kind::malformed},
      {"no nonce", "n,,n=u,r=", false, false, Kind::malformed},
      {"a nonce with a space", "n,,n=u,r=a b", false, false, Kind::malformed},
      {"nothing", "", false, false, Kind::malformed},
      {"too much", "n,,n=u,r=" + std::string(5000, 'a'), false, false, Kind::malformed},
  };
  for (const auto& c : cases)
    DYNAMIC_SECTION(c.name) {
      Bindings bindings;
      bindings.offered = c.offered;
      bindings.tls_exporter = std::string(32, 'e');
      bindings.server_end_point = std::string(32, 'c');
      CHECK(make_scram_sha256(c.plus, bindings, "N")->on_response(c.first).kind == c.want);
    }
}

TEST_CASE("OAUTHBEARER and XOAUTH2 show a token", "[smtpd][sasl]") {
  struct Case {
    std::string name;
    bool bearer;
    std::string response;
    Kind want;
    std::string user;
  };
  const Case cases[] = {
      {"RFC 7628's example", true,
       "n,a=user@example.com,\x01host=server\x01port=587\x01"
       "auth=Bearer vF9dft4qmTc2Nvb3==\x01\x01",
       Kind::ask, "user@example.com"},
      {"without a name", true,
       "n,,\x01"
       "auth=Bearer abc\x01\x01",
       Kind::ask, ""},
      {"without a token", true, "n,,\x01host=server\x01\x01", Kind::malformed, ""},
      {"another scheme", true,
       "n,,\x01"
       "auth=Basic abc\x01\x01",
       Kind::malformed, ""},
      {"two tokens", true,
       "n,,\x01"
       "auth=Bearer abc\x01"
       "auth=Bearer def\x01\x01",
       Kind::malformed, ""},
      {"a token with a space", true,
       "n,,\x01"
       "auth=Bearer a c\x01\x01",
       Kind::malformed, ""},
      {"no end", true,
       "n,,\x01"
       "auth=Bearer abc",
       Kind::malformed, ""},
      {"a channel binding", true,
       "p=tls-exporter,,\x01"
       "auth=Bearer abc\x01\x01",
       Kind::malformed, ""},
      {"nothing", true, "", Kind::malformed, ""},
      {"too long a token", true,
       "n,,\x01"
       "auth=Bearer " +
           std::string(8193, 'a') + "\x01\x01",
       Kind::malformed, ""},
      {"XOAUTH2", false,
       "user=anna@example.org\x01"
       "auth=Bearer ya29.vF9\x01\x01",
       Kind::ask, "anna@example.org"},
      {"XOAUTH2 without a name", false,
       "user=\x01"
       "auth=Bearer abc\x01\x01",
       Kind::malformed, ""},
      {"XOAUTH2 without a token", false, "user=anna\x01\x01", Kind::malformed, ""},
  };
  for (const auto& c : cases)
    DYNAMIC_SECTION(c.name) {
      auto mechanism = c.bearer ? make_oauthbearer() : make_xoauth2();
      const auto move = mechanism->on_response(c.response);
      CHECK(move.kind == c.want);
      CHECK(move.question.user == c.user);
      if (c.want != Kind::ask)
        continue;
      const auto challenge = mechanism->on_answer(verdict(Answer::Verdict::refused));
      CHECK(challenge.kind == Kind::challenge);
      CHECK(challenge.bytes.front() == '{');
      CHECK(mechanism->on_response("\x01").kind == Kind::refused);
    }
}

TEST_CASE("what is relayed names its user", "[smtpd][sasl]") {
  struct Case {
    std::string mechanism, response;
    std::optional<std::string> want;
  };
  const Case cases[] = {
      {"SCRAM-SHA-256", "n,,n=anna@us.test,r=abc", "anna@us.test"},
      {"SCRAM-SHA-256", "y,a=x,n=an=2Cna,r=abc", "an,na"},
      {"SCRAM-SHA-256", "p=tls-exporter,,n=anna,r=abc", "anna"},
      {"SCRAM-SHA-256", "n,,m=x,n=anna,r=abc", std::nullopt},
      {"SCRAM-SHA-256", "n,,n=,r=abc", std::nullopt},
      {"SCRAM-SHA-256", "n,,n=an=na,r=abc", std::nullopt},
      {"SCRAM-SHA-256", "n,n=anna,r=abc", std::nullopt},
      {"SCRAM-SHA-256", "", std::nullopt},
      {"SCRAM-SHA-256", "n,,n=a,r=" + std::string(5000, 'a'), std::nullopt},
      {"OAUTHBEARER",
       "n,a=anna,\x01"
       "auth=Bearer x\x01\x01",
       "anna"},
      {"OAUTHBEARER",
       "n,,\x01"
       "auth=Bearer x\x01\x01",
       ""},
      {"OAUTHBEARER", "n,,", std::nullopt},
      {"XOAUTH2",
       "user=anna\x01"
       "auth=Bearer x\x01\x01",
       "anna"},
      {"XOAUTH2",
       "user=\x01"
       "auth=Bearer x\x01\x01",
       std::nullopt},
  };
  for (const auto& c : cases)
    DYNAMIC_SECTION(c.mechanism << " " << c.response.substr(0, 40)) {
      auto mechanism = make_relayed(c.mechanism);
      const auto start = mechanism->start();  // the client speaks first in all of them
      CHECK(start.kind == Kind::challenge);
      CHECK(start.bytes.empty());
      const auto move = mechanism->on_response(c.response);
      REQUIRE(move.kind == (c.want ? Kind::ask : Kind::malformed));
      if (!c.want)
        continue;
      CHECK(move.question.kind == Question::Kind::relayed);
      CHECK(move.question.user == *c.want);
      CHECK(move.question.secret == c.response);
      const auto next = mechanism->on_response("what follows");  // is not read
      CHECK(next.question.user == *c.want);
      CHECK(next.question.secret == "what follows");
    }
}

TEST_CASE("EXTERNAL asks whose certificate it is", "[smtpd][sasl]") {
  const auto move = make_external()->on_response("");
  CHECK(move.kind == Kind::ask);
  CHECK(move.question.kind == Question::Kind::certificate);
  CHECK(make_external()->on_response("anna").question.user == "anna");
  CHECK(make_external()->on_response("an\0na"s).kind == Kind::malformed);
}

TEST_CASE("X12 the AUTH dialogue is that of RFC 4954", "[smtpd][sasl]") {
  const auto begin = [](std::optional<std::string_view> initial) {
    return AuthExchange(make_plain()).begin(initial);
  };
  CHECK(begin(std::nullopt).reply == "334 \r\n");
  CHECK(begin("AGFubmEAc2VjcmV0").kind == AuthExchange::Kind::ask);
  CHECK(begin("=").reply.substr(0, 9) == "501 5.5.2");
  for (const char* bad : {"AGF", "AGF!", " AGFu", "AGFu\t", "===="})
    CHECK(begin(bad).reply == "501 5.5.2 Not base64\r\n");
  AuthExchange dialogue(make_plain());
  (void)dialogue.begin(std::nullopt);
  const auto step = dialogue.on_line("*");
  CHECK(step.kind == AuthExchange::Kind::over);
  CHECK(step.reply.substr(0, 9) == "501 5.7.0");
}

TEST_CASE("an answer ends the dialogue with the code that fits", "[smtpd][sasl]") {
  struct Case {
    Answer answer;
    AuthExchange::Kind want;
    std::string code;
  };
  const Case cases[] = {
      {granted("anna"), AuthExchange::Kind::passed, "235 2.7.0"},
      {verdict(Answer::Verdict::refused), AuthExchange::Kind::failed, "535 5.7.8"},
      {verdict(Answer::Verdict::limited), AuthExchange::Kind::over, "454 4.7.0"},
      {verdict(Answer::Verdict::unavailable), AuthExchange::Kind::over, "454 4.7.0"},
  };
  for (const auto& c : cases) {
    AuthExchange dialogue(make_plain());
    (void)dialogue.begin("AGFubmEAc2VjcmV0");
    const auto step = dialogue.on_answer(c.answer);
    CHECK(step.kind == c.want);
    CHECK(step.reply.substr(0, 9) == c.code);
  }
}

TEST_CASE("a user has one key, however the name is written", "[smtpd][sasl]") {
  CHECK(user_key("Anna@Example.ORG") == "anna@example.org");
  CHECK_FALSE(user_key("an:na"));
  CHECK_FALSE(user_key("an na"));
  CHECK_FALSE(user_key(std::string(256, 'a')));
}
