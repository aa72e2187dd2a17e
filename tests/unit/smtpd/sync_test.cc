// attacks.md 2.3: keeping the two sides in step, early talkers, foreign protocols.
#include "support.h"

#include "smtpd/session/replies.h"

#include <catch2/catch.hpp>

#include <sys/socket.h>

using namespace postrider;
using namespace postrider::tests;

namespace {

const std::string kEhlo = "EHLO client.test\r\n";

std::string repeated(const std::string& text, int times) {
  std::string all;
  for (int i = 0; i < times; ++i)
    all += text;
  return all;
}

}  // namespace

TEST_CASE("P01: who talks before the greeting is turned away", "[smtpd][attacks][tcp]") {
  // The loop is held up while the client connects and talks, so that it is early for sure.
  RunningServer server;
  std::atomic<bool> go_on{false};
  server.loop().post([&] {
    while (!go_on)
      std::this_thread::yield();
  });
  Peer peer(server.port());
  peer.send(kEhlo);
  go_on = true;
  CHECK(peer.reply() == smtpd::replies::kOutOfStep);
  CHECK(peer.is_closed());
  CHECK(server.log().wait_for("rejected").at(0).value("stage") == "CONNECT");
}

TEST_CASE("P02: a group before PIPELINING was offered", "[smtpd][attacks]") {
  const auto group = kEhlo + "MAIL FROM:<a@ext.test>\r\nRCPT TO:<y@us.test>\r\nDATA\r\n";
  const auto result = play({group});
  CHECK(result.last_codes() == "554");
  CHECK(result.closed);
  CHECK(play({kEhlo, group.substr(kEhlo.size())}).last_codes() == "250 250 354");
  CHECK(play({"HELO c.test\r\n", group.substr(kEhlo.size())}).last_codes() == "554");
}

TEST_CASE("P03: content that does not wait for 354", "[smtpd][attacks]") {
  auto script = with_data("");
  script.resize(3);
  script.push_back("DATA\r\nSubject: x\r\n\r\nb\r\n.\r\n");
  const auto result = play(script);
  CHECK(result.last_codes() == "554");
  CHECK(result.closed);
  CHECK(result.kept.empty());
  // Refused or not, the lines are never commands.
  const auto refused = play({kEhlo, "DATA\r\nMAIL FROM:<a@ext.test>\r\n"});
  CHECK(refused.last_codes() == "554");
  CHECK(refused.closed);
}

TEST_CASE("P04: a thousand recipients in one group", "[smtpd][attacks]") {
  const auto result =
      play({kEhlo, "MAIL FROM:<>\r\n" + repeated("RCPT TO:<y@us.test>\r\n", 1000) + "DATA\r\n",
            "\r\n.\r\n"});
  CHECK(result.codes(2).size() == 1002 * 4 - 1);
  CHECK(result.codes(2).ends_with("250 354"));
  CHECK(result.kept.at(0).envelope.recipients.size() == 1000);
}

TEST_CASE("P05: no recipient was valid", "[smtpd][attacks]") {
  const auto result = play({kEhlo,
                            "MAIL FROM:<>\r\nRCPT TO:<n@us.test>\r\nRCPT TO:<u@ext.test>\r\n"
                            "DATA\r\n"});
  CHECK(result.replies.back().ends_with("554 5.5.1 No valid recipients\r\n"));
  CHECK_FALSE(result.closed);
}

TEST_CASE("P06, P07: a browser is shown the door", "[smtpd][attacks]") {
  for (const auto* request : {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "CONNECT x:25 HTTP/1.1\r\n\r\n",
                              "POST / HTTP/1.1\r\n\r\nEHLO x\r\nMAIL FROM:<>\r\n"}) {
    const auto result = play({request});
    CHECK(result.replies.back() == smtpd::replies::kNotHttp);
    CHECK(result.closed);
  }
}

TEST_CASE("P08: TLS where none is spoken", "[smtpd][attacks]") {
  const auto result = play({std::string("\x16\x03\x01\x02\x00\x01\x00", 7)});
  CHECK(result.last_codes() == "500");
  CHECK(result.closed);
}

TEST_CASE("P10: unknown commands run out", "[smtpd][attacks]") {
  const auto result = play({kEhlo, repeated("FROB\r\n", 1000)});
  CHECK(result.replies.back() == repeated(std::string(smtpd::replies::kUnknownCommand), 19) +
                                     std::string(smtpd::replies::kTooManyErrors));
  CHECK(result.closed);
}

TEST_CASE("P11: commands that move no mail run out", "[smtpd][attacks]") {
  for (const auto* command : {"NOOP\r\n", "RSET\r\n", "VRFY a\r\n", "HELP\r\n"}) {
    const auto result = play({kEhlo, repeated(command, 2000)});
    CHECK(result.replies.back().ends_with(smtpd::replies::kTooManyErrors));
    CHECK(result.closed);
  }
}

TEST_CASE("P12: a client that reads no replies is read no further", "[smtpd][attacks][tcp]") {
  auto settings = trusting_settings();
  settings.limits.junk = 1U << 30U;
  settings.timeouts.reply = Duration(300);
  RunningServer server(settings);
  Peer peer(server.port(), 3000);
  const int small = 4096;
  ::setsockopt(peer.socket(), SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
  peer.reply();
  peer.say(kEhlo);
  // Far more than the kernel's buffers take: the server must stop reading and then give up.
  const auto noops = repeated("NOOP\r\n", 10000);
  for (int i = 0; i < 1000; ++i)
    if (!peer.send(noops))
      break;
  CHECK(server.log().wait_for("disconnected").at(0).value("reason") == "timeout");
}

TEST_CASE("P13: a client that goes away at any octet leaves nothing half done",
          "[smtpd][attacks][tcp]") {
  RunningServer server;
  std::string session;
  for (const auto& step : with_data("Subject: x\r\n\r\nbody\r\n.\r\n"))
    session += step;
  const auto steps = with_data("Subject: x\r\n\r\nbody\r\n.\r\n");
  for (std::size_t cut = 0; cut < session.size(); ++cut) {
    Peer peer(server.port());
    peer.reply();
    std::size_t left = cut;
    for (const auto& step : steps) {
      const auto here = std::min(left, step.size());
      if (here == step.size())
        peer.say(step);
      else
        peer.send(step.substr(0, here));
      left -= here;
      if (left == 0)
        break;
    }
    if (cut % 2 == 0)
      peer.reset();
    else
      peer.finish();
  }
  CHECK(server.log().wait_for("disconnected", session.size()).size() == session.size());
  CHECK(server.custody().kept().empty());
  // The whole of it, then a reset: the message is ours, once.
  Peer peer(server.port());
  peer.reply();
  for (std::size_t i = 0; i + 1 < steps.size(); ++i)
    peer.say(steps[i]);
  peer.send(steps.back());
  peer.finish();
  CHECK(server.custody().wait_for(1));
  CHECK(server.custody().kept().size() == 1);
}

TEST_CASE("P14: FIN right behind the end of the message", "[smtpd][attacks][tcp]") {
  RunningServer server;
  Peer peer(server.port());
  peer.reply();
  const auto steps = with_data("\r\n.\r\n");
  for (std::size_t i = 0; i + 1 < steps.size(); ++i)
    peer.say(steps[i]);
  peer.send(steps.back());
  peer.finish();
  CHECK(codes_of(peer.reply()) == "250");
  CHECK(peer.is_closed());
  CHECK(server.custody().kept().size() == 1);
}

TEST_CASE("P15: nothing that was sent comes back", "[smtpd][attacks]") {
  const std::string evil = "<script>\x1b[2Jevil";
  const auto result =
      play({"EHLO " + evil + "\r\n", kEhlo, evil + "\r\n", "MAIL FROM:<" + evil + "@ext.test>\r\n",
            "MAIL FROM:<>\r\n", "RCPT TO:<evil@us.test>\r\n", "VRFY evil\r\n", "HELP evil\r\n"});
  CHECK(result.all().find("evil") == std::string::npos);
  CHECK(result.all().find("script") == std::string::npos);
}

TEST_CASE("P16: QUIT behind the dot", "[smtpd][attacks]") {
  const auto result = play(with_data("\r\n.\r\nQUIT\r\n"));
  CHECK(result.last_codes() == "250 221");
  CHECK(result.closed);
  CHECK(result.kept.size() == 1);
}

TEST_CASE("P17: arguments of EHLO", "[smtpd][attacks]") {
  using namespace std::string_literals;
  CHECK(play({"EHLO\r\n"}).last_codes() == "501");
  CHECK(play({"EHLO x\r\n"}).last_codes() == "250");
  CHECK(play({"EHLO " + std::string(255, 'x') + "\r\n"}).last_codes() == "250");
  CHECK(play({"EHLO " + std::string(512, 'x') + "\r\n"}).last_codes() == "501");
  CHECK(play({"EHLO " + std::string(4096, 'x') + "\r\n"}).last_codes() == "500");
  CHECK(play({"EHLO a b\r\n"}).last_codes() == "501");
  CHECK(play({"EHLO a\0b\r\n"s}).last_codes() == "500");
  CHECK(play({"EHLO [192.0.2.1]\r\n"}).last_codes() == "250");
}
