// Remotes that break off, stall, flood and talk nonsense.
#include "fake_mx.h"
#include "rig.h"

#include <catch2/catch.hpp>

#include <arpa/inet.h>
#include <atomic>
#include <fstream>
#include <map>
#include <sys/socket.h>
#include <unistd.h>

using namespace postrider;
using namespace postrider::delivery;

namespace {

// Runs a function on each connection, one after the other.
class RawPeer {
 public:
  explicit RawPeer(std::function<void(int socket)> serve) : serve_(std::move(serve)) {
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in where{};
    where.sin_family = AF_INET;
    where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof where;
    REQUIRE(::bind(listener_, reinterpret_cast<sockaddr*>(&where), size) == 0);
    REQUIRE(::listen(listener_, 16) == 0);
    ::getsockname(listener_, reinterpret_cast<sockaddr*>(&where), &size);
    port = ntohs(where.sin_port);
    thread_ = std::thread([this] {
      for (int socket = 0; (socket = ::accept(listener_, nullptr, nullptr)) >= 0;) {
        ++connections;
        serve_(socket);
        ::close(socket);
      }
    });
  }
  ~RawPeer() {
    ::shutdown(listener_, SHUT_RDWR);
    thread_.join();
    ::close(listener_);
  }
  std::uint16_t port = 0;
  std::atomic<int> connections{0};

 private:
  std::function<void(int)> serve_;
  int listener_ = -1;
  std::thread thread_;
};

bool say(int socket, std::string_view text) {
  return ::send(socket, text.data(), text.size(), MSG_NOSIGNAL) ==
         static_cast<ssize_t>(text.size());
}

// So many messages, all of them on their way before the first is waited for.
void deliver_all(Rig& rig, int count) {
  std::vector<mail::MessageId> ids;
  for (int i = 0; i < count; ++i)
    ids.push_back(rig.send(make_message({"a@x.test"})));
  for (const auto id : ids)
    CHECK(describe(rig.custody->wait_for(id)) == "0 delivered 2.0.0");
}

// Until the other side has closed.
void wait_for_end(int socket) {
  char room[65536];
  while (::recv(socket, room, sizeof room, 0) > 0) {
  }
}

bool is_harmless(const std::string& words) {
  return words == "0 untried" || words == "0 retry 4.4.2" || words == "0 retry 4.5.0" ||
         words == "0 delivered 2.0.0";
}

}  // namespace

TEST_CASE("M14, M15: a connection dropped after any octet of the replies rejects no mail",
          "[delivery][hostile]") {
  Behaviour behaviour;
  SECTION("DATA") {}
  SECTION("BDAT") {
    behaviour.ehlo = "250-mx\r\n250-PIPELINING\r\n250 CHUNKING\r\n";
  }
  SECTION("no extensions") {
    behaviour.ehlo = "250 mx\r\n";
  }
  FakeMx mx;
  Rig rig({}, 1);
  rig.route_to(mx.port());
  rig.start();
  for (std::size_t sent = 0; sent < 150; ++sent) {
    behaviour.drop_after_sent = sent;
    mx.behave(behaviour);
    const auto before = mx.taken().size();
    const auto words = describe(rig.deliver(make_message({"a@x.test"})));
    INFO(sent << " octets: " << words);
    CHECK(is_harmless(words));
    CHECK((words != "0 delivered 2.0.0" || mx.taken().size() > before));
    rig.clock.advance(std::chrono::hours(6));  // the site is probed again
  }
}

TEST_CASE("421 after any number of messages loses none", "[delivery][hostile]") {
  Behaviour behaviour;
  behaviour.messages_per_connection = 3;
  FakeMx mx(behaviour);
  Rig rig;
  rig.route_to(mx.port());
  rig.settings.site_connections = 2;
  rig.start();
  deliver_all(rig, 60);
}

TEST_CASE("so many messages a connection and no more are no verdict on the next",
          "[delivery][hostile]") {
  Behaviour behaviour;
  behaviour.messages_per_connection = 3;
  behaviour.over_limit =
      GENERATE("452 4.5.3 Too many messages sent\r\n", "451 later\r\n", "503 5.5.1 enough\r\n",
               "421 4.7.0 enough\r\n", "554 5.5.3 too many messages\r\n");
  const bool pipelines = GENERATE(true, false);
  CAPTURE(behaviour.over_limit, pipelines);
  if (!pipelines)
    behaviour.ehlo = "250 mx.test\r\n";
  FakeMx mx(behaviour);
  Rig rig;
  rig.route_to(mx.port());
  rig.settings.site_connections = 2;
  rig.start();
  deliver_all(rig, 40);
  CHECK(mx.taken().size() == 40);
  CHECK(rig.status().deferred == 0);
}

TEST_CASE("what a new connection says too is the verdict", "[delivery][hostile]") {
  Behaviour behaviour;
  behaviour.replies["MAIL FROM:<late@"] = "451 4.3.0 not now\r\n";
  FakeMx mx(behaviour);
  Rig rig;
  rig.route_to(mx.port());
  rig.start();
  CHECK(describe(rig.deliver(make_message({"a@x.test"}))) == "0 delivered 2.0.0");
  auto late = std::make_shared<mail::Message>(*make_message({"a@x.test"}));
  late->envelope.sender = "late@us.test";
  for (int i = 0; i < 5; ++i)
    CHECK(describe(rig.deliver(late)) == "0 retry 4.3.0");
  // One more for all of them: a connection that took nothing is believed.
  CHECK(mx.connections() == 2);
  CHECK(describe(rig.deliver(make_message({"a@x.test"}))) == "0 delivered 2.0.0");
}

TEST_CASE("X08: a remote that stalls or trickles is given up in time", "[delivery][hostile]") {
  std::function<void(int)> serve;
  std::string want = "0 untried";
  Rig rig;
  auto& timeouts = rig.settings.smtp.timeouts;
  timeouts.greeting = std::chrono::milliseconds(300);
  SECTION("says nothing") {
    serve = wait_for_end;
  }
  SECTION("trickles its greeting") {
    serve = [](int socket) {
      say(socket, "220-");
      while (say(socket, "x"))
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
    };
  }
  SECTION("never ends its greeting") {
    serve = [](int socket) {
      const std::string line = "220-" + std::string(500, 'x') + "\r\n";
      while (say(socket, line)) {
      }
    };
  }
  SECTION("a greeting without a line end") {
    serve = [](int socket) {
      const std::string block(65536, 'x');
      while (say(socket, block)) {
      }
    };
  }
  SECTION("stops at RCPT") {
    want = "0 retry 4.4.2";
    std::swap(timeouts.greeting, timeouts.rcpt);  // nothing but RCPT is in a hurry
    serve = [](int socket) {
      say(socket, "220 hi\r\n");
      char room[4096];
      (void)!::recv(socket, room, sizeof room, 0);
      say(socket, "250 mx\r\n");
      (void)!::recv(socket, room, sizeof room, 0);
      say(socket, "250 ok\r\n");
      wait_for_end(socket);
    };
  }
  RawPeer peer(serve);
  rig.route_to(peer.port);
  rig.start();
  CHECK(describe(rig.deliver(make_message({"a@x.test"}))) == want);
}

TEST_CASE("a remote that stops reading a large message is given up in time",
          "[delivery][hostile]") {
  std::atomic<bool> stop{false};
  RawPeer peer([&stop](int socket) {
    say(socket, "220 hi\r\n");
    char room[4096];
    (void)!::recv(socket, room, sizeof room, 0);
    say(socket, "250-mx\r\n250 PIPELINING\r\n");
    (void)!::recv(socket, room, sizeof room, 0);
    say(socket, "250 ok\r\n250 ok\r\n354 go\r\n");
    while (!stop)
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
  });
  Rig rig;
  rig.settings.smtp.timeouts.body_end = rig.settings.smtp.timeouts.block =
      std::chrono::milliseconds(300);
  rig.route_to(peer.port);
  rig.start();
  std::string bytes = "Subject: large\r\n\r\n";
  while (bytes.size() < 20000000)
    bytes += std::string(76, 'x') + "\r\n";
  CHECK(describe(rig.deliver(make_message({"a@x.test"}, bytes))) == "0 retry 4.4.2");
  stop = true;
}

TEST_CASE("a refusal in the middle of a large body is heard", "[delivery][hostile]") {
  RawPeer peer([](int socket) {
    say(socket, "220 hi\r\n");
    char room[65536];
    (void)!::recv(socket, room, sizeof room, 0);
    say(socket, "250-mx\r\n250 PIPELINING\r\n");
    (void)!::recv(socket, room, sizeof room, 0);
    say(socket, "250 ok\r\n250 ok\r\n354 go\r\n");
    (void)!::recv(socket, room, sizeof room, 0);
    say(socket, "552 5.3.4 too big for me\r\n");
    wait_for_end(socket);
  });
  Rig rig;
  rig.route_to(peer.port);
  rig.start();
  std::string bytes = "Subject: large\r\n\r\n";
  while (bytes.size() < 20000000)
    bytes += std::string(76, 'x') + "\r\n";
  CHECK(describe(rig.deliver(make_message({"a@x.test"}, bytes))) == "0 bounce 5.3.4");
}

TEST_CASE("I07: nonsense in place of replies is never believed", "[delivery][hostile]") {
  const std::vector<std::string> answers = {
      "HTTP/1.1 400 Bad Request\r\n\r\n",
      std::string("220 h\0i\r\n", 9) + "999 what\r\n",
      "55\r\n",
      "5x0 no\r\n",
      "220-a\r\n250 b\r\n",
      "\x16\x03\x01\x02",
      "220 hi\r\n250 a\r\n250 b\r\n250 c\r\n250 d\r\n250 e\r\n",
      "\x80\xff\x1b[2J\r\n",
  };
  for (const auto& answer : answers) {
    RawPeer peer([&answer](int socket) {
      say(socket, answer);
      char room[4096];
      (void)!::recv(socket, room, sizeof room, 0);
    });
    Rig rig;
    rig.settings.smtp.timeouts.greeting = std::chrono::milliseconds(300);
    rig.route_to(peer.port);
    rig.start();
    const auto words = describe(rig.deliver(make_message({"a@x.test"})));
    INFO(words);
    CHECK(is_harmless(words));
    CHECK(words != "0 delivered 2.0.0");
    CHECK(peer.connections <= 4);
  }
}

TEST_CASE("a drain ends in time whatever a remote does", "[delivery][hostile]") {
  RawPeer peer([](int socket) {
    say(socket, "220 hi\r\n");
    wait_for_end(socket);
  });
  Rig rig;
  rig.route_to(peer.port);
  rig.start();
  const auto id = rig.send(make_message({"a@x.test"}));
  while (rig.status().connections == 0) {
  }
  rig.drain(std::chrono::milliseconds(200));
  CHECK(describe(rig.custody->wait_for(id)) == "0 untried");
}

TEST_CASE("the reply to the end of a message has a time of its own", "[delivery][hostile]") {
  Behaviour data, chunks, lmtp;
  chunks.ehlo = "250-mx.test\r\n250-PIPELINING\r\n250 CHUNKING\r\n";
  lmtp.ehlo = "250-lmtp\r\n250 PIPELINING\r\n";
  data.end_takes = chunks.end_takes = lmtp.end_takes = std::chrono::milliseconds(3500);
  FakeMx data_mx(data), chunk_mx(chunks), lmtp_mx(lmtp);
  Rig rig;
  rig.settings.smtp.timeouts.block = std::chrono::seconds(3);
  rig.route_to(data_mx.port(), "data.test");
  rig.route_to(chunk_mx.port(), "bdat.test");
  rig.route_to(lmtp_mx.port(), "lmtp.test").next_hop.kind = NextHop::Kind::lmtp;
  rig.start();
  std::string large = "Subject: large\r\n\r\n";
  while (large.size() < 1000000)
    large += std::string(76, 'x') + "\r\n";
  std::ofstream(rig.folder / "body") << large;
  std::vector<mail::MessageId> sent;
  for (const std::string domain : {"data.test", "bdat.test", "lmtp.test"}) {
    sent.push_back(rig.send(make_message({"a@" + domain})));
    sent.push_back(rig.send(make_message({"b@" + domain}, large)));
    auto spooled = make_message({"c@" + domain}, large);
    spooled->content.bytes = nullptr;
    spooled->content.file = "body";
    sent.push_back(rig.send(spooled));
  }
  for (const auto id : sent)
    CHECK(describe(rig.custody->wait_for(id)) == "0 delivered 2.0.0");
}

TEST_CASE("LMTP: what was answered is recorded while the last recipient waits",
          "[delivery][hostile]") {
  RawPeer peer([](int socket) {
    say(socket, "220 hi\r\n");
    std::string heard;
    char room[65536];
    const auto hear = [&](std::string_view what) {
      while (heard.find(what) == std::string::npos) {
        const auto got = ::recv(socket, room, sizeof room, 0);
        if (got <= 0)
          return;
        heard.append(room, static_cast<std::size_t>(got));
      }
      heard.clear();
    };
    hear("LHLO");
    say(socket, "250-mx\r\n250 PIPELINING\r\n");
    hear("DATA\r\n");
    say(socket, "250 ok\r\n250 ok\r\n550 5.1.1 no\r\n250 ok\r\n250 ok\r\n354 go\r\n");
    hear("\r\n.\r\n");
    say(socket, "250 2.0.0 kept\r\n452 4.2.2 full\r\n");
    wait_for_end(socket);
  });
  Rig rig;
  rig.route_to(peer.port).next_hop.kind = NextHop::Kind::lmtp;
  rig.start();
  const auto id = rig.send(make_message({"a@x.test", "b@x.test", "c@x.test", "d@x.test"}));
  std::map<std::uint32_t, mail::Verdict> known;
  while (known.size() < 3) {
    const auto part = rig.custody->wait_for(id);
    REQUIRE(part.partial);
    for (const auto& result : part.results)
      CHECK(known.emplace(result.index, result.outcome.verdict).second);
  }
  CHECK(known == std::map<std::uint32_t, mail::Verdict>{{0, mail::Verdict::delivered},
                                                        {1, mail::Verdict::bounce},
                                                        {2, mail::Verdict::retry}});
  rig.drain(std::chrono::milliseconds(10));
  CHECK(describe(rig.custody->wait_for(id)).starts_with("3 retry 4."));
}

TEST_CASE("a host that hangs up right behind its EHLO reply is left after a few connections",
          "[delivery][hostile]") {
  RawPeer peer([](int socket) {
    say(socket, "220 hi\r\n");
    char room[4096];
    (void)!::recv(socket, room, sizeof room, 0);
    say(socket, "250 mx\r\n");
  });
  Rig rig;
  rig.route_to(peer.port);
  rig.start();
  const auto words = describe(rig.deliver(make_message({"a@x.test"})));
  INFO(words);
  CHECK((words == "0 untried" || words == "0 retry 4.4.2"));
  CHECK(peer.connections <= 6);
}
