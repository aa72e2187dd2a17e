// attacks.md 2.7, and RFC 3030 as it should go.
#include "support.h"

#include <catch2/catch.hpp>

using namespace postrider;
using namespace postrider::tests;

namespace {

Script with_bdat(const std::vector<std::string>& steps) {
  Script script = with_data("");
  script.resize(3);
  script.insert(script.end(), steps.begin(), steps.end());
  return script;
}

}  // namespace

TEST_CASE("chunks make one message", "[smtpd][bdat]") {
  const auto result =
      play(with_bdat({"BDAT 7\r\nA: b\r\n\r", "BDAT 3\r\n\nx\r", "bdat 1 last\r\n\n"}));
  CHECK(codes_of(result.all()) == "220 250 250 250 250 250 250");
  CHECK(result.kept.at(0).content == "A: b\r\n\r\nx\r\n");
}

TEST_CASE("a whole transaction in one segment gets its answers in one", "[smtpd][bdat]") {
  const auto result = play({"EHLO c.test\r\n",
                            "MAIL FROM:<>\r\nRCPT TO:<y@us.test>\r\nBDAT 6 LAST\r\n\r\n.\r\n"
                            "\nRSET\r\nQUIT\r\n"});
  CHECK(result.last_codes() == "250 250 550 250 221");
  CHECK(result.closed);
}

TEST_CASE("B01: a size that is none ends the session", "[smtpd][attacks]") {
  for (const auto* argument : {"-1", "0x10", "1e3", "+5", "5 5", "", "5 LASTX", " ", "LAST"}) {
    const auto result = play(with_bdat({std::string("BDAT ") + argument + "\r\n"}));
    CHECK(result.last_codes() == "501");
    CHECK(result.closed);
  }
}

TEST_CASE("B02: absurd sizes end the session", "[smtpd][attacks]") {
  for (const auto* size : {"18446744073709551615", "9223372036854775808", "18446744073709551616",
                           "123456789012345678901234567890"}) {
    const auto result = play(with_bdat({std::string("BDAT ") + size + " LAST\r\n"}));
    CHECK((result.last_codes() == "552" || result.last_codes() == "501"));
    CHECK(result.closed);
    CHECK(result.kept.empty());
  }
}

TEST_CASE("B03: a chunk without a transaction is swallowed", "[smtpd][attacks]") {
  const auto result = play({"EHLO c.test\r\n", "BDAT 10 LAST\r\nQUIT\r\nxxxxNOOP\r\n"});
  CHECK(result.last_codes() == "503 250");
  CHECK_FALSE(result.closed);
}

TEST_CASE("B04: DATA and BDAT do not mix", "[smtpd][attacks]") {
  const auto result = play(with_bdat({"BDAT 2\r\na\r", "DATA\r\n", "BDAT 1 LAST\r\n\n",
                                      "MAIL FROM:<>\r\n", "RSET\r\n", "MAIL FROM:<>\r\n"}));
  CHECK(codes_of(result.all()) == "220 250 250 250 250 503 503 503 250 250");
  auto script = with_data("\r\n.\r\n");
  script.push_back("BDAT 3 LAST\r\nabc");
  CHECK(codes_of(play(script).all()) == "220 250 250 250 354 250 503");
}

TEST_CASE("B05: a million tiny chunks are junk", "[smtpd][attacks]") {
  for (const auto* chunk : {"BDAT 0\r\n", "BDAT 1\r\nx"}) {
    std::string many;
    for (int i = 0; i < 1000; ++i)
      many += chunk;
    const auto result = play(with_bdat({many}));
    CHECK(result.closed);
    CHECK(result.replies.back().ends_with("421 4.7.0 Too many errors\r\n"));
  }
}

TEST_CASE("B06: behind a failed chunk each is swallowed and refused", "[smtpd][attacks]") {
  PlayOptions options;
  options.settings.message_size = 10;
  const auto result = play(
      with_bdat({"BDAT 12\r\n012345678901BDAT 5\r\nRSET\rBDAT 4 LAST\r\nNOOPRSET\r\nNOOP\r\n"}),
      options);
  CHECK(result.last_codes() == "552 503 503 250 250");
}

TEST_CASE("B07: chunks split at every octet", "[smtpd][attacks]") {
  const std::string good = "BDAT 9\r\nA: b\r\n\r\nxBDAT 6\r\n\r\ny\r\nzBDAT 2 LAST\r\n\r\nNOOP\r\n";
  for (std::size_t cut = 1; cut < good.size(); ++cut) {
    PlayOptions options;
    options.cut = cut;
    const auto result = play_in_memory(with_bdat({good}), options);
    INFO("cut at " << cut);
    CHECK(result.last_codes() == "250 250 250 250");
    CHECK(result.kept.at(0).content == "A: b\r\n\r\nx\r\ny\r\nz\r\n");
  }
  CHECK(play(with_bdat({good})).last_codes() == "250 250 250 250");
}

TEST_CASE("B08: a line end may straddle two chunks", "[smtpd][attacks]") {
  CHECK(play(with_bdat({"BDAT 2\r\na\r", "BDAT 1 LAST\r\n\n"})).last_codes() == "250");
  CHECK(play(with_bdat({"BDAT 2\r\na\r", "BDAT 1 LAST\r\nb"})).last_codes() == "550");
  CHECK(play(with_bdat({"BDAT 2\r\na\r", "BDAT 0 LAST\r\n"})).last_codes() == "550");
}

TEST_CASE("B09: over the limit in the middle of a chunk", "[smtpd][attacks]") {
  PlayOptions options;
  options.settings.message_size = 1000;
  const auto chunk = "BDAT 1500 LAST\r\n" + std::string(1500, 'x');
  const auto result = play(with_bdat({chunk}), options);
  CHECK(result.last_codes() == "552");
  CHECK(result.kept.empty());
}

TEST_CASE("B10: BINARYMIME needs BDAT", "[smtpd][attacks]") {
  auto script = with_bdat({"DATA\r\n", "BDAT 4 LAST\r\na\nb\r"});
  script[1] = "MAIL FROM:<> BODY=BINARYMIME\r\n";
  const auto result = play(script);
  CHECK(codes_of(result.all()) == "220 250 250 250 503 250");
  CHECK(result.kept.at(0).content == "a\nb\r");
  CHECK(result.kept.at(0).envelope.body == mail::BodyType::binary_mime);
}

TEST_CASE("B11: a connection that ends within a chunk queues nothing", "[smtpd][attacks][tcp]") {
  RunningServer server;
  {
    Peer peer(server.port());
    peer.reply();
    for (const auto& step : with_bdat({}))
      peer.say(step);
    peer.send("BDAT 10 LAST\r\n12345");
    peer.finish();
    CHECK(peer.is_closed());
  }
  CHECK(server.log().wait_for("disconnected").size() == 1);
  CHECK(server.custody().kept().empty());
}

TEST_CASE("B12: an empty last chunk is an empty message", "[smtpd][attacks]") {
  const auto result = play(with_bdat({"BDAT 0 LAST\r\n"}));
  CHECK(result.last_codes() == "250");
  CHECK(result.kept.at(0).content.empty());
}

TEST_CASE("B13: a declared size reserves nothing, and its wait is limited",
          "[smtpd][attacks][tcp]") {
  auto settings = strict_settings();
  settings.message_size = 2ULL << 30U;
  settings.timeouts.data = Duration(300);
  RunningServer server(settings);
  Peer peer(server.port());
  peer.reply();
  for (const auto& step : with_bdat({}))
    peer.say(step);
  peer.send("BDAT 1073741824 LAST\r\n");
  CHECK(peer.reply() == "421 4.4.2 Timeout\r\n");
  CHECK(peer.is_closed());
  CHECK(server.custody().kept().empty());
}
