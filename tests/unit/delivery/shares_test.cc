// Who gets a connection when there are not enough, and what is known while others are waited for.
#include "fake_mx.h"
#include "rig.h"

#include "delivery/connection_shares.h"
#include "delivery/dispatcher.h"
#include "queue/listed_reasons.h"

#include <catch2/catch.hpp>

#include <arpa/inet.h>
#include <fstream>
#include <future>
#include <set>
#include <sys/socket.h>
#include <unistd.h>

using namespace postrider;
using namespace postrider::delivery;
using std::chrono::seconds;

namespace {

// Lets clients connect, and says nothing.
class SilentMx {
 public:
  SilentMx(const std::string& address, std::uint16_t port) {
    socket_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in where{};
    where.sin_family = AF_INET;
    where.sin_port = htons(port);
    ::inet_pton(AF_INET, address.c_str(), &where.sin_addr);
    const int on = 1;
    ::setsockopt(socket_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    REQUIRE(::bind(socket_, reinterpret_cast<sockaddr*>(&where), sizeof where) == 0);
    REQUIRE(::listen(socket_, 200) == 0);
  }
  ~SilentMx() { ::close(socket_); }
  SilentMx(const SilentMx&) = delete;
  SilentMx& operator=(const SilentMx&) = delete;

 private:
  int socket_;
};

// Domains s0.test, s1.test, ... each with a host of its own, at these addresses in turn.
std::string silent_zone(int count, const std::vector<std::string>& addresses) {
  std::string zone;
  for (int i = 0; i < count; ++i) {
    const auto name = std::to_string(i) + ".test";
    zone += "s" + name + " MX 10 m" + name + "\nm" + name + " A " +
            addresses[static_cast<std::size_t>(i) % addresses.size()] + "\n";
  }
  return zone;
}

constexpr const char* kGood = R"(
  good.test MX 10 mx.good.test
  mx.good.test A 127.0.0.2
  new.test MX 10 mx.new.test
  mx.new.test A 127.0.0.2
)";

Behaviour hanging_at(const std::string& command) {
  Behaviour behaviour;
  behaviour.ehlo = "250 mx.test\r\n";  // without PIPELINING nothing goes out behind it
  behaviour.replies[command] = "";
  return behaviour;
}

std::vector<queue::Revocation> revoke(Rig& rig, std::vector<queue::Revocation> wanted) {
  std::promise<std::vector<queue::Revocation>> answer;
  rig.dispatcher->revoke(std::move(wanted), [&](std::vector<queue::Revocation> under_way) {
    answer.set_value(std::move(under_way));
  });
  return answer.get_future().get();
}

std::size_t fill(const ConnectionShares& shares, Standing standing, std::size_t sites,
                 std::size_t wanted, ConnectionShares::Usage& usage) {
  std::vector<std::size_t> own(sites);
  const auto before = usage.all;
  for (bool more = true; more;) {
    more = false;
    for (auto& each : own)
      if (each < wanted && shares.may_add(standing, false, each, usage)) {
        ++each;
        ++usage.all;
        usage.strangers += standing == Standing::stranger ? 1 : 0;
        more = true;
      }
  }
  return usage.all - before;
}

}  // namespace

TEST_CASE("what waits ends when its time is over, and what is under way as it ends",
          "[delivery][shares][revoke]") {
  auto behaviour = hanging_at("RCPT");
  FakeMx mx(behaviour);
  Rig rig;
  rig.settings.site_connections = 1;
  rig.route_to(mx.port());
  rig.start();
  std::vector<queue::Overdue> late;
  const auto send = [&](const std::vector<std::string>& to) {
    const auto id = rig.send(make_message(to));
    auto& one = late.emplace_back();
    one.id = id;
    for (std::uint32_t i = 0; i < to.size(); ++i) {
      mail::Outcome last;
      last.text = queue::kBeingTried;
      one.recipients.push_back({i, 0, last, {}});
    }
    return id;
  };
  const auto first = send({"a@x.test"});
  rig.wait_until([&] { return mx.connections() == 1; });
  const auto plain = send({"b@x.test"});
  const auto several = send({"c@x.test", "d@x.test", "C@X.test", "D@x.test"});
  const auto known = send({"e@x.test"});
  late.back().recipients[0].last->text = "greylisted";
  const auto other = rig.send(make_message({"f@x.test", "g@x.test"}));
  late.push_back({other, {{1, 0, std::nullopt, {}}}});
  rig.dispatcher->expire(late);
  const auto ended = rig.custody->wait_for(plain);
  CHECK(describe(ended) == "0 bounce 5.4.7");
  CHECK(ended.lease == static_cast<std::uint64_t>(plain.value));
  REQUIRE(ended.results.size() == 1);
  CHECK(ended.results[0].outcome.text.find("it waits for its turn: ") != std::string::npos);
  CHECK(ended.notices.size() == 1);
  std::set<std::uint32_t> ends;
  while (ends.size() < 4)
    for (const auto& result : rig.custody->wait_for(several).results) {
      CHECK(result.outcome.verdict == mail::Verdict::bounce);
      ends.insert(result.index);
    }
  const auto was_known = rig.custody->wait_for(known);
  REQUIRE(was_known.results.size() == 1);
  CHECK(was_known.results[0].outcome.text.find("greylisted") != std::string::npos);
  CHECK(describe(rig.custody->wait_for(other)) == "1 bounce 5.4.7");
  CHECK(rig.status().leases == 2);  // the first, and what is left of the other
  rig.drain(std::chrono::milliseconds(100));
  CHECK(describe(rig.custody->wait_for(other)) == "0 untried");
  CHECK(rig.custody->wait_for(first).results.size() == 1);
}

TEST_CASE("connections are shared out by standing", "[delivery][shares]") {
  const ConnectionShares shares(400);
  ConnectionShares::Usage usage;
  SECTION("one site alone has plenty") {
    CHECK(fill(shares, Standing::prompt, 1, 300, usage) == 300);
  }
  SECTION("strangers have half") {
    CHECK(fill(shares, Standing::stranger, 600, 1, usage) == 200);
    CHECK(fill(shares, Standing::prompt, 100, 1, usage) == 100);
    CHECK(fill(shares, Standing::slow, 600, 20, usage) == 50);
    CHECK(usage.all == 350);
  }
  SECTION("strangers have only a quarter beyond the first of each") {
    CHECK(fill(shares, Standing::stranger, 10, 20, usage) == 100);
  }
  SECTION("slow sites leave a quarter, and share the rest") {
    CHECK(fill(shares, Standing::slow, 60, 20, usage) >= 280);
    CHECK(usage.all <= 300);
    CHECK(fill(shares, Standing::prompt, 100, 1, usage) == 100);
  }
  SECTION("few connections still serve everybody") {
    for (std::size_t most = 1; most < 9; ++most) {
      const ConnectionShares few(most);
      for (const auto standing : {Standing::stranger, Standing::slow, Standing::prompt})
        CHECK(few.may_add(standing, false, 0, {}));
    }
  }
}

TEST_CASE("many silent sites do not stop the others", "[delivery][shares]") {
  FakeMx good({}, "127.0.0.2");
  const std::vector<std::string> pit = {"127.1.0.1", "127.1.0.2", "127.1.0.3"};
  std::vector<std::unique_ptr<SilentMx>> silent;
  for (const auto& address : pit)
    silent.push_back(std::make_unique<SilentMx>(address, good.port()));
  Rig rig(kGood + silent_zone(60, pit));
  rig.settings.port = good.port();
  rig.settings.connections = 20;
  rig.settings.smtp.idle_connection = std::chrono::minutes(1);
  rig.start();
  CHECK(describe(rig.deliver(make_message({"a@good.test"}))) == "0 delivered 2.0.0");
  for (int i = 0; i < 60; ++i)
    rig.send(make_message({"a@s" + std::to_string(i) + ".test"}));
  rig.wait_until([&] { return rig.status().connections == 11; });  // half, and the good one
  CHECK(describe(rig.deliver(make_message({"a@good.test"}))) == "0 delivered 2.0.0");
  CHECK(good.connections() == 1);  // whose connection was not taken from it

  // One that nobody knows yet has its turn before the many that came before it.
  rig.wait_until([&] { return rig.status().sites == 61; });
  const auto id = rig.send(make_message({"a@new.test"}));
  rig.wait_until([&] { return rig.explain("a@new.test").site.waiting == 1; });
  rig.clock.advance(seconds(2));
  CHECK(describe(rig.custody->wait_for(id)) == "0 delivered 2.0.0");
  CHECK(rig.status().connections <= 12);
}

// None of those that hang is ended for it while there is room aside, for twice as many as count.
TEST_CASE("a newcomer begins at once, however many sites hang behind the content",
          "[delivery][shares]") {
  const auto [hanging, connections] =
      GENERATE(table<int, unsigned>({{8, 12U}, {30, 12U}, {60, 100U}, {350, 200U}, {500, 200U}}));
  CAPTURE(hanging, connections);
  const bool has_room_aside = static_cast<unsigned>(hanging) <= 2 * connections;
  constexpr int kNew = 20;
  FakeMx good({}, "127.0.0.2");
  std::vector<std::unique_ptr<FakeMx>> bad;
  std::vector<std::string> addresses;
  for (int i = 0; i * 10 < hanging; ++i) {
    addresses.push_back("127.3.0." + std::to_string(i + 1));
    bad.push_back(std::make_unique<FakeMx>(hanging_at("."), addresses.back(), good.port()));
  }
  std::string zone = silent_zone(hanging, addresses);
  for (int i = 0; i < kNew; ++i) {
    const auto name = std::to_string(i) + ".test";
    zone += "g" + name + " MX 10 mg" + name + "\nmg" + name + " A 127.0.0.2\n";
  }
  Rig rig(zone);
  rig.settings.port = good.port();
  rig.settings.connections = connections;
  rig.start();
  std::vector<mail::MessageId> silent;
  for (int i = 0; i < hanging; ++i)
    silent.push_back(rig.send(make_message({"a@s" + std::to_string(i) + ".test"})));
  // One after the other, for each hangs when it has its turn. Time goes on only when all that have a
  // connection hang: on a busy machine one that is still in the middle of its message would seem to
  // have been silent for seconds, and give way with no content sent.
  rig.wait_until([&, most = connections] {
    std::size_t contents = 0;
    for (const auto& one : bad)
      contents += one->contents();
    const auto open = rig.status().connections;
    CHECK(open <= most / 2 + 2 * most);
    if (open <= contents)
      rig.clock.advance(std::chrono::milliseconds(100));
    return contents == static_cast<std::size_t>(hanging);
  });
  rig.clock.advance(has_room_aside ? seconds(2) : seconds(121));
  std::vector<mail::MessageId> fresh;
  for (int i = 0; i < kNew; ++i)
    fresh.push_back(rig.send(make_message({"a@g" + std::to_string(i) + ".test"})));
  for (const auto id : fresh)
    CHECK(describe(rig.custody->wait_for(id)) == "0 delivered 2.0.0");
  CHECK(rig.status().connections <= 3 * connections);
  const auto sites = rig.custody->sites();
  if (has_room_aside) {
    CHECK(sites.empty());
    std::size_t contents = 0;
    for (const auto& one : bad)
      contents += one->contents();
    CHECK(contents == static_cast<std::size_t>(hanging));
    return;
  }
  // Who gave way is tried again later, with all that waits for its site.
  REQUIRE_FALSE(sites.empty());
  const auto one = std::stoul(sites.begin()->first.substr(1));  // "m17.test:2525"
  const auto record = rig.custody->wait_for(silent.at(one));
  REQUIRE(record.results.size() == 1);
  CHECK(record.results[0].outcome.stage == mail::Stage::body_end);
  CHECK_THAT(record.results[0].outcome.text, Catch::Contains("(it may arrive twice)"));
}

// A host that has answered is slow: it keeps its conversation, and others get its place.
TEST_CASE("a host that is silent in the middle of a message keeps its connection beside many",
          "[delivery][shares]") {
  const auto [stage, silence] =
      GENERATE(table<const char*, int>({{"MAIL", 5}, {"RCPT", 5}, {"RCPT", 60}, {"DATA", 60}}));
  CAPTURE(stage, silence);
  FakeMx good({}, "127.0.0.2");
  FakeMx slow(hanging_at(stage), "127.0.0.3", good.port());
  const std::vector<std::string> pit = {"127.1.0.1", "127.1.0.2", "127.1.0.3"};
  std::vector<std::unique_ptr<SilentMx>> silent;
  for (const auto& address : pit)
    silent.push_back(std::make_unique<SilentMx>(address, good.port()));
  Rig rig(kGood + silent_zone(60, pit) +
          "slow.test MX 10 mx.slow.test\nmx.slow.test A 127.0.0.3\n");
  rig.settings.port = good.port();
  rig.settings.connections = 12;
  rig.start();
  rig.send(make_message({"a@slow.test"}));
  rig.wait_until([&] { return slow.times(stage) == 1; });
  for (int i = 0; i < 60; ++i)
    rig.send(make_message({"a@s" + std::to_string(i) + ".test"}));
  rig.wait_until([&] { return rig.status().sites == 61; });
  for (int second = 0; second < silence; ++second) {
    rig.clock.advance(seconds(1));
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  rig.send(make_message({"a@new.test"}));
  rig.pass_time_until(std::chrono::milliseconds(100), {&good, &slow},
                      [&] { return good.taken().size() == 1; });
  CHECK(slow.connections_open() == 1);
  CHECK(slow.connections() == 1);
  CHECK(rig.explain("a@slow.test").site.state == "open");
}

TEST_CASE("who waits aside is left alone while there is room aside, however long he is silent",
          "[delivery][shares]") {
  Behaviour slow;
  slow.end_takes = std::chrono::milliseconds(300);
  FakeMx good(slow, "127.0.0.2");
  FakeMx bad(hanging_at("."), "127.3.0.1", good.port());
  std::string zone = silent_zone(8, {"127.3.0.1"});
  for (int i = 0; i < 24; ++i) {
    const auto name = std::to_string(i) + ".test";
    zone += "g" + name + " MX 10 n" + name + "\nn" + name + " A 127.0.0.2\n";
  }
  Rig rig(zone);
  rig.settings.port = good.port();
  rig.settings.connections = 12;
  rig.start();
  for (int i = 0; i < 8; ++i)
    rig.send(make_message({"a@s" + std::to_string(i) + ".test"}));
  rig.pass_time_until(std::chrono::milliseconds(100), {&good, &bad},
                      [&] { return bad.contents() == 8; });
  for (const int from : {0, 12}) {
    std::vector<mail::MessageId> fresh;
    for (int i = from; i < from + 12; ++i)
      fresh.push_back(rig.send(make_message({"a@g" + std::to_string(i) + ".test"})));
    const auto want = good.taken().size() + fresh.size();
    rig.pass_time_until(std::chrono::milliseconds(50), {&good, &bad},
                        [&] { return good.taken().size() == want; });
    for (const auto id : fresh)
      CHECK(describe(rig.custody->wait_for(id)) == "0 delivered 2.0.0");
    rig.clock.advance(seconds(200));
  }
  CHECK(rig.custody->sites().empty());
  CHECK(rig.custody->records_left() == 0);
  CHECK(bad.contents() == 8);
}

// A filter of theirs that chokes on some messages keeps them for ten minutes.
TEST_CASE("messages that hang behind their content leave places to others of their site",
          "[delivery][shares]") {
  const bool is_by_mx = GENERATE(false, true);
  FakeMx mx(hanging_at("."), "127.0.0.2");
  Rig rig(kGood);
  rig.settings.site_connections = 2;
  rig.settings.port = mx.port();
  if (!is_by_mx)
    rig.route_to(mx.port()).next_hop.host = "127.0.0.2";
  rig.start();
  std::vector<mail::MessageId> hanging;
  const auto send_hanging = [&] {
    const auto want = mx.contents() + 1;
    hanging.push_back(rig.send(make_message({"a@good.test"})));
    rig.pass_time_until(std::chrono::milliseconds(100), {&mx},
                        [&] { return mx.contents() == want; });
  };
  for (int i = 0; i < 3; ++i)
    send_hanging();
  SECTION("which go on") {
    mx.behave({});
    std::vector<mail::MessageId> others;
    for (int i = 0; i < 5; ++i)
      others.push_back(rig.send(make_message({"b@good.test"})));
    rig.pass_time_until(std::chrono::milliseconds(100), {&mx},
                        [&] { return mx.taken().size() == 5; });
    for (const auto id : others)
      CHECK(describe(rig.custody->wait_for(id)) == "0 delivered 2.0.0");
    CHECK(mx.connections_open() >= 3);
  }
  SECTION("up to ten of them") {
    for (int i = 3; i < 12; ++i)
      send_hanging();
    rig.send(make_message({"a@good.test"}));
    for (int second = 0; second < 20; ++second) {
      rig.clock.advance(seconds(1));
      std::this_thread::sleep_for(std::chrono::milliseconds(110));
    }
    CHECK(mx.contents() == 12);
    CHECK(mx.connections_open() <= 12);
  }
  CHECK(rig.custody->sites().empty());
  CHECK(rig.custody->records_left() == 0);  // none of them was ended for others
}

// Seconds of the rig's clock until it came, at a pace at which its loops follow.
int seconds_until(Rig& rig, const std::function<bool()>& came) {
  int passed = 0;
  for (; passed < 120 && !came(); ++passed) {
    rig.clock.advance(seconds(1));
    std::this_thread::sleep_for(std::chrono::milliseconds(110));
  }
  return passed;
}

// A tarpit, a filter that looks at some senders or recipients for minutes.
TEST_CASE("messages that hang at a command leave places to others of their site",
          "[delivery][shares]") {
  const auto* const command = GENERATE("MAIL FROM:<bad", "RCPT TO:<bad");
  CAPTURE(command);
  FakeMx mx(hanging_at(command), "127.0.0.2");
  Rig rig(kGood);
  rig.settings.port = mx.port();
  rig.start();
  CHECK(describe(rig.deliver(make_message({"a@good.test"}))) == "0 delivered 2.0.0");
  for (int i = 0; i < 6; ++i) {
    auto message = make_message({"bad@good.test"});
    message->envelope.sender = "bad@src.test";
    rig.send(std::move(message));
  }
  std::vector<mail::MessageId> others;
  for (int i = 0; i < 5; ++i)
    others.push_back(rig.send(make_message({"b@good.test"})));
  CHECK(seconds_until(rig, [&] { return mx.taken().size() == 6; }) < 30);
  for (const auto id : others)
    CHECK(describe(rig.custody->wait_for(id)) == "0 delivered 2.0.0");
  CHECK(rig.custody->sites().empty());
  CHECK(rig.custody->records_left() == 0);  // none of the others was ended for it
}

TEST_CASE("a connection on which a host says nothing holds up no other mail of its site",
          "[delivery][shares]") {
  const auto* const command = GENERATE("", "EHLO");
  CAPTURE(command);
  FakeMx mx(hanging_at(command), "127.0.0.2");
  Rig rig(kGood);
  rig.settings.port = mx.port();
  rig.start();
  for (int i = 0; i < 5; ++i)
    rig.send(make_message({"a@good.test"}));
  const auto heard = [&] { return *command == 0 ? mx.connections() : mx.times("EHLO"); };
  rig.wait_until([&] { return heard() == 1; });
  SECTION("where it speaks on the next one") {
    mx.behave({});
    CHECK(seconds_until(rig, [&] { return mx.taken().size() == 5; }) < 12);
    CHECK(rig.custody->sites().empty());
    // And that says nothing about the next.
    CHECK(describe(rig.deliver(make_message({"a@good.test"}))) == "0 delivered 2.0.0");
  }
  SECTION("and three of them are all that one that never speaks gets") {
    const auto begun = rig.clock.now();
    seconds_until(rig, [&] { return rig.clock.now() - begun > seconds(40); });
    CHECK(heard() == 3);
    CHECK(mx.connections() == 3);
  }
}

TEST_CASE("a silent connection is waited for where there may be no other", "[delivery][shares]") {
  const auto* const command = GENERATE("", "EHLO", "MAIL", "RCPT", "DATA");
  CAPTURE(command);
  FakeMx mx(hanging_at(command), "127.0.0.2");
  Rig rig(kGood);
  rig.settings.site_connections = 1;
  rig.settings.port = mx.port();
  rig.start();
  for (int i = 0; i < 3; ++i)
    rig.send(make_message({"a@good.test"}));
  rig.wait_until([&] { return mx.connections() == 1; });
  const auto begun = rig.clock.now();
  seconds_until(rig, [&] { return rig.clock.now() - begun > seconds(30); });
  CHECK(mx.connections() == 1);
}

TEST_CASE("a host that refuses a second connection gets none for a silent one",
          "[delivery][shares]") {
  auto how = hanging_at("RCPT TO:<bad");
  how.most_connections = 1;
  FakeMx mx(how, "127.0.0.2");
  Rig rig(kGood);
  rig.settings.port = mx.port();
  rig.start();
  for (int i = 0; i < 10; ++i)
    rig.send(make_message({"a@good.test"}));
  CHECK(seconds_until(rig, [&] { return mx.taken().size() == 10; }) < 60);
  rig.send(make_message({"bad@good.test"}));
  for (int i = 0; i < 5; ++i)
    rig.send(make_message({"b@good.test"}));
  const auto refused = mx.connections_refused();
  const auto begun = rig.clock.now();
  seconds_until(rig, [&] { return rig.clock.now() - begun > seconds(40); });
  CHECK(mx.connections_refused() <= refused + 2);
}

TEST_CASE("a preferred host that says nothing goes behind the others", "[delivery][shares]") {
  FakeMx first(hanging_at(""), "127.0.0.2");
  FakeMx second({}, "127.0.0.3", first.port());
  Rig rig(
      "two.test MX 10 m1.two.test\ntwo.test MX 20 m2.two.test\n"
      "m1.two.test A 127.0.0.2\nm2.two.test A 127.0.0.3\n");
  rig.settings.port = first.port();
  rig.start();
  for (int i = 0; i < 5; ++i)
    rig.send(make_message({"a@two.test"}));
  CHECK(seconds_until(rig, [&] { return second.taken().size() == 5; }) < 12);
  CHECK(first.connections() == 1);
}

TEST_CASE("no more than ten connections of a site carry what met silence before",
          "[delivery][shares]") {
  Behaviour dropping;
  dropping.drop_at = ".";
  FakeMx mx(dropping);
  Rig rig;
  rig.route_to(mx.port());
  rig.start();
  std::vector<std::shared_ptr<mail::Message>> doubtful;
  for (int i = 0; i < 14; ++i) {
    doubtful.push_back(make_message({"a@x.test"}));
    CHECK(describe(rig.deliver(doubtful.back())) == "0 retry 4.4.2");
  }
  SECTION("where they hang the rest is not begun") {
    mx.behave(hanging_at("."));
    for (const auto& message : doubtful)
      rig.send(message);
    rig.pass_time_until(std::chrono::milliseconds(100), {&mx},
                        [&] { return rig.custody->records_left() == 4; });
    CHECK(mx.contents() == 10);
    mx.behave({});
    CHECK(describe(rig.deliver(make_message({"b@x.test"}))) == "0 delivered 2.0.0");
  }
  SECTION("and where they are taken all go at once") {
    Behaviour slow;
    slow.end_takes = std::chrono::milliseconds(50);
    mx.behave(slow);
    for (const auto& message : doubtful)
      rig.send(message);
    for (const auto& message : doubtful)
      CHECK(describe(rig.custody->wait_for(message->id)) == "0 delivered 2.0.0");
  }
}

TEST_CASE("a connection that was aside counts again when it has its reply", "[delivery][shares]") {
  Behaviour slow;
  slow.end_takes = std::chrono::milliseconds(500);
  FakeMx host(slow, "127.3.0.1");
  FakeMx second(slow, "127.3.0.2", host.port());
  Rig rig(silent_zone(30, {"127.3.0.1", "127.3.0.2"}));
  rig.settings.port = host.port();
  rig.settings.connections = 12;
  rig.settings.smtp.idle_connection = std::chrono::minutes(10);
  rig.start();
  std::vector<mail::MessageId> sent;
  for (int i = 0; i < 30; ++i)
    sent.push_back(rig.send(make_message({"a@s" + std::to_string(i) + ".test"})));
  rig.pass_time_until(std::chrono::milliseconds(300), {&host, &second},
                      [&] { return host.taken().size() + second.taken().size() == 30; });
  for (const auto id : sent)
    CHECK(describe(rig.custody->wait_for(id)) == "0 delivered 2.0.0");
  rig.wait_until([&] { return rig.status().connections <= 12; });
}

// Filters of theirs take their time, and they have the message while they do.
TEST_CASE("hosts that need long for a message get it once, however many others wait",
          "[delivery][shares]") {
  Behaviour behaviour;
  behaviour.end_takes = std::chrono::seconds(1);
  FakeMx first(behaviour, "127.3.0.1");
  FakeMx second(behaviour, "127.3.0.2", first.port());
  FakeMx third(behaviour, "127.3.0.3", first.port());
  Rig rig(silent_zone(45, {"127.3.0.1", "127.3.0.2", "127.3.0.3"}));
  rig.settings.port = first.port();
  rig.settings.connections = 20;
  rig.start();
  std::vector<mail::MessageId> sent;
  for (int i = 0; i < 45; ++i)
    sent.push_back(rig.send(make_message({"a@s" + std::to_string(i) + ".test"})));
  const auto taken = [&] {
    return first.taken().size() + second.taken().size() + third.taken().size();
  };
  rig.pass_time_until(std::chrono::milliseconds(300), {&first, &second, &third},
                      [&] { return taken() >= 45; });
  for (const auto id : sent)
    CHECK(describe(rig.custody->wait_for(id)) == "0 delivered 2.0.0");
  CHECK(taken() == 45);
  CHECK(rig.custody->sites().empty());
}

TEST_CASE("who was good and hangs now gives places to newcomers too", "[delivery][shares]") {
  FakeMx fresh({}, "127.0.0.2");
  FakeMx changing({}, "127.0.0.3", fresh.port());
  Rig rig(kGood + silent_zone(16, {"127.0.0.3"}));
  rig.settings.port = fresh.port();
  rig.settings.connections = 16;
  rig.settings.smtp.idle_connection = std::chrono::milliseconds(1);
  rig.start();
  const auto name = [](int i) { return "a@s" + std::to_string(i) + ".test"; };
  for (int i = 0; i < 16; ++i)
    CHECK(describe(rig.deliver(make_message({name(i)}))) == "0 delivered 2.0.0");
  rig.wait_until([&] { return rig.status().connections == 0; });
  changing.behave(hanging_at("."));
  for (int i = 0; i < 16; ++i)
    rig.send(make_message({name(i)}));
  rig.wait_until([&] { return changing.contents() == 32; });
  const auto id = rig.send(make_message({"a@new.test"}));
  rig.wait_until([&] { return rig.explain("a@new.test").site.waiting == 1; });
  rig.clock.advance(seconds(29));
  CHECK(rig.status().connections == 16);
  rig.clock.advance(seconds(2));
  CHECK(describe(rig.custody->wait_for(id)) == "0 delivered 2.0.0");
  CHECK(rig.status().connections >= 12);  // not more gave way than had to
}

TEST_CASE("hosts that are silent behind the content leave places to those that are known",
          "[delivery][shares]") {
  FakeMx good({}, "127.0.0.2");
  Rig rig(kGood);
  rig.settings.port = good.port();
  rig.settings.connections = 12;
  SECTION("of routes") {
    rig.route_to(good.port(), "known.test").next_hop.host = "127.0.0.2";
    std::vector<std::unique_ptr<FakeMx>> silent;
    for (int i = 0; i < 13; ++i) {
      silent.push_back(std::make_unique<FakeMx>(hanging_at(".")));
      rig.route_to(silent.back()->port(), "r" + std::to_string(i) + ".test");
    }
    rig.start();
    CHECK(describe(rig.deliver(make_message({"a@known.test"}))) == "0 delivered 2.0.0");
    for (int i = 0; i < 13; ++i)
      rig.send(make_message({"a@r" + std::to_string(i) + ".test"}));
    rig.wait_until([&] {
      std::size_t hanging = 0;
      for (const auto& one : silent)
        hanging += one->connections();
      return hanging == 10;
    });
    CHECK(describe(rig.deliver(make_message({"a@known.test"}))) == "0 delivered 2.0.0");
  }
}

TEST_CASE("newcomers have their turn however many came before", "[delivery][shares]") {
  Behaviour silence;
  silence.replies[""] = "";
  FakeMx silent(silence, "127.1.0.1");
  Rig rig(silent_zone(14, {"127.1.0.1"}));
  rig.settings.port = silent.port();
  rig.settings.connections = 4;  // two of them for strangers
  rig.start();
  for (int i = 0; i < 14; ++i)
    rig.send(make_message({"a@s" + std::to_string(i) + ".test"}));
  rig.wait_until([&] { return rig.status().sites == 14; });
  for (std::size_t seen = 2; seen <= 10; seen += 2) {
    rig.wait_until([&] { return silent.connections() >= seen; });
    CHECK(rig.custody->sites().empty());  // by giving way, not because one's time was over
    rig.clock.advance(std::chrono::milliseconds(1001));
  }
}

TEST_CASE("one address has at most twenty connections, whatever leads there",
          "[delivery][shares]") {
  FakeMx good({}, "127.0.0.2");
  SilentMx silent("127.1.0.1", good.port());
  Rig rig(kGood + silent_zone(40, {"127.1.0.1"}));
  rig.settings.port = good.port();
  rig.settings.connections = 200;
  rig.start();
  for (int i = 0; i < 40; ++i)
    rig.send(make_message({"a@s" + std::to_string(i) + ".test"}));
  rig.wait_until([&] { return rig.status().connections == 20; });
  CHECK(describe(rig.deliver(make_message({"a@good.test"}))) == "0 delivered 2.0.0");
  CHECK(rig.status().connections_opened == 21);
}

TEST_CASE("sites that share an address take turns there", "[delivery][shares]") {
  Behaviour slow;
  slow.end_takes = std::chrono::milliseconds(100);
  FakeMx host(slow, "127.0.0.2");
  Rig rig(silent_zone(25, {"127.0.0.2"}));
  rig.settings.port = host.port();
  rig.settings.connections = 200;
  const auto send = [&](int site, int messages) {
    for (int i = 0; i < messages; ++i)
      rig.send(make_message({"a@s" + std::to_string(site) + ".test"}));
  };
  int sent = 0;
  SECTION("one that has several connections gives one up") {
    rig.settings.site_connections = 5;
    rig.start();
    for (int site = 0; site < 4; ++site)
      send(site, 100);
    sent = 400;
    rig.wait_until([&] { return rig.status().connections == 20; });
  }
  SECTION("one that has one connection gives it up after a while") {
    rig.settings.site_connections = 1;
    rig.start();
    for (int site = 0; site < 20; ++site)
      send(site, 20);
    sent = 400;
    rig.wait_until([&] { return rig.status().connections == 20; });
    rig.clock.advance(seconds(11));
  }
  send(24, 1);
  const auto came = [&] {
    for (const auto& one : host.taken())
      if (one.rcpts.front().find("@s24.test") != std::string::npos)
        return true;
    return false;
  };
  rig.wait_until(came);
  CHECK(host.taken().size() < static_cast<std::size_t>(sent));
  rig.wait_until([&] { return host.taken().size() == static_cast<std::size_t>(sent) + 1; });
}

// The clock passes with the work: half a second for each message of every site.
TEST_CASE("sites of one connection take turns however short their messages are",
          "[delivery][shares]") {
  Behaviour slow;
  slow.end_takes = std::chrono::milliseconds(20);
  FakeMx host(slow, "127.0.0.2");
  Rig rig(silent_zone(25, {"127.0.0.2"}));
  rig.settings.port = host.port();
  rig.settings.connections = 200;
  rig.settings.site_connections = 1;
  rig.start();
  constexpr std::size_t kSites = 20, kEach = 60;
  for (std::size_t site = 0; site < kSites; ++site)
    for (std::size_t i = 0; i < kEach; ++i)
      rig.send(make_message({"a@s" + std::to_string(site) + ".test"}));
  rig.wait_until([&] { return rig.status().connections == kSites; });
  rig.send(make_message({"a@s24.test"}));
  std::size_t next = host.taken().size();
  rig.wait_until([&] {
    const auto taken = host.taken();
    if (taken.size() >= next) {
      next = taken.size() + kSites;
      rig.clock.advance(std::chrono::milliseconds(500));
    }
    return std::any_of(taken.begin(), taken.end(), [](const auto& one) {
      return one.rcpts.front().find("@s24.test") != std::string::npos;
    });
  });
  CHECK(host.taken().size() < kSites * kEach);
  rig.wait_until([&] { return host.taken().size() == kSites * kEach + 1; });
}

TEST_CASE("a site has one connection until it has answered", "[delivery][shares]") {
  FakeMx good({}, "127.0.0.2");
  SilentMx silent("127.1.0.1", good.port());
  Rig rig(kGood + silent_zone(1, {"127.1.0.1"}));
  rig.settings.port = good.port();
  rig.start();
  for (int i = 0; i < 10; ++i)
    rig.send(make_message({"a@s0.test"}));
  rig.wait_until([&] { return rig.status().connections > 0; });
  CHECK(describe(rig.deliver(make_message({"a@good.test"}))) == "0 delivered 2.0.0");
  CHECK(rig.status().connections_opened == 2);
}

TEST_CASE("sites that hang behind EHLO are strangers too", "[delivery][shares]") {
  FakeMx good({}, "127.0.0.2");
  FakeMx bad(hanging_at("MAIL"), "127.0.0.3", good.port());
  Rig rig(kGood + silent_zone(8, {"127.0.0.3"}));
  rig.settings.port = good.port();
  rig.settings.connections = 12;
  rig.start();
  CHECK(describe(rig.deliver(make_message({"a@good.test"}))) == "0 delivered 2.0.0");
  for (int i = 0; i < 8; ++i)
    for (int j = 0; j < 5; ++j)
      rig.send(make_message({"a@s" + std::to_string(i) + ".test"}));
  rig.wait_until([&] { return bad.connections() >= 6; });
  CHECK(describe(rig.deliver(make_message({"a@good.test"}))) == "0 delivered 2.0.0");
  CHECK(bad.connections() == 6);
}

TEST_CASE("what is not under way is taken back", "[delivery][revoke]") {
  FakeMx mx(hanging_at("DATA"));
  Rig rig;
  rig.settings.site_connections = 1;
  rig.route_to(mx.port());
  rig.start();
  const auto begun = rig.send(make_message({"a@x.test"}));
  rig.wait_until([&] { return mx.times("DATA") == 1; });
  std::vector<queue::Revocation> wanted = {{begun, {0}}};
  const auto two = rig.send(make_message({"b@x.test", "c@x.test"}));
  wanted.push_back({two, {1}});
  std::vector<mail::MessageId> waiting;
  for (int i = 0; i < 20; ++i) {
    waiting.push_back(rig.send(make_message({"d@x.test"})));
    wanted.push_back({waiting.back(), {0}});
  }
  wanted.push_back({{77}, {0}});  // has just ended
  const auto under_way = revoke(rig, wanted);
  std::size_t left = 0;
  for (const auto& one : under_way) {
    left += one.recipients.size();
    if (one.id == begun || one.id.value == 77)
      CHECK(one.recipients.size() == 1);
  }
  CHECK(left == 2);
  for (const auto id : waiting)
    CHECK(describe(rig.custody->wait_for(id)) == "0 untried");
  rig.drain(std::chrono::milliseconds(10));
  CHECK(describe(rig.custody->wait_for(two)) == "0 untried, 1 untried");
  CHECK(mx.taken().empty());
}

TEST_CASE("what waits for the tables is taken back", "[delivery][revoke]") {
  FakeMx mx({});
  Rig rig;
  std::promise<void> go_on;
  rig.directory.table = [answer = go_on.get_future().share()] { answer.wait(); };
  rig.route_to(mx.port());
  rig.start();
  const auto all = rig.send(make_message({"a@slow.test"}));
  const auto one = rig.send(make_message({"b@slow.test", "c@slow.test"}));
  const auto under_way = revoke(rig, {{all, {0}}, {one, {1}}});
  for (const auto& each : under_way)
    CHECK(each.recipients.empty());
  CHECK(describe(rig.custody->wait_for(all)) == "0 untried");
  go_on.set_value();
  std::size_t ended = 0;
  while (ended < 2) {
    const auto record = rig.custody->wait_for(one);
    ended += record.results.size() + record.untried.size();
    for (const auto& result : record.results)
      CHECK(result.index == 0);
    for (const auto index : record.untried)
      CHECK(index == 1);
  }
  rig.wait_until([&] { return rig.status().leases == 0; });
  CHECK(mx.times("RCPT") == 1);
}

TEST_CASE("what one host has refused, and waits for another, is taken back", "[delivery][revoke]") {
  Behaviour behaviour;
  behaviour.replies["RCPT"] = "450 4.2.0 later\r\n";
  FakeMx first(behaviour, "127.0.0.2");
  const SilentMx second("127.0.0.3", first.port());
  Rig rig(
      "x.test MX 10 mx1.test\nx.test MX 20 mx2.test\nmx1.test A 127.0.0.2\n"
      "mx2.test A 127.0.0.3\n");
  rig.settings.port = first.port();
  rig.settings.site_connections = 1;
  rig.log.is_noting = true;
  rig.start();
  const auto one = rig.send(make_message({"a@x.test"}));
  const auto two = rig.send(make_message({"b@x.test", "c@x.test"}));
  const auto third = rig.send(make_message({"d@x.test"}));  // begins when the others are refused
  rig.wait_until([&] { return first.times("RCPT") == 4; });
  for (const auto& left : revoke(rig, {{one, {0}}, {two, {1}}}))
    CHECK(left.recipients.empty());
  CHECK(describe(rig.custody->wait_for(one)) == "0 untried");
  CHECK(rig.log.count("attempted", one) == 1);                 // it was tried, and refused
  CHECK(describe(rig.custody->wait_for(two)) == "1 untried");  // known within a second
  rig.drain(std::chrono::milliseconds(10));
  CHECK(describe(rig.custody->wait_for(two)) == "0 retry 4.2.0");
  CHECK(describe(rig.custody->wait_for(third)) == "0 retry 4.2.0");
}

TEST_CASE("two spellings of a mailbox go back as both", "[delivery][revoke]") {
  FakeMx mx(hanging_at("DATA"));
  Rig rig;
  rig.settings.site_connections = 1;
  rig.route_to(mx.port());
  rig.start();
  rig.send(make_message({"a@x.test"}));
  rig.wait_until([&] { return mx.times("DATA") == 1; });
  const auto twins = rig.send(make_message({"b@x.test", "b@X.test", "c@x.test"}));
  SECTION("at a stop") {
    rig.drain(std::chrono::milliseconds(10));
    CHECK(describe(rig.custody->wait_for(twins)) == "0 untried, 1 untried, 2 untried");
  }
  SECTION("when all of them are wanted back") {
    for (const auto& one : revoke(rig, {{twins, {0, 1, 2}}}))
      CHECK(one.recipients.empty());
    CHECK(describe(rig.custody->wait_for(twins)) == "0 untried, 1 untried, 2 untried");
  }
  SECTION("when one of them is wanted back") {
    const std::uint32_t which = GENERATE(0U, 1U);
    for (const auto& one : revoke(rig, {{twins, {which}}}))
      CHECK(one.recipients.empty());
    rig.drain(std::chrono::milliseconds(10));
    CHECK(describe(rig.custody->wait_for(twins)) == "0 untried, 1 untried, 2 untried");
  }
}

TEST_CASE("an end is recorded soon, whatever the other recipients do", "[delivery][record]") {
  FakeMx good;
  Behaviour later;
  later.replies["RCPT"] = "450 4.2.0 greylisted\r\n";
  FakeMx deferring(later);
  FakeMx hanging(hanging_at("."));
  Behaviour never;
  never.replies["RCPT"] = "550 5.1.1 no such user\r\n";
  FakeMx refusing(never);
  Rig rig;
  rig.route_to(good.port(), "good.test");
  rig.route_to(deferring.port(), "later.test");
  rig.route_to(refusing.port(), "never.test");
  rig.route_to(hanging.port(), "hangs.test");
  rig.start();
  std::shared_ptr<mail::Message> message =
      make_message({"a@good.test", "a@later.test", "a@never.test", "a@hangs.test"});
  SECTION("from memory") {}
  SECTION("with an original in a file") {
    std::ofstream(rig.folder / "original") << *message->content.bytes;
    message->content.file = "original";
    message->content.bytes.reset();
  }
  const auto id = rig.send(message);
  std::map<std::uint32_t, mail::Verdict> known;
  std::size_t notices = 0;
  while (known.size() < 3) {
    const auto part = rig.custody->wait_for(id);
    REQUIRE(part.partial);
    notices += part.notices.size();
    for (const auto& result : part.results)
      CHECK(known.emplace(result.index, result.outcome.verdict).second);
  }
  CHECK(known == std::map<std::uint32_t, mail::Verdict>{{0, mail::Verdict::delivered},
                                                        {1, mail::Verdict::retry},
                                                        {2, mail::Verdict::bounce}});
  CHECK(notices == 1);
  rig.drain(std::chrono::milliseconds(10));
  const auto last = rig.custody->wait_for(id);
  CHECK_FALSE(last.partial);
  CHECK(describe(last).starts_with("3 retry 4."));
}

TEST_CASE("who has it is recorded before those of whom a notice tells", "[delivery][record]") {
  FakeMx good;
  Behaviour never;
  never.replies["RCPT"] = "550 5.1.1 no such user\r\n";
  FakeMx refusing(never);
  FakeMx hanging(hanging_at("."));
  Rig rig;
  rig.route_to(good.port(), "good.test");
  rig.route_to(refusing.port(), "never.test");
  rig.route_to(hanging.port(), "hangs.test");
  rig.start();
  const auto id =
      rig.send(make_message({"a@good.test", "a@never.test", "b@never.test", "a@hangs.test"}));
  // Each comes in a record of its own, the copy that a crash would repeat first.
  CHECK(describe(rig.custody->wait_for(id)) == "0 delivered 2.0.0");
  const auto refused = rig.custody->wait_for(id);
  CHECK(refused.partial);
  CHECK(refused.results.size() == 2);
  CHECK(refused.notices.size() == 1);
  rig.drain(std::chrono::milliseconds(10));
}

// Its parts end at their own times.
TEST_CASE("the sender of a message for very many hears of its parts together",
          "[delivery][record]") {
  constexpr std::uint32_t kParts = 12, kOfPart = 100;
  Behaviour never;
  never.replies["RCPT"] = "550 5.1.1 no such user\r\n";
  FakeMx refusing(never);
  Rig rig;
  rig.route_to(refusing.port());
  rig.start();
  std::vector<std::string> addresses;
  for (std::uint32_t i = 0; i < kParts * kOfPart; ++i)
    addresses.push_back("a" + std::to_string(i) + "@d" + std::to_string(i / kOfPart) + ".test");
  std::shared_ptr<mail::Message> message = make_message(addresses);
  SECTION("from memory") {}
  SECTION("with an original in a file") {
    std::ofstream(rig.folder / "original") << *message->content.bytes;
    message->content.file = "original";
    message->content.bytes.reset();
  }
  std::vector<queue::Lease> parts;
  for (std::uint32_t part = 0; part < kParts; ++part) {
    auto& lease = parts.emplace_back();
    lease.reason = queue::Lease::Reason::due;
    lease.message = message;
    for (std::uint32_t i = 0; i < kOfPart; ++i)
      lease.recipients.push_back({part * kOfPart + i, 0, std::nullopt, {}});
  }
  rig.dispatcher->take(std::move(parts));
  std::set<std::uint32_t> ended;
  std::size_t notices = 0, named = 0, records = 0;
  while (ended.size() < kParts * kOfPart) {
    const auto record = rig.custody->wait_for(message->id);
    ++records;
    for (const auto& result : record.results)
      CHECK(ended.insert(result.index).second);
    for (const auto& notice : record.notices) {
      ++notices;
      const auto& text = *notice.message->content.bytes;
      for (auto at = text.find("Final-Recipient:"); at != std::string::npos;
           at = text.find("Final-Recipient:", at + 1))
        ++named;
    }
  }
  CHECK(records >= kParts);
  CHECK(named == kParts * kOfPart);
  CHECK(notices < kParts / 2);
}

TEST_CASE("who is deferred together comes back together", "[delivery][record]") {
  Behaviour later;
  later.replies["RCPT"] = "450 4.2.0 greylisted\r\n";
  FakeMx mx(later);
  Rig rig;
  rig.route_to(mx.port());
  rig.start();
  std::vector<std::string> many;
  for (int i = 0; i < 40; ++i)
    many.push_back("a" + std::to_string(i) + "@x.test");
  const auto record = rig.deliver(make_message(many));
  REQUIRE(record.results.size() == 40);
  for (const auto& result : record.results)
    CHECK(result.next_attempt == record.results[0].next_attempt);
}

TEST_CASE("the wait follows the number of attempts", "[delivery][record]") {
  Behaviour later;
  later.replies["RCPT"] = "450 4.2.0 greylisted\r\n";
  FakeMx mx(later);
  Rig rig;
  rig.route_to(mx.port());
  rig.start();
  const std::vector<int> minutes = {1, 5, 15, 30};
  for (std::uint32_t attempts = 0; attempts < minutes.size(); ++attempts) {
    const auto wait = rig.deliver_again(attempts).next_attempt - rig.clock.now();
    const Duration step = std::chrono::minutes(minutes[attempts]);
    CHECK(wait >= step - step / 8);
    CHECK(wait <= step + step / 8);
  }
}

TEST_CASE("one mailbox in two spellings of its domain gets one copy", "[delivery][record]") {
  FakeMx mx;
  Rig rig;
  rig.route_to(mx.port());
  rig.start();
  const auto record = rig.deliver(make_message({"b@x.test", "b@X.test", "B@x.test", "b@X.TEST"}));
  CHECK(describe(record) ==
        "0 delivered 2.0.0, 1 delivered 2.0.0, 2 delivered 2.0.0, 3 delivered 2.0.0");
  REQUIRE(mx.taken().size() == 1);
  CHECK(mx.taken()[0].rcpts == std::vector<std::string>{"TO:<b@x.test>", "TO:<B@x.test>"});
}

TEST_CASE("one mailbox, quoted or not, under its name in any script gets one copy",
          "[delivery][record]") {
  FakeMx mx;
  Rig rig;
  rig.route_to(mx.port());
  rig.start();
  const auto record = rig.deliver(make_message({"c@x.test", "\"c\"@x.test", "b@xn--bcher-kva.test",
                                                "b@b\xC3\xBC"
                                                "cher.test",
                                                "\"c d\"@x.test"}));
  CHECK(describe(record) ==
        "0 delivered 2.0.0, 1 delivered 2.0.0, 2 delivered 2.0.0, 3 delivered 2.0.0, "
        "4 delivered 2.0.0");
  REQUIRE(mx.taken().size() == 1);
  CHECK(mx.taken()[0].rcpts == std::vector<std::string>{"TO:<c@x.test>",
                                                        "TO:<b@xn--bcher-kva.test>",
                                                        "TO:<\"c d\"@x.test>"});
}

TEST_CASE("a retry by hand asks again what is known of a domain", "[delivery][dispatcher]") {
  FakeMx mx({}, "127.0.0.2");
  Rig rig(kGood);
  rig.settings.port = mx.port();
  rig.start();
  rig.deliver(make_message({"a@good.test"}));
  rig.deliver(make_message({"a@good.test"}));
  CHECK(rig.dns.times_asked("mx good.test") == 1);
  rig.dispatcher->unblock("other.test");
  rig.deliver(make_message({"a@good.test"}));
  CHECK(rig.dns.times_asked("mx good.test") == 1);
  rig.dispatcher->unblock(GENERATE("", "good.test"));
  rig.deliver(make_message({"a@good.test"}));
  CHECK(rig.dns.times_asked("mx good.test") == 2);
}

TEST_CASE("an address that failed comes last for a minute", "[delivery][dispatcher]") {
  FakeMx backup({}, "127.0.0.3");
  Rig rig("x.test MX 10 a.test\nx.test MX 20 b.test\na.test A 127.0.0.2\nb.test A 127.0.0.3\n");
  rig.settings.port = backup.port();
  rig.settings.smtp.idle_connection = std::chrono::milliseconds(10);
  rig.start();
  const auto failed_after = [&] {
    CHECK(describe(rig.deliver(make_message({"a@x.test"}))) == "0 delivered 2.0.0");
    rig.wait_until([&] { return rig.status().connections == 0; });
    return rig.status().connections_failed;
  };
  CHECK(failed_after() == 1);
  rig.clock.advance(seconds(50));
  CHECK(failed_after() == 1);
  rig.clock.advance(seconds(11));
  CHECK(failed_after() == 2);
}
