// What only shows on a socket: limits of sessions, deadlines, draining, reloads, listeners.
#include "support.h"

#include "mail/header.h"
#include "smtpd/session/replies.h"
#include "smtpd/session_limits.h"

#include <catch2/catch.hpp>

#include <chrono>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <thread>
#include <unistd.h>

using namespace postrider;
using namespace postrider::tests;
namespace replies = postrider::smtpd::replies;

namespace {

const std::string kEhlo = "EHLO client.test\r\n";

void deliver(Peer& peer, const std::string& content = "\r\nhello\r\n.\r\n") {
  const auto steps = with_data(content);
  for (std::size_t i = 1; i + 1 < steps.size(); ++i)
    peer.say(steps[i]);
  CHECK(codes_of(peer.say(steps.back())) == "250");
}

Peer greeted_peer(RunningServer& server) {
  Peer peer(server.port());
  peer.reply();
  peer.say(kEhlo);
  return peer;
}

}  // namespace

TEST_CASE("content never becomes part of the fields above it", "[smtpd][tcp]") {
  struct Row {
    const char* content;
    const char* mx;          // behind our Received field
    const char* submission;  // behind Date and Message-ID, which are added where two stand
    int added;
  };
  const Row rows[] = {
      {" by evil.example (forged)\r\nSubject: x\r\n\r\n.\r\n", "\r\n by evil.example (forged)",
       "\r\n by evil", 2},
      {"\tid 1;\r\n", "\r\n\tid 1;", "\r\n\tid 1;", 2},
      {"not a field\r\nDate: x\r\nMessage-ID: <y@z>\r\n\r\nbody\r\n", "not a field\r\nDate: x",
       "\r\nnot a field\r\nDate: x", 2},
      {"A: b\r\nnot a field\r\nDate: x\r\nMessage-ID: <y@z>\r\n", "A: b\r\nnot a field\r\nDate",
       "A: b\r\n\r\nnot a field\r\nDate", 2},
      {"From a@b Mon Nov 23 10:00:00 2026\r\nDate: x\r\nMessage-ID: <y@z>\r\n\r\nbody\r\n",
       "X-Mailbox-Line: From a@b Mon Nov 23 10:00:00 2026\r\nDate: x",
       "X-Mailbox-Line: From a@b Mon Nov 23 10:00:00 2026\r\nDate: x", 0},
      {">From a@b Mon\r\nDate: x\r\nMessage-ID: <y@z>\r\n\r\nbody\r\n",
       "X-Mailbox-Line: >From a@b Mon\r\nDate", "X-Mailbox-Line: >From a@b Mon\r\nDate", 0},
      {"\r\nbody\r\n", "\r\nbody", "\r\nbody", 2},
      {"Date: x\r\nMessage-ID: <y@z>\r\n", "Date: x", "Date: x", 0},
  };
  const auto role = GENERATE(smtpd::Role::mx, smtpd::Role::submission);
  const bool by_chunks = GENERATE(false, true);
  smtpd::ListenerSettings listener;
  listener.address = "127.0.0.1:0";
  listener.role = role;
  RunningServer server(trusting_settings(), 1, nullptr, listener);
  auto peer = greeted_peer(server);
  std::size_t kept = 0;
  for (const auto& row : rows) {
    const std::string content = row.content;
    INFO(content << ", by chunks: " << by_chunks << ", role: " << static_cast<int>(role));
    peer.say("MAIL FROM:<x@ext.test>\r\n");
    peer.say("RCPT TO:<y@us.test>\r\n");
    if (by_chunks) {
      // The first chunk ends within the first line.
      CHECK(codes_of(peer.say("BDAT 1\r\n" + content.substr(0, 1))) == "250");
      CHECK(codes_of(peer.say("BDAT " + std::to_string(content.size() - 1) + " LAST\r\n" +
                              content.substr(1))) == "250");
    } else {
      peer.say("DATA\r\n");
      CHECK(codes_of(peer.say(content + (content.ends_with("\r\n.\r\n") ? "" : ".\r\n"))) == "250");
    }
    REQUIRE(server.custody().wait_for(++kept));
    const auto message = server.custody().kept().back();
    const auto whole = message.trace + message.content;
    CHECK(mail::HeaderScanner(whole).consumed() == 0);
    mail::HeaderScanner scanner(whole);
    mail::HeaderField field;
    REQUIRE(scanner.next(field));
    CHECK(field.name == "Received");
    CHECK(field.value.find("evil") == std::string::npos);
    CHECK(field.value.find("id 1;") == std::string::npos);
    const bool completes = role == smtpd::Role::submission;
    for (int i = 0; completes && i < row.added; ++i)
      REQUIRE(scanner.next(field));
    CHECK(std::string_view(whole)
              .substr(scanner.consumed())
              .starts_with(completes ? row.submission : row.mx));
    std::size_t dates = field.name == "Date" ? 1 : 0;
    while (scanner.next(field))
      dates += field.name == "Date" ? 1 : 0;
    CHECK(dates <= 1);
  }
}

TEST_CASE("many clients on two loops are all served", "[smtpd][tcp]") {
  RunningServer server(strict_settings(), 2);
  std::vector<Peer> peers;
  for (int i = 0; i < 40; ++i)
    peers.push_back(greeted_peer(server));
  for (auto& peer : peers)
    deliver(peer);
  for (auto& peer : peers)
    deliver(peer);
  CHECK(server.custody().kept().size() == 80);
  CHECK(server.server().counters().messages == 80);
  CHECK(server.server().counters().open == 40);
  const auto accepted = server.log().named("accepted");
  REQUIRE(accepted.size() == 80);
  CHECK(accepted[0].value("from") == "x@ext.test");
  CHECK(accepted[0].value("to") == "y@us.test");
  CHECK(accepted[0].value("nrcpt") == "1");
  CHECK(accepted[0].value("client") == "127.0.0.1");
  CHECK(accepted[0].value("protocol") == "ESMTP");
}

TEST_CASE("the trace field names client, protocol, id and the only recipient", "[smtpd][tcp]") {
  RunningServer server;
  auto peer = greeted_peer(server);
  deliver(peer, "Message-ID: <m@x>\r\nSubject: x\r\n\r\n.\r\n");
  const auto trace = server.custody().kept().at(0).trace;
  CHECK(trace.starts_with("Received: from client.test "));
  CHECK(trace.find("[127.0.0.1]") != std::string::npos);
  CHECK(trace.find("by mx.us.test") != std::string::npos);
  CHECK(trace.find("with ESMTP id ") != std::string::npos);
  CHECK(trace.find("y@us.test") != std::string::npos);
  CHECK(server.log().wait_for("accepted").at(0).value("message_id") == "<m@x>");
}

TEST_CASE("a submission is completed, and only a submission", "[smtpd][tcp]") {
  smtpd::ListenerSettings listener;
  listener.address = "127.0.0.1:0";
  listener.role = smtpd::Role::submission;
  RunningServer server(trusting_settings(), 1, nullptr, listener);
  auto peer = greeted_peer(server);
  deliver(peer, "Subject: x\r\n\r\n.\r\n");
  deliver(peer, "date: Mon, 23 Nov 2026 13:34:44 +0000\r\nmessage-id: <a@b>\r\n\r\n.\r\n");
  const auto kept = server.custody().kept();
  CHECK(kept.at(0).trace.find("\r\nDate: ") != std::string::npos);
  CHECK(kept.at(0).trace.find("\r\nMessage-ID: <") != std::string::npos);
  CHECK(kept.at(1).trace.find("\r\nDate: ") == std::string::npos);
  CHECK(kept.at(1).trace.find("\r\nMessage-ID: <") == std::string::npos);
}

TEST_CASE("X01: a client that drips is cut off, whatever it drips", "[smtpd][attacks][tcp]") {
  auto settings = strict_settings();
  settings.timeouts.command = Duration(1500);
  settings.timeouts.data = Duration(1500);
  settings.timeouts.data_rate = 1000;
  RunningServer server(settings);
  std::vector<std::string> starts = {"", "MAIL FR", "BDAT 100000\r\n"};
  const auto steps = with_data("");
  for (const auto& start : starts)
    DYNAMIC_SECTION("drips behind '" << start << "'") {
      auto peer = greeted_peer(server);
      if (start.starts_with("BDAT"))
        for (std::size_t i = 1; i < 3; ++i)
          peer.say(steps[i]);
      peer.send(start);
      const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(120);
      bool is_open = true;
      while (is_open && std::chrono::steady_clock::now() < end) {
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        is_open = peer.send("x");
      }
      CHECK_FALSE(is_open);
    }
  // Meanwhile others are served.
  auto honest = greeted_peer(server);
  deliver(honest);
}

TEST_CASE("X02: who never says anything is told to leave", "[smtpd][attacks][tcp]") {
  auto settings = strict_settings();
  settings.timeouts.command = Duration(200);
  RunningServer server(settings);
  Peer peer(server.port());
  peer.reply();
  CHECK(peer.reply() == replies::kTimeout);
  CHECK(peer.is_closed());
  CHECK(server.log().wait_for("disconnected").at(0).value("reason") == "timeout");
}

TEST_CASE("X02: who falls silent behind any step is told to leave", "[smtpd][attacks][tcp]") {
  auto settings = strict_settings();
  settings.timeouts.command = settings.timeouts.data = Duration(2000);
  settings.message_size = 1000;
  RunningServer server(settings);
  const auto whole = with_data("\r\nhello\r\n.\r\n");
  std::vector<Script> scripts;
  for (std::size_t i = 0; i <= whole.size(); ++i)
    scripts.emplace_back(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(i));
  scripts.push_back(with_data("\r\nhel"));
  scripts.push_back(with_data("\r\nbare \n line end\r\n.\r\n"));
  scripts.push_back(with_data("\r\n" + std::string(2000, 'x') + "\r\n.\r\n"));
  auto chunks = whole;
  chunks.resize(3);
  chunks.emplace_back("BDAT 4 LAST\r\n\r\nhi");
  scripts.push_back(chunks);
  chunks.back() = "BDAT 4\r\n\r\nhi";
  scripts.push_back(chunks);
  chunks.back() = "BDAT 5\r\n\r\nhi";
  scripts.push_back(chunks);
  scripts.push_back({whole[0], "RSET\r\n"});
  scripts.push_back({whole[0], "NONSENSE\r\n"});
  std::vector<Peer> peers;
  for (const auto& script : scripts) {
    auto& peer = peers.emplace_back(server.port(), 30'000);
    peer.reply();
    for (std::size_t i = 0; i < script.size(); ++i)
      if (i + 1 < script.size())
        peer.say(script[i]);
      else
        peer.send(script[i]);
  }
  for (std::size_t i = 0; i < peers.size(); ++i) {
    INFO("behind " << (scripts[i].empty() ? "the greeting" : scripts[i].back()));
    std::string last;
    for (auto reply = peers[i].reply(); !reply.empty(); reply = peers[i].reply())
      last = reply;
    CHECK(last == replies::kTimeout);
  }
}

TEST_CASE("X03: one address has its share of sessions", "[smtpd][attacks][tcp]") {
  auto settings = strict_settings();
  settings.limits.sessions_per_client = 3;
  RunningServer server(settings, 2);
  std::vector<Peer> peers;
  for (int i = 0; i < 3; ++i)
    peers.push_back(greeted_peer(server));
  {
    Peer beyond(server.port());
    CHECK(beyond.reply() == replies::kTooManySessions);
    CHECK(beyond.is_closed());
  }
  peers.pop_back();
  CHECK(server.log().wait_for("disconnected").size() == 1);
  // Slots come back shortly behind the log line.
  CHECK(eventually([&] { return Peer(server.port()).reply().starts_with("220"); }));

  auto trusting = trusting_settings();
  trusting.limits.sessions_per_client = 3;
  RunningServer generous(trusting);
  for (int i = 0; i < 10; ++i)
    peers.push_back(greeted_peer(generous));
}

TEST_CASE("X03: slots by address, network and family", "[smtpd][attacks]") {
  smtpd::SessionLimits slots;
  smtpd::Limits limits;
  limits.sessions_per_client = 2;
  limits.sessions_per_network = 3;
  const auto take = [&](const char* address) {
    return slots.take_for(*IpAddress::parse(address), limits);
  };
  CHECK(take("192.0.2.1"));
  CHECK(take("192.0.2.1"));
  CHECK_FALSE(take("192.0.2.1"));
  CHECK(take("192.0.2.2"));
  CHECK_FALSE(take("192.0.2.3"));
  slots.give_back_for(*IpAddress::parse("192.0.2.1"));
  CHECK(take("192.0.2.3"));
  CHECK(take("2001:db8:0:1::1"));
  CHECK(take("2001:db8:0:1::2"));
  CHECK_FALSE(take("2001:db8:0:1::3"));
  CHECK(take("2001:db8:0:2::1"));
  CHECK_FALSE(take("2001:db8:0:3::1"));
  CHECK(slots.take(1));
  CHECK_FALSE(slots.take(1));
}

TEST_CASE("X04: without descriptors nothing spins, and service comes back",
          "[smtpd][attacks][tcp]") {
  RunningServer server(trusting_settings());
  auto early = greeted_peer(server);
  rlimit before{};
  getrlimit(RLIMIT_NOFILE, &before);
  // The client's sockets are opened first: server and client share this process's limit.
  std::vector<int> held;
  const int waiting = ::socket(AF_INET, SOCK_STREAM, 0);
  const rlimit tight{64, before.rlim_max};
  setrlimit(RLIMIT_NOFILE, &tight);
  for (int fd = ::dup(0); fd >= 0; fd = ::dup(0))
    held.push_back(fd);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(server.port());
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  CHECK(::connect(waiting, reinterpret_cast<sockaddr*>(&to), sizeof to) == 0);
  CHECK_FALSE(server.log().wait_for("trouble").empty());
  const auto cpu_before = std::clock();
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
  CHECK(std::clock() - cpu_before < CLOCKS_PER_SEC / 4);
  setrlimit(RLIMIT_NOFILE, &before);
  for (const int fd : held)
    ::close(fd);
  ::close(waiting);
  deliver(early);
  auto late = greeted_peer(server);
  deliver(late);
}

TEST_CASE("X09: when slots run low, strangers get little patience", "[smtpd][attacks][tcp]") {
  auto settings = strict_settings();
  settings.limits.sessions = 16;
  settings.timeouts.stressed = Duration(2000);
  RunningServer server(settings);
  std::vector<Peer> idle;
  for (int i = 0; i < 13; ++i)
    idle.push_back(greeted_peer(server));
  // Those that waited before the stress began are told to hurry, too.
  CHECK(idle.front().reply() == replies::kTimeout);
}

TEST_CASE("X09: an eighth of the slots is kept for our own clients", "[smtpd][attacks][tcp]") {
  auto settings = strict_settings();
  settings.limits.sessions = 16;
  RunningServer server(settings);
  std::vector<Peer> peers;
  for (int i = 0; i < 14; ++i)
    peers.push_back(Peer(server.port()));
  for (auto& peer : peers)
    CHECK(peer.reply().starts_with("220"));
  Peer beyond(server.port());
  CHECK(beyond.reply() == replies::kAllBusy);
  server.configure([] {
    auto trusting = trusting_settings();
    trusting.limits.sessions = 16;
    return trusting;
  }());
  CHECK(eventually([&] { return Peer(server.port()).reply().starts_with("220"); }));
}

TEST_CASE("draining: idle clients get 421, a transaction ends first", "[smtpd][tcp]") {
  RunningServer server;
  auto idle = greeted_peer(server);
  auto busy = greeted_peer(server);
  const auto steps = with_data("\r\n.\r\n");
  for (std::size_t i = 1; i + 1 < steps.size(); ++i)
    busy.say(steps[i]);
  std::thread drain([&] { server.drain(std::chrono::seconds(20)); });
  CHECK(idle.reply() == replies::kStopping);
  CHECK(idle.is_closed());
  CHECK(codes_of(busy.say(steps.back())) == "250");
  CHECK(busy.reply() == replies::kStopping);
  drain.join();
  CHECK(server.custody().kept().size() == 1);
  CHECK(server.server().counters().open == 0);
}

TEST_CASE("draining: after the grace what is left hears 421 and is closed", "[smtpd][tcp]") {
  RunningServer server;
  const auto steps = with_data("");
  // In each stage of a transaction: after MAIL, after RCPT, within DATA, with content on its way.
  std::vector<Peer> peers;
  for (std::size_t stage = 2; stage <= 5; ++stage) {
    peers.push_back(greeted_peer(server));
    for (std::size_t i = 1; i < std::min<std::size_t>(stage, 4); ++i)
      CHECK(codes_of(peers.back().say(steps[i])) == (i == 3 ? "354" : "250"));
    if (stage == 5)
      peers.back().send("Subject: half\r\n\r\n" + std::string(70000, 'x'));
  }
  server.drain(Duration(200));
  for (auto& peer : peers) {
    CHECK(peer.reply() == replies::kStopping);
    CHECK(peer.is_closed());
  }
  CHECK(server.custody().kept().empty());
}

TEST_CASE("a reload counts for new sessions", "[smtpd][tcp]") {
  RunningServer server;
  auto old = greeted_peer(server);
  auto settings = strict_settings();
  settings.hostname = "new.us.test";
  server.configure(settings);
  CHECK(old.say(kEhlo).starts_with("250-mx.us.test"));
  const std::string greeting = "220 new.us.test ESMTP Postrider\r\n";
  CHECK(eventually([&] { return Peer(server.port()).reply() == greeting; }));
}

TEST_CASE("listeners: Unix sockets, IPv6, and addresses that are none", "[smtpd][tcp]") {
  SECTION("a Unix socket is a client of ours") {
    char folder[] = "/tmp/smtpd-test-XXXXXX";
    REQUIRE(::mkdtemp(folder) != nullptr);
    const auto path = std::string(folder) + "/socket";
    for (int round = 0; round < 2; ++round) {  // the second finds the first's socket file
      RunningServer server(strict_settings(), 2, nullptr, {"unix:" + path});
      const int socket = ::socket(AF_UNIX, SOCK_STREAM, 0);
      sockaddr_un to{};
      to.sun_family = AF_UNIX;
      path.copy(to.sun_path, sizeof to.sun_path - 1);
      REQUIRE(::connect(socket, reinterpret_cast<sockaddr*>(&to), sizeof to) == 0);
      char greeting[64];
      CHECK(::recv(socket, greeting, sizeof greeting, 0) > 4);
      CHECK(server.log().wait_for("connected").at(0).value("client") == "local");
      ::close(socket);
    }
    std::filesystem::remove_all(folder);
  }
  SECTION("one of systemd's") {
    const int socket = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in any{};
    any.sin_family = AF_INET;
    any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(::bind(socket, reinterpret_cast<sockaddr*>(&any), sizeof any) == 0);
    REQUIRE(::listen(socket, 10) == 0);
    socklen_t size = sizeof any;
    ::getsockname(socket, reinterpret_cast<sockaddr*>(&any), &size);
    smtpd::ListenerSettings listener;
    listener.address = "127.0.0.1:" + std::to_string(ntohs(any.sin_port));
    listener.inherited = socket;
    RunningServer server(strict_settings(), 2, nullptr, listener);
    auto peer = greeted_peer(server);
    deliver(peer);
  }
  SECTION("what cannot be") {
    Loop loop(0);
    FakeCustody custody;
    SystemClock clock;
    NullLog log;
    smtpd::Server server({&loop}, custody, clock, log,
                         std::make_shared<const ServerSettings>(strict_settings()));
    for (const auto* address : {"25", "localhost:25", "::1:25", "127.0.0.1:99999",
                                "127.0.0.1:", "unix:", "[127.0.0.1]:25"}) {
      const auto result = server.listen({{address}});
      REQUIRE_FALSE(result);
      CHECK(result.error().describe().find("listen on " + std::string(address)) == 0);
    }
    CHECK(server.listen({{"[::1]:0"}}));
    const auto taken = server.listen({{server.addresses().front()}});
    REQUIRE_FALSE(taken);
    CHECK(taken.error().describe().find("Address already in use") != std::string::npos);
  }
}

TEST_CASE("I16: the PROXY header counts from listed peers only", "[smtpd][attacks][tcp]") {
  smtpd::ListenerSettings listener;
  listener.address = "127.0.0.1:0";
  listener.proxy_protocol = true;
  SECTION("from a stranger") {
    RunningServer server(strict_settings(), 1, nullptr, listener);
    Peer peer(server.port());
    peer.send("PROXY TCP4 192.0.2.7 192.0.2.1 4711 25\r\n");
    CHECK(peer.is_closed());
  }
  auto settings = strict_settings();
  settings.proxy_from.push_back(Network::parse("127.0.0.1").value());
  settings.relay_from.push_back(Network::parse("192.0.2.0/24").value());
  settings.timeouts.proxy = Duration(300);
  RunningServer server(settings, 1, nullptr, listener);
  SECTION("from a listed peer") {
    Peer peer(server.port());
    peer.send("PROXY TCP4 192.0.2.7 192.0.2.1 4711 25\r\n");
    CHECK(peer.reply().starts_with("220"));
    CHECK(server.log().wait_for("connected").at(0).value("client") == "192.0.2.7");
    CHECK(server.log().named("connected").at(0).value("proxy") == "127.0.0.1");
    peer.say(kEhlo);
    peer.say("MAIL FROM:<>\r\n");
    CHECK(codes_of(peer.say("RCPT TO:<u@ext.test>\r\n")) == "250");
  }
  SECTION("the peer itself is not the client") {
    Peer peer(server.port());
    peer.send("PROXY TCP4 198.51.100.7 192.0.2.1 4711 25\r\n");
    peer.reply();
    peer.say(kEhlo);
    peer.say("MAIL FROM:<>\r\n");
    CHECK(codes_of(peer.say("RCPT TO:<u@ext.test>\r\n")) == "550");
  }
  SECTION("who the proxy does not know, and the proxy itself, is none of ours") {
    settings.relay_from.push_back(Network::parse("127.0.0.0/8").value());
    server.configure(settings);
    const std::string local("\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00", 16);
    for (const auto& start : {std::string("PROXY UNKNOWN\r\n"), local}) {
      Peer peer(server.port());
      peer.send(start);
      CHECK(peer.reply().starts_with("220"));
      peer.say(kEhlo);
      peer.say("MAIL FROM:<>\r\n");
      CHECK(codes_of(peer.say("RCPT TO:<u@ext.test>\r\n")) == "550");
    }
  }
  SECTION("the slots of our own are not for strangers behind a proxy") {
    settings.limits.sessions = 8;
    server.configure(settings);
    std::vector<Peer> strangers;
    for (int i = 0; i < 7; ++i) {
      strangers.emplace_back(server.port());
      strangers.back().send("PROXY TCP4 198.51.100.7 192.0.2.1 4711 25\r\n");
      CHECK(strangers.back().reply().starts_with("220"));
    }
    Peer late(server.port());
    late.send("PROXY TCP4 198.51.100.7 192.0.2.1 4711 25\r\n");
    CHECK(late.reply() == replies::kAllBusy);
    CHECK(late.is_closed());
    Peer ours(server.port());
    ours.send("PROXY TCP4 192.0.2.7 192.0.2.1 4711 25\r\n");
    CHECK(ours.reply().starts_with("220"));
  }
  SECTION("without one, with a broken one, with none in time, and twice") {
    for (const auto* start :
         {"EHLO x\r\n", "PROXY TCP4 1.2.3 4.5.6.7 1 2\r\n", "PROXY TC",
          "PROXY TCP4 192.0.2.7 192.0.2.1 1 25\r\nPROXY TCP4 192.0.2.8 192.0.2.1 1 25\r\n"}) {
      Peer peer(server.port());
      peer.send(start);
      const auto reply = peer.reply();
      CHECK((reply.empty() || reply == replies::kOutOfStep));
      CHECK(peer.is_closed());
    }
  }
}

TEST_CASE("a refusal that closes is read before the connection ends", "[smtpd][tcp]") {
  RunningServer server;
  for (int i = 0; i < 20; ++i) {
    Peer peer(server.port());
    peer.reply();
    peer.send("GET / HTTP/1.1\r\n" + std::string(100000, 'x'));
    CHECK(peer.reply() == replies::kNotHttp);
    // A connection that is closed before all of it was read is reset, and many never see the reply.
    char more = 0;
    const auto got = ::recv(peer.socket(), &more, 1, 0);
    CHECK(got == 0);
    peer.finish();
    CHECK(peer.is_closed());
  }
}

TEST_CASE("a session has an end", "[smtpd][tcp]") {
  auto settings = strict_settings();
  settings.timeouts.session = Duration(1);
  RunningServer server(settings);
  Peer peer(server.port());
  peer.reply();
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  peer.send("NOOP\r\nNOOP\r\n");
  CHECK(peer.is_closed());
}

TEST_CASE("a reload of listeners keeps what stays and its connections", "[smtpd][tcp]") {
  RunningServer server;
  auto old = greeted_peer(server);
  const smtpd::ListenerSettings same{"127.0.0.1:0"};
  smtpd::ListenerSettings more{"127.0.0.1:0"};
  more.role = smtpd::Role::submission;
  REQUIRE(server.server().relisten({same, more}));
  REQUIRE(server.server().addresses().size() == 2);
  const auto second = server.server().addresses().back();
  Peer submitter(static_cast<std::uint16_t>(std::stoi(second.substr(second.rfind(':') + 1))));
  CHECK(submitter.reply().starts_with("220"));
  REQUIRE_FALSE(server.server().relisten({same, {"nowhere:25"}}));
  CHECK(server.server().addresses().size() == 2);
  REQUIRE(server.server().relisten({more}));
  deliver(old);
  CHECK(codes_of(submitter.say(kEhlo)) == "250");
}
