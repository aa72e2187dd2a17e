#include "base/base64.h"
#include "delivery/job/job_outcome.h"
#include "delivery/smtp/client.h"

#include <boost/asio/error.hpp>
#include <catch2/catch.hpp>

using namespace postrider;
using namespace postrider::delivery;
using mail::Stage;

namespace {

constexpr const char* kOffer =
    "250-mx.test\r\n250-PIPELINING\r\n250-AUTH PLAIN\r\n250 STARTTLS\r\n";
constexpr const char* kInside =
    "250-mx.test hi\r\n250-CHUNKING\r\n250 AUTH LOGIN SCRAM-SHA-256\r\n";

struct Talk {
  explicit Talk(Security security)
      : client("us.test", "mx.test[192.0.2.1]:25", Dialect::smtp, std::move(security)) {}
  std::string sent() {
    std::string out;
    for (const auto& piece : client.take_output())
      out += piece.text;
    return out;
  }
  std::string reply(const std::string& bytes) {
    const auto fed = client.feed(bytes);
    if (!fed)
      client.lost(fed.error());
    return sent();
  }
  void shake(TlsProof proof = TlsProof::nothing) {
    REQUIRE(client.wants_handshake());
    TlsAttempt attempt;
    attempt.step = TlsAttempt::Step::done;
    attempt.protocol = "TLSv1.3";
    attempt.cipher = "TLS_AES_256_GCM_SHA384";
    attempt.proof = proof;
    client.on_handshake(attempt);
  }
  Client client;
};

Security with(TlsMode mode) {
  Security security;
  security.tls.mode = mode;
  security.tls.names = {"mx.test"};
  return security;
}

Security with_password(TlsMode mode = TlsMode::opportunistic) {
  auto security = with(mode);
  auto credentials = std::make_shared<Credentials>();
  credentials->user = "user";
  credentials->secret = "pencil";
  security.credentials = credentials;
  security.sasl.nonce = "rOprNGfwEbeRWgbNEkqO";
  return security;
}

}  // namespace

TEST_CASE("T10: only what the host says under TLS counts", "[delivery][tls][attacks]") {
  Talk talk(with(TlsMode::opportunistic));
  CHECK(talk.reply("220 hi\r\n") == "EHLO us.test\r\n");
  CHECK(talk.reply(kOffer) == "STARTTLS\r\n");
  CHECK(talk.client.stage() == Stage::starttls);
  CHECK(talk.reply("220 go\r\n").empty());
  talk.shake();
  CHECK(talk.sent() == "EHLO us.test\r\n");
  CHECK_FALSE(talk.client.capabilities().pipelining);
  CHECK(talk.reply(kInside).empty());
  CHECK(talk.client.is_ready());
  CHECK(talk.client.capabilities().chunking);
  CHECK_FALSE(talk.client.capabilities().starttls);
  CHECK(talk.client.helo() == "mx.test");
}

TEST_CASE("T08: bytes behind the reply to STARTTLS end the conversation",
          "[delivery][tls][attacks]") {
  for (const auto mode : {TlsMode::opportunistic, TlsMode::require}) {
    Talk talk(with(mode));
    talk.reply("220 hi\r\n");
    talk.reply(kOffer);
    CHECK(talk.reply("220 go\r\n250-x\r\n250 AUTH PLAIN\r\n").empty());
    CHECK_FALSE(talk.client.wants_handshake());
    CHECK(talk.client.is_closing());
    CHECK_FALSE(talk.client.may_quit());
    CHECK(talk.client.tls_verdict().next == TlsNext::next_host);
    CHECK(talk.client.failure().verdict == mail::Verdict::retry);
    CHECK(talk.client.failure().stage == Stage::starttls);
  }
  Talk talk(with(TlsMode::opportunistic));
  talk.reply("220 hi\r\n");
  talk.reply(kOffer);
  talk.reply("220 go\r\n");
  talk.reply("250 injected a little later\r\n");
  CHECK(talk.client.is_closing());
}

TEST_CASE("T09: a host without STARTTLS gets mail in clear only if that is enough",
          "[delivery][tls][attacks]") {
  struct Case {
    const char* name;
    TlsMode mode;
    const char* answer;  // to STARTTLS; null: not offered
    bool ready;
  };
  const std::vector<Case> cases = {
      {"not offered, wished", TlsMode::opportunistic, nullptr, true},
      {"not offered, required", TlsMode::require, nullptr, false},
      {"not offered, verified", TlsMode::verify, nullptr, false},
      {"not offered, DANE", TlsMode::dane, nullptr, false},
      {"454, wished", TlsMode::opportunistic, "454 4.7.0 not now\r\n", true},
      {"454, required", TlsMode::require, "454 4.7.0 not now\r\n", false},
      {"501, DANE", TlsMode::dane, "501 what\r\n", false},
      {"421, wished", TlsMode::opportunistic, "421 bye\r\n", false},
      {"garbage, wished", TlsMode::opportunistic, "hello\r\n", false},
  };
  for (const auto& c : cases) {
    INFO(c.name);
    Talk talk(with(c.mode));
    talk.reply("220 hi\r\n");
    talk.reply(c.answer == nullptr ? "250 mx.test\r\n" : kOffer);
    if (c.answer != nullptr)
      talk.reply(c.answer);
    CHECK(talk.client.is_ready() == c.ready);
    CHECK(talk.client.is_closing() == !c.ready);
    if (c.ready)
      continue;
    CHECK(talk.client.failure().verdict == mail::Verdict::retry);
    CHECK(talk.client.failure().stage == Stage::starttls);
  }
}

TEST_CASE("a broken handshake is tried again in clear only where TLS was a wish",
          "[delivery][tls][attacks]") {
  TlsAttempt broken;
  broken.step = TlsAttempt::Step::broken;
  broken.why = "no shared cipher";
  for (const auto mode : {TlsMode::opportunistic, TlsMode::require, TlsMode::dane}) {
    Talk talk(with(mode));
    talk.reply("220 hi\r\n");
    talk.reply(kOffer);
    talk.reply("220 go\r\n");
    talk.client.on_handshake(broken);
    CHECK(talk.client.is_closing());
    CHECK_FALSE(talk.client.may_quit());
    CHECK((talk.client.tls_verdict().next == TlsNext::clear_again) ==
          (mode == TlsMode::opportunistic));
  }
  auto again = with(TlsMode::opportunistic);
  again.broken = broken;
  Talk talk(again);
  talk.reply("220 hi\r\n");
  CHECK(talk.reply(kOffer).empty());
  CHECK(talk.client.is_ready());
}

TEST_CASE("TLS that breaks anywhere is tried again in clear only where it was a wish",
          "[delivery][tls][attacks]") {
  const auto eof = Error(boost::asio::error::eof, "read");
  for (const auto mode :
       {TlsMode::opportunistic, TlsMode::require, TlsMode::verify, TlsMode::dane}) {
    const bool is_wish = mode == TlsMode::opportunistic;
    for (const char* answer : {"", "421 4.3.2 closing\r\n", "what?\r\n"}) {
      Talk talk(with(mode));
      talk.reply("220 hi\r\n");
      talk.reply(kOffer);
      CHECK(talk.client.is_tls_unsure() == is_wish);
      talk.reply(answer);
      if (!*answer)
        talk.client.lost(eof);
      CHECK(talk.client.is_closing());
      REQUIRE(talk.client.is_tls_settled());
      CHECK(talk.client.tls_verdict().next ==
            (is_wish ? TlsNext::clear_again : TlsNext::next_host));
      CHECK((talk.client.failure().text.find("TLS is required") == 0) == !is_wish);
    }
    const auto proof = mode == TlsMode::dane ? TlsProof::dane : TlsProof::name;
    for (const char* answer : {"", kInside}) {
      Talk talk(with(mode));
      talk.reply("220 hi\r\n");
      talk.reply(kOffer);
      talk.reply("220 go\r\n");
      talk.shake(proof);
      CHECK(talk.client.is_tls_unsure() == is_wish);
      talk.reply(answer);
      talk.client.lost(eof);
      CHECK(talk.client.is_cut_off() == is_wish);
    }
    Talk talk(with(mode));
    talk.reply("220 hi\r\n");
    talk.reply(kOffer);
    talk.reply("220 go\r\n");
    talk.shake(proof);
    talk.reply("421 4.7.0 not you\r\n");  // a word under TLS: TLS works
    CHECK_FALSE(talk.client.is_cut_off());
  }
}

TEST_CASE("no memory for a handshake is our own fault, and nothing goes in clear for it",
          "[delivery][tls]") {
  Talk talk(with(TlsMode::opportunistic));
  talk.reply("220 hi\r\n");
  talk.reply(kOffer);
  talk.reply("220 go\r\n");
  REQUIRE(talk.client.wants_handshake());
  talk.client.lost(Error(make_error_code(boost::system::errc::not_enough_memory), "TLS handshake"));
  CHECK(talk.client.is_closing());
  CHECK_FALSE(talk.client.is_tls_settled());
  CHECK_FALSE(talk.client.is_cut_off());
  CHECK(is_our_fault(talk.client.failure()));
  CHECK(talk.client.failure().text ==
        "there is no memory now for the connection with mx.test[192.0.2.1]:25 while starting TLS");
}

TEST_CASE("T08: an attack is not called a lack of what was not asked for", "[delivery][tls]") {
  Talk talk(with(TlsMode::opportunistic));
  talk.reply("220 hi\r\n");
  talk.reply(kOffer);
  talk.reply("220 go\r\n250 injected\r\n");
  CHECK(talk.client.tls_verdict().next == TlsNext::next_host);
  CHECK(talk.client.failure().text.starts_with("something was sent in clear"));
}

TEST_CASE("an untrusted certificate ends the conversation before any mail", "[delivery][tls]") {
  Talk talk(with(TlsMode::verify));
  talk.reply("220 hi\r\n");
  talk.reply(kOffer);
  talk.reply("220 go\r\n");
  talk.shake(TlsProof::wrong_name);
  CHECK(talk.client.is_closing());
  CHECK(talk.client.failure().text.find("does not name mx.test") != std::string::npos);
  REQUIRE(talk.client.failure().tls);
}

TEST_CASE("implicit TLS shakes hands before the greeting", "[delivery][tls]") {
  auto security = with(TlsMode::require);
  security.tls.implicit = true;
  Talk talk(security);
  CHECK(talk.client.wants_handshake());
  talk.shake();
  CHECK(talk.sent().empty());
  CHECK(talk.reply("220 hi\r\n") == "EHLO us.test\r\n");
  talk.reply(kOffer);
  CHECK(talk.client.is_ready());
}

TEST_CASE("a smarthost is logged into under TLS, by the strongest mechanism", "[delivery][sasl]") {
  Talk talk(with_password(TlsMode::verify));
  talk.reply("220 hi\r\n");
  CHECK(talk.reply(kOffer) == "STARTTLS\r\n");
  talk.reply("220 go\r\n");
  talk.shake(TlsProof::name);
  talk.sent();
  CHECK(talk.reply(kInside) ==
        "AUTH SCRAM-SHA-256 " + encode_base64("n,,n=user,r=rOprNGfwEbeRWgbNEkqO") + "\r\n");
  talk.reply("334 " +
             encode_base64("r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s="
                           "W22ZaJ0SNY7soEsUEjb6gQ==,i=4096") +
             "\r\n");
  REQUIRE(talk.client.wants_sasl_step());
  talk.client.answer(talk.client.sasl()->step(talk.client.challenge()));
  CHECK(talk.sent().substr(0, 12) == encode_base64("c=biws,r="));
  SECTION("235 without the server's proof is worth nothing") {
    talk.reply("235 welcome\r\n");
    CHECK(talk.client.is_closing());
    CHECK_FALSE(talk.client.is_auth_refused());
  }
  SECTION("235 behind the proof") {
    talk.reply("334 " + encode_base64("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=") + "\r\n");
    talk.client.answer(talk.client.sasl()->step(talk.client.challenge()));
    CHECK(talk.sent() == "\r\n");
    talk.reply("235 welcome\r\n");
    CHECK(talk.client.is_ready());
  }
  SECTION("535") {
    talk.reply("535 5.7.8 no\r\n");
    CHECK(talk.client.is_auth_refused());
    CHECK(talk.client.failure().verdict == mail::Verdict::retry);
    CHECK(talk.client.failure().stage == Stage::auth);
  }
}

TEST_CASE("no password leaves in clear, and no mail without logging in", "[delivery][sasl]") {
  Talk talk(with_password());
  talk.reply("220 hi\r\n");
  talk.reply("250-mx.test\r\n250 AUTH PLAIN LOGIN\r\n");
  CHECK(talk.client.is_closing());
  CHECK(talk.client.failure().text.find("without TLS; the host offers: PLAIN LOGIN") !=
        std::string::npos);
}

TEST_CASE("a mechanism that the host refuses gives way to the next one", "[delivery][sasl]") {
  Talk talk(with_password(TlsMode::verify));
  talk.reply("220 hi\r\n");
  talk.reply(kOffer);
  talk.reply("220 go\r\n");
  talk.shake(TlsProof::name);
  talk.sent();
  talk.reply("250-mx.test\r\n250 AUTH SCRAM-SHA-256 PLAIN LOGIN\r\n");
  CHECK(talk.reply("504 5.5.4 not really\r\n").substr(0, 11) == "AUTH PLAIN ");
  CHECK(talk.reply("534 5.7.9 too weak\r\n") == "AUTH LOGIN\r\n");
  talk.reply("334 VXNlcm5hbWU6\r\n");
  talk.client.answer(talk.client.sasl()->step(talk.client.challenge()));
  CHECK(talk.sent() == encode_base64("user") + "\r\n");
  talk.reply("334 Password:\r\n");  // not base64
  talk.client.answer(talk.client.sasl()->step(talk.client.challenge()));
  CHECK(talk.sent() == encode_base64("pencil") + "\r\n");
  talk.reply("235 ok\r\n");
  CHECK(talk.client.is_ready());
}

TEST_CASE("odd servers are logged into all the same", "[delivery][sasl]") {
  Talk talk(with_password(TlsMode::verify));
  talk.reply("220 hi\r\n");
  talk.reply(kOffer);
  talk.reply("220 go\r\n");
  talk.shake(TlsProof::name);
  talk.sent();
  const auto secret = encode_base64(std::string("\0user\0pencil", 12));
  CHECK(talk.reply("250-mx.test\r\n250 AUTH=PLAIN\r\n") == "AUTH PLAIN " + secret + "\r\n");
  // What came with AUTH is not looked at.
  talk.reply("334 \r\n");
  REQUIRE(talk.client.wants_sasl_step());
  talk.client.answer(talk.client.sasl()->step(talk.client.challenge()));
  CHECK(talk.sent() == secret + "\r\n");
  SECTION("235") {
    talk.reply("235 ok\r\n");
    CHECK(talk.client.is_ready());
  }
  SECTION("and once more is once too often") {
    talk.reply("334 \r\n");
    talk.client.answer(talk.client.sasl()->step(talk.client.challenge()));
    CHECK(talk.sent() == "*\r\n");
  }
}

TEST_CASE("a long token waits for the challenge that asks for it", "[delivery][sasl]") {
  auto security = with_password(TlsMode::verify);
  auto token = std::make_shared<Credentials>(*security.credentials);
  token->is_token = true;
  token->secret = std::string(2000, 't');
  security.credentials = token;
  Talk talk(security);
  talk.reply("220 hi\r\n");
  talk.reply(kOffer);
  talk.reply("220 go\r\n");
  talk.shake(TlsProof::name);
  talk.sent();
  CHECK(talk.reply("250-mx.test\r\n250 AUTH XOAUTH2\r\n") == "AUTH XOAUTH2\r\n");
  CHECK(talk.reply("334 \r\n").size() > 2000);
  talk.reply("334 e30=\r\n");
  talk.client.answer(talk.client.sasl()->step(talk.client.challenge()));
  CHECK(talk.sent() == "\r\n");
  talk.reply("535 5.7.8 expired\r\n");
  CHECK(talk.client.is_auth_refused());
}

TEST_CASE("an unverified host is told nothing that helps to guess the password",
          "[delivery][sasl][attacks]") {
  auto security = with_password();
  auto credentials = std::make_shared<Credentials>(*security.credentials);
  security.credentials = credentials;
  const std::string offer =
      "250-mx.test\r\n250 AUTH SCRAM-SHA-256 CRAM-MD5 PLAIN LOGIN XOAUTH2\r\n";
  const auto hello = [&](Talk& talk, bool tls, TlsProof proof = TlsProof::nothing) {
    talk.reply("220 hi\r\n");
    if (!tls)
      return talk.reply(offer);
    talk.reply(kOffer);
    talk.reply("220 go\r\n");
    talk.shake(proof);
    talk.sent();
    return talk.reply(offer);
  };
  SECTION("not under a certificate that proves nothing, nor in clear") {
    for (const bool is_token : {false, true})
      for (const bool tls : {false, true}) {
        credentials->is_token = is_token;
        Talk talk(security);
        CHECK(hello(talk, tls).empty());
        CHECK(talk.client.is_closing());
        CHECK(talk.client.failure().text.find(tls ? "with a host whose certificate is not verified"
                                                  : "without TLS") != std::string::npos);
      }
  }
  SECTION("not under a chain that no name was looked for in") {
    Talk talk(security);
    CHECK(hello(talk, true, TlsProof::chain).empty());
    CHECK(talk.client.is_closing());
  }
  SECTION("a mechanism that is named is used; PLAIN is not, for all that") {
    credentials->mechanisms = {"CRAM-MD5", "PLAIN"};
    for (const bool tls : {false, true}) {
      Talk talk(security);
      CHECK(hello(talk, tls) == "AUTH CRAM-MD5\r\n");
    }
    credentials->mechanisms = {"PLAIN"};
    Talk talk(security);
    CHECK(hello(talk, true).empty());
  }
  SECTION("a route may say that whoever answers will do, under TLS") {
    security.tls.unverified_login = true;
    Talk talk(security);
    CHECK(hello(talk, true).starts_with("AUTH SCRAM-SHA-256 "));
    Talk stripped(security);
    CHECK(hello(stripped, false).empty());
  }
}
