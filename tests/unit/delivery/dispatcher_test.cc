#include "delivery/dispatcher.h"

#include "fake_mx.h"
#include "rig.h"

#include "base/text.h"
#include "delivery/delivery_timings.h"
#include "delivery/job/memory_budget.h"
#include "mail/smtp_command.h"

#include <catch2/catch.hpp>

#include <atomic>
#include <fstream>
#include <future>
#include <sys/resource.h>

using namespace postrider;
using namespace postrider::delivery;

TEST_CASE("a message goes through a route's next hop", "[delivery][dispatcher]") {
  FakeMx mx;
  Rig rig;
  rig.route_to(mx.port());
  rig.start();
  const auto message = make_message({"a@x.test"}, "Subject: x\r\n\r\n.dot\r\n..\r\nend\r\n");
  const auto record = rig.deliver(message);
  CHECK(describe(record) == "0 delivered 2.0.0");
  CHECK(record.results[0].outcome.remote == "127.0.0.1[127.0.0.1]:" + std::to_string(mx.port()));
  REQUIRE(mx.taken().size() == 1);
  CHECK(mx.taken()[0].content == message->content.trace + *message->content.bytes);
  CHECK(mx.taken()[0].rcpts == std::vector<std::string>{"TO:<a@x.test>"});
}

TEST_CASE("how long mail waited, and why it waits, is counted", "[delivery][dispatcher]") {
  Behaviour behaviour;
  behaviour.replies["RCPT TO:<full@"] = "452 4.2.2 mailbox full\r\n";
  FakeMx mx(behaviour);
  Rig rig;
  rig.route_to(mx.port());
  rig.start();
  const auto counts = [](const Histogram& histogram) { return histogram.figures().counts; };
  auto message = std::make_shared<mail::Message>(
      *make_message({"a@x.test", "full@x.test", "b@here.test", "c@x.test"}));
  message->received = rig.clock.now() - std::chrono::seconds(90);
  const auto id = rig.send(message);
  std::size_t ended = 0;
  while (ended < 4)
    ended += rig.custody->wait_for(id).results.size();
  const auto timings = rig.status().timings;
  const auto bucket = [](double bound) {
    const auto found = std::lower_bound(kLongTimes.begin(), kLongTimes.end(), bound);
    return static_cast<std::size_t>(found - kLongTimes.begin());
  };
  std::vector<std::uint64_t> once(kLongTimes.size() + 1), delivered(once.size());
  once[bucket(90)] = 1;  // the message, though two sites and this machine try it
  delivered[bucket(90)] = 3;
  CHECK(counts(timings->first_attempt) == once);
  CHECK(counts(timings->delivery) == delivered);
  const auto deferred = [&](scheduler::ReplyClass klass) {
    return timings->deferred[static_cast<std::size_t>(klass)].load();
  };
  CHECK(deferred(scheduler::ReplyClass::mailbox_full) == 1);
  CHECK(deferred(scheduler::ReplyClass::busy) == 0);

  // One that comes back is no first attempt.
  auto later = std::make_shared<mail::Message>(*make_message({"a@x.test"}));
  later->received = message->received;
  rig.custody->wait_for(rig.send(later, queue::Lease::Reason::due));
  delivered[bucket(90)] = 4;
  CHECK(counts(timings->first_attempt) == once);
  CHECK(counts(timings->delivery) == delivered);
}

TEST_CASE("connections are reused, and closed politely at the end", "[delivery][dispatcher]") {
  FakeMx mx;
  {
    Rig rig;
    rig.route_to(mx.port());
    rig.start();
    for (int i = 0; i < 20; ++i)
      CHECK(describe(rig.deliver(make_message({"a@x.test"}))) == "0 delivered 2.0.0");
    CHECK(mx.connections() == 1);
    CHECK(rig.status().messages_on_reused == 19);
    rig.drain();
  }
  CHECK(mx.quits() == 1);
}

TEST_CASE("many messages at once share few connections and all arrive", "[delivery][dispatcher]") {
  Behaviour behaviour;
  SECTION("DATA") {}
  SECTION("BDAT") {
    behaviour.ehlo = "250-mx.test\r\n250-PIPELINING\r\n250 CHUNKING\r\n";
  }
  SECTION("no extensions") {
    behaviour.ehlo = "250 mx.test\r\n";
  }
  SECTION("a connection per message") {
    behaviour.messages_per_connection = 1;
  }
  FakeMx mx(behaviour);
  Rig rig;
  rig.settings.site_connections = 5;
  rig.route_to(mx.port());
  rig.start();
  std::vector<mail::MessageId> ids;
  for (int i = 0; i < 200; ++i)
    ids.push_back(rig.send(make_message({"a@x.test"}, "S: " + std::to_string(i) + "\r\n\r\n\r\n")));
  for (const auto id : ids)
    CHECK(describe(rig.custody->wait_for(id)) == "0 delivered 2.0.0");
  CHECK(mx.taken().size() == 200);
  CHECK((behaviour.messages_per_connection == 1 || mx.connections() <= 5));
}

TEST_CASE("a table of domains that hangs holds up the mail that it is asked about alone",
          "[delivery][dispatcher]") {
  std::promise<void> asked, open;
  const auto opened = open.get_future().share();
  FakeMx mx;
  Rig rig;
  rig.directory.table = [&, is_first = std::make_shared<std::atomic<bool>>(true)] {
    if (is_first->exchange(false))
      asked.set_value();
    opened.wait_for(std::chrono::minutes(2));
  };
  rig.route_to(mx.port());
  rig.start();
  const auto slow = rig.send(make_message({"a@x.test", "b@slow.test"}));
  asked.get_future().wait();
  CHECK(describe(rig.deliver(make_message({"a@x.test"}))) == "0 delivered 2.0.0");
  CHECK(rig.explain("b@x.test").domain == "x.test");
  CHECK(rig.status().leases == 1);
  CHECK(opened.wait_for(std::chrono::seconds(0)) == std::future_status::timeout);
  open.set_value();
  CHECK(describe(rig.custody->wait_for(slow)) == "0 delivered 2.0.0, 1 delivered 2.0.0");
  CHECK(rig.explain("b@slow.test").domain == "slow.test");
}

TEST_CASE("recipients end one by one", "[delivery][dispatcher]") {
  Behaviour behaviour;
  behaviour.replies["RCPT TO:<bad@"] = "550 5.1.1 no such user\r\n";
  behaviour.replies["RCPT TO:<later@"] = "450 4.2.1 come back\r\n";
  FakeMx mx(behaviour);
  Rig rig;
  rig.route_to(mx.port());
  rig.start();
  const auto record = rig.deliver(make_message({"good@x.test", "bad@x.test", "later@x.test"}));
  CHECK(describe(record) == "0 delivered 2.0.0, 1 bounce 5.1.1, 2 retry 4.2.1");
  REQUIRE(record.notices.size() == 1);
  const auto& notice = *record.notices[0].message;
  CHECK(notice.envelope.sender.empty());
  CHECK(notice.envelope.recipients[0].address == "from@sender.test");
  CHECK(notice.content.bytes->find("bad@x.test") != std::string::npos);
  CHECK(notice.content.bytes->find("later@x.test") == std::string::npos);
  for (const auto& result : record.results)
    if (result.outcome.verdict == mail::Verdict::retry) {
      CHECK(result.next_attempt > rig.clock.now() + std::chrono::seconds(50));
      CHECK(result.next_attempt < rig.clock.now() + std::chrono::seconds(70));
    }
}

TEST_CASE("MX hosts are tried by preference, and the next one when the first is down",
          "[delivery][dispatcher]") {
  FakeMx second({}, "127.0.0.3");
  Rig rig(R"(
    x.test   MX 10 mx1.test
    x.test   MX 20 mx2.test
    mx1.test A 127.0.0.2
    mx2.test A 127.0.0.3
  )");
  rig.settings.port = second.port();
  rig.start();
  SECTION("the first is down") {
    CHECK(describe(rig.deliver(make_message({"a@x.test"}))) == "0 delivered 2.0.0");
    CHECK(second.taken().size() == 1);
    CHECK(rig.custody->assigned()["x.test"] ==
          "mx1.test;mx2.test:" + std::to_string(second.port()));
  }
  SECTION("the first is up") {
    FakeMx first({}, "127.0.0.2", second.port());
    CHECK(describe(rig.deliver(make_message({"a@x.test"}))) == "0 delivered 2.0.0");
    CHECK(first.taken().size() == 1);
    CHECK(second.connections() == 0);
  }
  SECTION("M14: the first greets with 554") {
    Behaviour behaviour;
    behaviour.replies[""] = "554 no mail for you\r\n";
    FakeMx first(behaviour, "127.0.0.2", second.port());
    CHECK(describe(rig.deliver(make_message({"a@x.test"}))) == "0 delivered 2.0.0");
    CHECK(first.connections() == 1);
    CHECK(second.taken().size() == 1);
  }
  SECTION("M14: the first says 421 to MAIL") {
    Behaviour behaviour;
    behaviour.replies["MAIL"] = "421 4.3.2 closing\r\n";
    FakeMx first(behaviour, "127.0.0.2", second.port());
    CHECK(describe(rig.deliver(make_message({"a@x.test"}))) == "0 delivered 2.0.0");
    CHECK(second.taken().size() == 1);
  }
  SECTION("the first drops at RCPT") {
    Behaviour behaviour;
    behaviour.drop_at = "RCPT";
    FakeMx first(behaviour, "127.0.0.2", second.port());
    CHECK(describe(rig.deliver(make_message({"a@x.test"}))) == "0 delivered 2.0.0");
    CHECK(second.taken().size() == 1);
  }
  SECTION("M15: the first drops behind the content: no second try at once") {
    Behaviour behaviour;
    behaviour.drop_at = ".";
    FakeMx first(behaviour, "127.0.0.2", second.port());
    const auto record = rig.deliver(make_message({"a@x.test"}));
    CHECK(describe(record) == "0 retry 4.4.2");
    CHECK(second.taken().empty());
  }
  SECTION("a permanent refusal is not shopped around") {
    Behaviour behaviour;
    behaviour.replies["RCPT"] = "550 5.1.1 no\r\n";
    FakeMx first(behaviour, "127.0.0.2", second.port());
    CHECK(describe(rig.deliver(make_message({"a@x.test"}))) == "0 bounce 5.1.1");
    CHECK(second.connections() == 0);
  }
  SECTION("a refused client address is tried from the other host") {
    Behaviour behaviour;
    behaviour.replies["RCPT"] = "550 5.7.25 no reverse DNS\r\n";
    FakeMx first(behaviour, "127.0.0.2", second.port());
    CHECK(describe(rig.deliver(make_message({"a@x.test"}))) == "0 delivered 2.0.0");
    CHECK(second.taken().size() == 1);
  }
}

namespace {

constexpr const char* kTwoHosts = R"(
  x.test   MX 10 mx1.test
  x.test   MX 20 mx2.test
  mx1.test A 127.0.0.2
  mx2.test A 127.0.0.3
)";

Behaviour saying(const std::string& command, const std::string& reply) {
  Behaviour behaviour;
  behaviour.replies[command] = reply;
  return behaviour;
}

}  // namespace

TEST_CASE("what one host refuses for now another one of the site is asked for at once",
          "[delivery][dispatcher]") {
  const std::string command = GENERATE("MAIL", "RCPT", "DATA", ".");
  FakeMx second({}, "127.0.0.3");
  FakeMx first(saying(command, "451 4.7.1 greylisted, come back later\r\n"), "127.0.0.2",
               second.port());
  Rig rig(kTwoHosts);
  rig.settings.port = second.port();
  rig.log.is_noting = true;
  CAPTURE(command);
  SECTION("which takes it") {
    rig.start();
    const auto message = make_message({"a@x.test", "b@x.test"});
    const auto record = rig.deliver(message);
    CHECK(describe(record) == "0 delivered 2.0.0, 1 delivered 2.0.0");
    CHECK_THAT(record.results[0].outcome.remote, Catch::Contains("mx2.test"));
    CHECK(second.taken().size() == 1);
    CHECK(first.connections() == 1);
    CHECK(second.connections() == 1);
    CHECK(rig.log.count("attempted", message->id) == 2);  // one for each recipient
  }
  SECTION("which refuses it too: once in an attempt, with its words") {
    second.behave(saying(command, "450 4.2.0 not here either\r\n"));
    rig.start();
    const auto message = make_message({"a@x.test"});
    const auto record = rig.deliver(message);
    CHECK(describe(record) == "0 retry 4.2.0");
    CHECK_THAT(record.results[0].outcome.reason(), Catch::Contains("not here either"));
    CHECK(first.connections() == 1);
    CHECK(second.connections() == 1);
    CHECK(rig.log.count("attempted", message->id) == 1);
  }
  SECTION("which refuses it for good") {
    second.behave(saying(command, "550 5.7.1 never\r\n"));
    rig.start();
    CHECK(describe(rig.deliver(make_message({"a@x.test"}))) == "0 bounce 5.7.1");
  }
  SECTION("and the first one's words stand where the second says nothing") {
    Behaviour mute;
    mute.drop_at = GENERATE("greeting", "EHLO", "MAIL", "RCPT");
    second.behave(mute);
    rig.start();
    const auto record = rig.deliver(make_message({"a@x.test"}));
    CHECK(describe(record) == "0 retry 4.7.1");
    CHECK_THAT(record.results[0].outcome.reason(), Catch::Contains("greylisted"));
    CHECK(second.connections() == 1);
  }
  SECTION("or is not there") {
    second.stop();
    rig.start();
    const auto record = rig.deliver(make_message({"a@x.test"}));
    CHECK(describe(record) == "0 retry 4.7.1");
    CHECK_THAT(record.results[0].outcome.reason(), Catch::Contains("greylisted"));
    CHECK(rig.custody->sites().empty());
  }
  SECTION("but not where the site's rate is the reason") {
    first.behave(saying(command, "450 4.7.28 too many messages\r\n"));
    rig.start();
    CHECK(describe(rig.deliver(make_message({"a@x.test"}))) == "0 retry 4.7.28");
    CHECK(second.connections() == 0);
  }
  SECTION("behind whose content it was lost: it may have it") {
    Behaviour behaviour;
    behaviour.drop_at = ".";
    second.behave(behaviour);
    rig.start();
    const auto record = rig.deliver(make_message({"a@x.test"}));
    CHECK(describe(record) == "0 retry 4.4.2");
    CHECK_THAT(record.results[0].outcome.text, Catch::Contains("(it may arrive twice)"));
  }
}

TEST_CASE("only the recipients that a host refuses for now are asked for at another",
          "[delivery][dispatcher]") {
  FakeMx second({}, "127.0.0.3");
  Behaviour behaviour;
  behaviour.replies["RCPT TO:<later@"] = "450 4.2.1 come back\r\n";
  behaviour.replies["RCPT TO:<bad@"] = "550 5.1.1 no such user\r\n";
  FakeMx first(behaviour, "127.0.0.2", second.port());
  Rig rig(kTwoHosts);
  rig.settings.port = second.port();
  rig.start();
  const auto id = rig.send(make_message({"good@x.test", "bad@x.test", "later@x.test"}));
  std::map<std::uint32_t, std::string> ends;
  while (ends.size() < 3)
    for (const auto& result : rig.custody->wait_for(id).results)
      ends[result.index] = mail::to_string(result.outcome.status);
  CHECK(ends == std::map<std::uint32_t, std::string>{{0, "2.0.0"}, {1, "5.1.1"}, {2, "2.0.0"}});
  REQUIRE(first.taken().size() == 1);
  CHECK(first.taken()[0].rcpts == std::vector<std::string>{"TO:<good@x.test>"});
  REQUIRE(second.taken().size() == 1);
  CHECK(second.taken()[0].rcpts == std::vector<std::string>{"TO:<later@x.test>"});
}

TEST_CASE("a host that puts off all mail costs the other one few connections",
          "[delivery][dispatcher]") {
  const bool takes = GENERATE(true, false);
  CAPTURE(takes);
  FakeMx second(takes ? Behaviour() : saying(".", "450 4.2.0 nor here\r\n"), "127.0.0.3");
  FakeMx first(saying("RCPT", "450 4.2.0 later\r\n"), "127.0.0.2", second.port());
  Rig rig(kTwoHosts);
  rig.settings.port = second.port();
  rig.settings.smtp.idle_connection = std::chrono::minutes(1);
  rig.start();
  std::vector<mail::MessageId> ids;
  for (int i = 0; i < 200; ++i)
    ids.push_back(rig.send(make_message({"a@x.test"})));
  std::size_t here = 0, put_off = 0;
  for (const auto id : ids) {
    const auto words = describe(rig.custody->wait_for(id));
    here += words == "0 delivered 2.0.0" ? 1 : 0;
    put_off += words == "0 retry 4.2.0" ? 1 : 0;
  }
  CHECK(here + put_off == 200);
  CHECK((here > 0) == takes);
  CHECK(second.connections() <= 5);
  CHECK(first.connections() <= 20);
  CHECK(rig.custody->sites().empty());
}

TEST_CASE("mail waits for another host no longer than it is worth", "[delivery][dispatcher]") {
  Behaviour silent;
  silent.ehlo = "250 mx.test\r\n";
  silent.replies["MAIL"] = "";
  FakeMx second(silent, "127.0.0.3");
  FakeMx first(saying("RCPT", "450 4.2.0 later\r\n"), "127.0.0.2", second.port());
  Rig rig(kTwoHosts);
  rig.settings.port = second.port();
  rig.settings.site_connections = 4;  // one of them for the second host
  rig.start();
  std::vector<mail::MessageId> ids;
  for (int i = 0; i < 5; ++i)
    ids.push_back(rig.send(make_message({"a@x.test"})));
  rig.wait_until([&] { return second.times("MAIL") == 1 && first.times("RCPT") == 5; });
  rig.pass_time_until(std::chrono::seconds(1), {&first, &second},
                      [&] { return rig.custody->records_left() == 4; });
  CHECK(second.connections() == 1);
}

TEST_CASE("a message that is lost in the middle of its content goes to another host at once",
          "[delivery][dispatcher]") {
  FakeMx second({}, "127.0.0.3");
  Behaviour behaviour;
  behaviour.drop_in_content = 100'000;
  FakeMx first(behaviour, "127.0.0.2", second.port());
  Rig rig(kTwoHosts);
  rig.settings.port = second.port();
  rig.start();
  std::string bytes = "Subject: large\r\n\r\n";
  while (bytes.size() < 40'000'000)  // more than any socket holds
    bytes += "a line of " + std::to_string(bytes.size()) + " octets\r\n";
  CHECK(describe(rig.deliver(make_message({"a@x.test"}, bytes))) == "0 delivered 2.0.0");
  CHECK(first.taken().empty());
  REQUIRE(second.taken().size() == 1);
  CHECK(second.taken()[0].content.ends_with(bytes.substr(bytes.size() - 100)));
}

TEST_CASE("what a host of two addresses refuses for now is asked of its other address",
          "[delivery][dispatcher]") {
  FakeMx second({}, "127.0.0.3");
  FakeMx first({}, "127.0.0.2", second.port());
  Rig rig("x.test MX 10 mx.test\nmx.test A 127.0.0.2\nmx.test A 127.0.0.3\n");
  rig.settings.port = second.port();
  const bool refuses_first = GENERATE(true, false);
  (refuses_first ? first : second).behave(saying("RCPT", "450 4.2.0 later\r\n"));
  rig.start();
  for (int i = 0; i < 10; ++i)
    CHECK(describe(rig.deliver(make_message({"a@x.test"}))) == "0 delivered 2.0.0");
  CHECK((refuses_first ? second : first).taken().size() == 10);
}

TEST_CASE("DNS decides as it should", "[delivery][dispatcher]") {
  FakeMx mx({}, "127.0.0.2");
  Rig rig(R"(
    implicit.test  A  127.0.0.2
    nullmx.test    MX 0 .
    half.test      MX 0 .
    half.test      MX 10 mx.test
    mx.test        A  127.0.0.2
    self.test      MX 10 us.test
    behind.test    MX 10 us.test
    behind.test    MX 20 mx.test
    before.test    MX 10 us.test
    before.test    MX 5 mx.test
    nohost.test    MX 10 gone.test
    nowhere.test   MX 10 zero.test
    zero.test      A  0.0.0.0
    literal.test   MX 10 127.0.0.2
    bare.test      EXISTS
  )");
  // What makes ten hosts unusable says nothing about the eleventh, nor what is wrong with a hundred
  // about those that were not looked at.
  for (int i = 0; i < 10; ++i) {
    rig.dns.add("eleven.test MX " + std::to_string(i) + " gone" + std::to_string(i) + ".test");
    rig.dns.add("zeros.test MX 5 zero" + std::to_string(i) + ".test");
    rig.dns.add("zero" + std::to_string(i) + ".test A 0.0.0.0");
  }
  rig.dns.add("eleven.test MX 50 mx.test");
  rig.dns.add("zeros.test MX 50 mx.test");
  for (int i = 0; i < 30; ++i)
    rig.dns.add("thirty.test MX 7 gone" + std::to_string(i) + ".test");
  for (int i = 0; i < 101; ++i)
    rig.dns.add("hundred.test MX 7 gone" + std::to_string(i) + ".test");
  rig.dns.servfail("broken.test");
  rig.dns.servfail("flaky.test", "A");
  rig.dns.add("lookup.test MX 10 flaky.test");
  rig.settings.port = mx.port();
  rig.start();
  struct Case {
    std::string name, address, want;
  };
  const std::vector<Case> cases = {
      {"D09: no MX: the domain itself", "a@implicit.test", "0 delivered 2.0.0"},
      {"D04: null MX", "a@nullmx.test", "0 bounce 5.1.10"},
      {"D05: null MX beside a real one is ignored", "a@half.test", "0 delivered 2.0.0"},
      {"D09: no such domain", "a@absent.test", "0 bounce 5.1.2"},
      {"D09: SERVFAIL is not a bounce", "a@broken.test", "0 untried"},
      {"D09: SERVFAIL for the host's address is not a bounce", "a@lookup.test", "0 untried"},
      {"the best MX is ourselves", "a@self.test", "0 bounce 5.4.6"},
      {"an MX behind ourselves is not used", "a@behind.test", "0 bounce 5.4.6"},
      {"an MX before ourselves is used", "a@before.test", "0 delivered 2.0.0"},
      {"no host has an address", "a@nohost.test", "0 bounce 5.4.4"},
      {"ten hosts have no address", "a@eleven.test", "0 delivered 2.0.0"},
      {"the addresses of ten hosts lead nowhere", "a@zeros.test", "0 delivered 2.0.0"},
      {"none of thirty hosts has an address", "a@thirty.test", "0 bounce 5.4.4"},
      {"none of the hosts looked at has an address", "a@hundred.test", "0 untried"},
      {"D06: an address that leads nowhere", "a@nowhere.test", "0 bounce 5.4.4"},
      {"D13: an address as the name of a host is not used", "a@literal.test", "0 bounce 5.4.4"},
      {"nothing at all", "a@bare.test", "0 bounce 5.4.4"},
      {"an address literal", "a@[127.0.0.2]", "0 delivered 2.0.0"},
  };
  for (const auto& c : cases) {
    INFO(c.name);
    CHECK(describe(rig.deliver(make_message({c.address}))) == c.want);
  }
  CHECK(rig.custody->sites()["dns:broken.test"].blocked_until > rig.clock.now());
  CHECK(rig.custody->assigned()["broken.test"] == "dns:broken.test");
}

TEST_CASE("D06: one of our own addresses is a loop", "[delivery][dispatcher]") {
  FakeMx mx({}, "127.0.0.2");
  Rig rig("x.test MX 10 mx.test\nmx.test A 127.0.0.2\n");
  rig.settings.port = mx.port();
  SECTION("the very address") {
    rig.settings.own.addresses.push_back({asio::ip::make_address("127.0.0.2"), mx.port()});
  }
  SECTION("every address") {
    rig.settings.own.addresses.push_back({asio::ip::make_address("0.0.0.0"), mx.port()});
  }
  rig.start();
  CHECK(describe(rig.deliver(make_message({"a@x.test"}))) == "0 bounce 5.4.6");
  CHECK(mx.connections() == 0);
}

TEST_CASE("a dead site is blocked, probed and opened again", "[delivery][dispatcher]") {
  Rig rig;
  std::uint16_t port = 0;
  {
    FakeMx once;
    port = once.port();
  }
  rig.route_to(port);
  rig.start();
  std::vector<mail::MessageId> ids;
  for (int i = 0; i < 50; ++i)
    ids.push_back(rig.send(make_message({"a@x.test"})));
  for (const auto id : ids) {
    const auto record = rig.custody->wait_for(id);
    CHECK(describe(record) == "0 untried");
    REQUIRE(record.untried_lines.size() == 1);
    const auto told = queue::decode_fact(queue::encode_fact({}, record.untried_lines.front()));
    REQUIRE(told.has_value());
    CHECK(told->name == "deferred");
    CHECK(told->id == to_string(id));
    CHECK(told->value("to") == "a@x.test");
    CHECK(told->value("reason").find("Connection refused") != std::string_view::npos);
  }
  const auto name = "smtp://127.0.0.1:" + std::to_string(port);
  auto site = rig.custody->sites()[name];
  CHECK(site.failures == 1);
  CHECK(site.last.text.find("Connection refused") != std::string::npos);
  // Still blocked: nothing is tried.
  CHECK(describe(rig.deliver(make_message({"a@x.test"}))) == "0 untried");
  CHECK(rig.status().connections_opened <= 6);
  REQUIRE(rig.status().in_trouble.size() == 1);
  CHECK(rig.status().in_trouble[0].state == "blocked");
  const auto trouble = rig.explain("a@x.test");
  CHECK(trouble.site.blocked_until > rig.clock.now());
  CHECK(trouble.conclusion.find("waits until " + format_rfc3339(trouble.site.blocked_until)) == 0);
  // Its time comes: one probe, and a longer wait.
  rig.clock.advance(std::chrono::minutes(2));
  CHECK(describe(rig.deliver(make_message({"a@x.test"}))) == "0 untried");
  site = rig.custody->sites()[name];
  CHECK(site.failures == 2);
  CHECK(site.blocked_until > rig.clock.now() + std::chrono::minutes(4));
  // It is back.
  FakeMx again({}, "127.0.0.1", port);
  rig.clock.advance(std::chrono::minutes(10));
  CHECK(describe(rig.deliver(make_message({"a@x.test"}))) == "0 delivered 2.0.0");
  CHECK(rig.custody->sites()[name].blocked_until == TimePoint{});
  CHECK(rig.status().in_trouble.empty());
}

TEST_CASE("who goes back untried does not wait for those of his message who are being tried",
          "[delivery][dispatcher]") {
  Behaviour behaviour;
  behaviour.ehlo = "250 mx.test\r\n";
  behaviour.replies["MAIL"] = "";
  FakeMx mute(behaviour);
  std::uint16_t dead = 0;
  {
    FakeMx once;
    dead = once.port();
  }
  Rig rig;
  rig.route_to(mute.port(), "mute.test");
  rig.route_to(dead, "dead.test");
  rig.start();
  const auto id = rig.send(make_message({"a@mute.test", "b@dead.test"}));
  const auto record = rig.custody->wait_for(id);
  CHECK(record.partial);
  CHECK(describe(record) == "1 untried");
  rig.drain(Duration(0));
}

// What was found is good for a minute of the clock, which stands still here.
TEST_CASE("behind a reload the hosts of a site are looked up anew", "[delivery][dispatcher]") {
  FakeMx before({}, "127.0.0.2");
  FakeMx behind({}, "127.0.0.3", before.port());
  Rig rig(R"(
    x.test   MX 10 mx.test
    mx.test  A 127.0.0.2
  )");
  rig.settings.port = before.port();
  rig.settings.smtp.idle_connection = Duration(20);
  rig.start();
  const auto deliver = [&] {
    CHECK(describe(rig.deliver(make_message({"a@x.test"}))) == "0 delivered 2.0.0");
    rig.wait_until([&] { return rig.status().connections == 0; });
  };
  deliver();
  rig.dns.remove("mx.test");  // nobody asks at the moment
  rig.dns.add("mx.test A 127.0.0.3");
  deliver();
  CHECK(before.taken().size() == 2);
  rig.dispatcher->configure(std::make_shared<const DeliverySettings>(rig.settings));
  deliver();
  CHECK(before.taken().size() == 2);
  CHECK(behind.taken().size() == 1);
}

TEST_CASE("M13: a host that greets and hangs up does not make us spin", "[delivery][dispatcher]") {
  Behaviour behaviour;
  SECTION("at MAIL") {
    behaviour.drop_at = "MAIL";
  }
  SECTION("at EHLO") {
    behaviour.drop_at = "EHLO";
  }
  SECTION("at the greeting") {
    behaviour.drop_at = "greeting";
  }
  FakeMx mx(behaviour);
  Rig rig;
  rig.route_to(mx.port());
  rig.start();
  const auto words = describe(rig.deliver(make_message({"a@x.test"})));
  CHECK((words == "0 untried" || words == "0 retry 4.4.2"));
  CHECK(mx.connections() <= 3);
}

TEST_CASE("a connection closed while idle costs nothing but a new one", "[delivery][dispatcher]") {
  Behaviour behaviour;
  behaviour.messages_per_connection = 1;
  FakeMx mx(behaviour);
  Rig rig;
  rig.route_to(mx.port());
  rig.start();
  for (int i = 0; i < 10; ++i)
    CHECK(describe(rig.deliver(make_message({"a@x.test"}))) == "0 delivered 2.0.0");
  CHECK(mx.taken().size() == 10);
}

TEST_CASE("bodies in files go out in full, or not at all", "[delivery][dispatcher]") {
  Behaviour behaviour;
  SECTION("DATA") {}
  SECTION("BDAT") {
    behaviour.ehlo = "250-mx.test\r\n250-PIPELINING\r\n250 CHUNKING\r\n";
  }
  FakeMx mx(behaviour);
  Rig rig;
  rig.route_to(mx.port());
  rig.start();
  std::string bytes = "Subject: large\r\n\r\n";
  while (bytes.size() < 3000000)
    bytes += ".a line of " + std::to_string(bytes.size()) + " octets\r\n..\r\n";
  auto message = make_message({"a@x.test"}, bytes);
  message->content.bytes = nullptr;
  message->content.file = "body";
  std::ofstream(rig.folder / "body") << bytes;
  CHECK(describe(rig.deliver(message)) == "0 delivered 2.0.0");
  REQUIRE(mx.taken().size() == 1);
  CHECK(mx.taken()[0].content == message->content.trace + bytes);
  SECTION("one that is missing") {
    auto lost = make_message({"a@x.test"}, bytes);
    lost->content.bytes = nullptr;
    lost->content.file = "absent";
    CHECK(describe(rig.deliver(lost)) == "0 retry 4.3.0");
    CHECK(mx.taken().size() == 1);
  }
}

TEST_CASE("what this machine cannot do is not charged to a site", "[delivery][dispatcher]") {
  FakeMx mx;
  Rig rig;
  rig.route_to(mx.port());
  rig.settings.site_connections = 1;
  rig.start();
  SECTION("no file descriptors") {
    rlimit before{};
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
    const rlimit none{3, before.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &none) == 0);
    const auto id = rig.send(make_message({"a@x.test"}));
    rig.wait_until([&] {
      const auto status = rig.status();
      return status.connections_opened > 0 && status.connections == 0;
    });
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &before) == 0);
    CHECK(describe(rig.custody->wait_for(id)) == "0 delivered 2.0.0");  // a second later
  }
  SECTION("no file descriptors for long: mail waits by itself, with the reason") {
    rlimit before{};
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
    const rlimit none{3, before.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &none) == 0);
    const auto record = rig.deliver(make_message({"a@x.test"}));
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &before) == 0);
    CHECK(describe(record) == "0 retry 4.3.0");
    CHECK_THAT(record.results[0].outcome.text, Catch::Contains("Too many open files"));
    CHECK(record.results[0].next_attempt <= rig.clock.now() + std::chrono::seconds(10));
  }
  SECTION("copies that cannot be read") {
    for (int i = 0; i < 15; ++i) {
      auto lost = make_message({"u" + std::to_string(i) + "@x.test"}, "S: x\r\n\r\n\r\n",
                               "s" + std::to_string(i) + "@sender.test");
      lost->content.bytes = nullptr;
      lost->content.file = "absent";
      CHECK(describe(rig.deliver(lost)) == "0 retry 4.3.0");
    }
  }
  CHECK(rig.custody->sites().empty());
  CHECK(describe(rig.deliver(make_message({"a@x.test"}))) == "0 delivered 2.0.0");
}

TEST_CASE("O01: a spooled body with a bare line end is cut off and bounces",
          "[delivery][dispatcher]") {
  FakeMx mx;
  Rig rig;
  rig.route_to(mx.port());
  rig.start();
  std::string bytes = "Subject: large\r\n\r\n" + std::string(300000, 'x') + "\r\n";
  bytes += "\n.\nMAIL FROM:<smuggled@x.test>\r\n" + std::string(300000, 'y') + "\r\n";
  auto message = make_message({"a@x.test"}, bytes);
  message->content.bytes = nullptr;
  message->content.file = "body";
  std::ofstream(rig.folder / "body") << bytes;
  CHECK(describe(rig.deliver(message)) == "0 bounce 5.6.0");
  CHECK(mx.taken().empty());
}

TEST_CASE("leases that ask for no attempt are answered", "[delivery][dispatcher]") {
  Rig rig;
  rig.start();
  SECTION("expired") {
    const auto record =
        rig.custody->wait_for(rig.send(make_message({"a@x.test"}), queue::Lease::Reason::expired));
    CHECK(describe(record) == "0 bounce 5.4.7");
    CHECK(record.notices.size() == 1);
  }
  SECTION("bounced by the administrator") {
    const auto record =
        rig.custody->wait_for(rig.send(make_message({"a@x.test"}), queue::Lease::Reason::bounce));
    CHECK(describe(record) == "0 bounce 5.7.1");
    CHECK(record.notices.size() == 1);
  }
  SECTION("late") {
    const auto record = rig.custody->wait_for(
        rig.send(make_message({"a@x.test"}), queue::Lease::Reason::delay_notice));
    CHECK(describe(record) == "0 untried");
    CHECK(record.delay_notice_sent);
    CHECK(record.notices.size() == 1);
  }
}

TEST_CASE("routes to errors, to nothing and to what needs TLS", "[delivery][dispatcher]") {
  Rig rig;
  const auto add = [&](const std::string& domain, const std::string& hop) {
    Route route;
    route.domain = domain;
    route.next_hop = *parse_next_hop(hop);
    rig.settings.routes.push_back(route);
  };
  add("gone.test", "error:5.1.6 The user has moved");
  add("later.test", "error:4.3.2 Come back tomorrow");
  add("drop.test", "discard:");
  add("tls.test", "smtps://127.0.0.1:465");
  rig.start();
  CHECK(describe(rig.deliver(
            make_message({"a@gone.test", "a@later.test", "a@drop.test", "a@tls.test"}))) ==
        "0 bounce 5.1.6, 1 retry 4.3.2, 2 delivered 2.0.0, 3 untried");
}

TEST_CASE("LMTP over TCP and over a socket in the file system", "[delivery][dispatcher]") {
  Behaviour behaviour;
  behaviour.ehlo = "250-lmtp\r\n250 PIPELINING\r\n";
  behaviour.replies["RCPT TO:<bad@"] = "550 5.1.1 no\r\n";
  Rig rig;
  std::unique_ptr<FakeMx> mx;
  SECTION("TCP") {
    mx = std::make_unique<FakeMx>(behaviour);
    rig.route_to(mx->port()).next_hop.kind = NextHop::Kind::lmtp;
  }
  SECTION("a socket") {
    const auto path = (rig.folder / "lmtp").string();
    mx = std::make_unique<FakeMx>(behaviour, path);
    rig.route_to(0).next_hop = *parse_next_hop("lmtp://" + path);
  }
  rig.start();
  CHECK(describe(rig.deliver(make_message({"a@x.test", "bad@x.test", "c@x.test"}))) ==
        "0 delivered 2.0.0, 1 bounce 5.1.1, 2 delivered 2.0.0");
}

TEST_CASE("a family that does not work falls back to the other", "[delivery][dispatcher]") {
  FakeMx mx({}, "127.0.0.2");
  Rig rig("x.test MX 10 mx.test\nmx.test AAAA 2001:db8::1\nmx.test A 127.0.0.2\n");
  rig.settings.port = mx.port();
  rig.settings.families = dns::Families::both;
  rig.settings.smtp.timeouts.connect = std::chrono::seconds(5);
  rig.start();
  CHECK(describe(rig.deliver(make_message({"a@x.test"}))) == "0 delivered 2.0.0");
}

TEST_CASE("8-bit content is converted for a remote without 8BITMIME, or goes as it came",
          "[delivery][dispatcher]") {
  Behaviour behaviour;
  behaviour.ehlo = "250 mx.test\r\n";
  FakeMx mx(behaviour);
  Rig rig;
  rig.route_to(mx.port());
  rig.start();
  const std::string header =
      "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
      "Content-Transfer-Encoding: 8bit\r\n\r\n";
  CHECK(
      describe(rig.deliver(make_message(
          {"a@x.test"}, header + "Plain words of a long letter, and a gr\xc3\xbc\xc3\x9f\r\n"))) ==
      "0 delivered 2.0.0");
  REQUIRE(mx.taken().size() == 1);
  CHECK(is_ascii(mx.taken()[0].content));
  CHECK(mx.taken()[0].content.find("gr=C3=BC=C3=9F") != std::string::npos);
  // What has no form in 7 bits goes as it is, as others send it too.
  CHECK(describe(rig.deliver(make_message({"a@x.test"}, "Subject: \xc3\xbc\r\n\r\nx\r\n"))) ==
        "0 delivered 2.0.0");
  CHECK(mx.taken()[1].content.find("Subject: \xc3\xbc\r\n") != std::string::npos);
  for (const std::string content :
       {"Content-Type: multipart/signed; boundary=x\r\n\r\n--x\r\n\r\n\xc3\xbc\r\n--x--\r\n",
        "Content-Type: multipart/mixed\r\n\r\n\xc3\xbc\r\n",
        "Content-Transfer-Encoding: base64\r\n\r\n\xc3\xbc\r\n",
        "Content-Transfer-Encoding: quoted-printable\r\n\r\n\xc3\xbc\r\n",
        "Content-Type: message/partial; id=x\r\n\r\n\xc3\xbc\r\n"}) {
    const auto message = make_message({"a@x.test"}, content);
    CHECK(describe(rig.deliver(message)) == "0 delivered 2.0.0");
    CHECK(mx.taken().back().content == message->content.trace + content);
    CHECK(mx.taken().back().mail.find("BODY=") == std::string::npos);
  }
  SECTION("many at once, and each in its turn") {
    std::vector<mail::MessageId> sent;
    for (int i = 0; i < 50; ++i)
      sent.push_back(rig.send(make_message({"a@x.test"}, header + "gr\xc3\xbc\xc3\x9f\r\n")));
    for (const auto id : sent)
      CHECK(describe(rig.custody->wait_for(id)) == "0 delivered 2.0.0");
  }
}

// Together they need more than there is at one time.
TEST_CASE("a conversion that fails gives its memory back", "[delivery][dispatcher]") {
  Behaviour behaviour;
  behaviour.ehlo = "250 mx.test\r\n";
  FakeMx mx(behaviour);
  Rig rig;
  rig.route_to(mx.port());
  rig.start();
  const auto message = make_message(
      {"a@x.test"}, "Content-Type: multipart/signed; boundary=x\r\n\r\n--x\r\n\r\n\xc3\xbc\r\n" +
                        std::string(16U << 20U, 'x') + "\r\n--x--\r\n");
  message->envelope.body = mail::BodyType::binary_mime;
  for (int i = 0; i < 12; ++i)
    CHECK(describe(rig.deliver(message)) == "0 bounce 5.6.3");
}

TEST_CASE("memory that many share is given once", "[delivery]") {
  MemoryBudget budget(100);
  CHECK(budget.take(60));
  CHECK_FALSE(budget.take(41));
  CHECK(budget.take(40));
  budget.give(60);
  CHECK(budget.left() == 60);
  CHECK(budget.take(60));
}

TEST_CASE("what was lost in the middle is tried again on a connection of its own",
          "[delivery][dispatcher]") {
  Behaviour cut;
  cut.drop_at = ".";
  FakeMx mx(cut);
  Rig rig;
  rig.route_to(mx.port());
  rig.start();
  const auto lost = make_message({"a@x.test"});
  CHECK(describe(rig.deliver(lost)) == "0 retry 4.4.2");
  mx.behave({});
  CHECK(describe(rig.deliver(make_message({"b@x.test"}))) == "0 delivered 2.0.0");
  const auto before = mx.connections();
  CHECK(describe(rig.deliver(lost)) == "0 delivered 2.0.0");
  CHECK(mx.connections() == before + 1);
  // Once; then it is a message like others.
  CHECK(describe(rig.deliver(lost)) == "0 delivered 2.0.0");
  CHECK(mx.connections() == before + 1);
}

TEST_CASE("O10: what arrives is what was sent, octet for octet", "[delivery][dispatcher]") {
  Behaviour behaviour;
  SECTION("DATA") {}
  SECTION("BDAT") {
    behaviour.ehlo = "250-mx.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 CHUNKING\r\n";
  }
  FakeMx mx(behaviour);
  Rig rig;
  rig.route_to(mx.port());
  rig.settings.site_connections = 1;
  rig.start();
  SystemRandom random;
  std::vector<std::shared_ptr<const mail::Message>> sent;
  const char* pieces[] = {".", "..", ".\r\n", "\r\n", "a", "\r\n.\r\n", "text ", "\xc3\xbc", "\t"};
  for (int i = 0; i < 300; ++i) {
    std::string bytes = "Subject: " + std::to_string(i) + "\r\n\r\n";
    for (auto left = random.below(200); left > 0; --left)
      bytes += pieces[random.below(std::size(pieces))];
    sent.push_back(make_message({"a@x.test"}, bytes + "\r\n"));
    rig.send(sent.back());
  }
  for (const auto& message : sent)
    CHECK(describe(rig.custody->wait_for(message->id)) == "0 delivered 2.0.0");
  const auto taken = mx.taken();
  REQUIRE(taken.size() == sent.size());
  std::map<std::string, int> arrived;
  for (const auto& one : taken)
    ++arrived[one.content];
  for (const auto& message : sent)
    CHECK(arrived[message->content.trace + *message->content.bytes] == 1);
}

TEST_CASE("local mail becomes a file in a maildir", "[delivery][local]") {
  Rig rig;
  rig.start();
  const auto record = rig.deliver(
      make_message({"Ann+tag@here.test", "nobody@here.test", "../../x@here.test", "postmaster"}));
  CHECK(describe(record) == "0 delivered 2.0.0, 1 bounce 5.1.1, 2 bounce 5.1.1, 3 delivered 2.0.0");
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(rig.folder / "mail/ann/new"))
    files.push_back(entry.path());
  REQUIRE(files.size() == 1);
  std::ifstream in(files[0]);
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  CHECK(text ==
        "Return-Path: <from@sender.test>\nDelivered-To: Ann+tag@here.test\n"
        "Received: by us.test; now\nSubject: test\n\nHello.\n");
  CHECK(std::filesystem::is_empty(rig.folder / "mail/ann/tmp"));
  SECTION("the same again is a loop") {
    const auto again =
        rig.deliver(make_message({"ann@here.test"}, "Delivered-To: ann@here.test\r\n\r\nx\r\n"));
    CHECK(describe(again) == "0 bounce 5.4.6");
  }
}

TEST_CASE("one mailbox gets one copy, however many recipients the message has",
          "[delivery][dispatcher]") {
  constexpr std::uint32_t kOthers = 150;  // more than go in one transaction
  const bool is_local = GENERATE(false, true);
  FakeMx mx;
  Rig rig;
  rig.route_to(mx.port());
  rig.start();
  const std::string domain = is_local ? "@here.test" : "@x.test";
  std::vector<std::string> addresses = {"ann" + domain};
  for (std::uint32_t i = 0; i < kOthers; ++i)
    addresses.push_back("u" + std::to_string(i) + domain);
  addresses.emplace_back(is_local ? "Ann@Here.Test" : "ann@X.test");
  const auto id = rig.send(make_message(addresses));
  std::size_t delivered = 0;
  while (delivered < addresses.size())
    for (const auto& result : rig.custody->wait_for(id).results) {
      CHECK(result.outcome.verdict == mail::Verdict::delivered);
      ++delivered;
    }
  std::size_t copies = 0;
  if (is_local) {
    const auto folder = rig.folder / "mail/ann/new";
    copies =
        static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(folder), {}));
  }
  for (const auto& one : mx.taken())
    for (const auto& rcpt : one.rcpts)
      copies += ascii_lower(rcpt) == "to:<ann@x.test>" ? 1 : 0;
  CHECK(copies == 1);
}

TEST_CASE("a drain puts back what waits and lets open transactions end", "[delivery][dispatcher]") {
  FakeMx mx;
  Rig rig;
  rig.route_to(mx.port());
  rig.settings.site_connections = 1;
  rig.start();
  std::vector<mail::MessageId> ids;
  for (int i = 0; i < 100; ++i)
    ids.push_back(rig.send(make_message({"a@x.test"})));
  rig.drain();
  std::size_t delivered = 0, untried = 0;
  for (const auto id : ids) {
    const auto words = describe(rig.custody->wait_for(id));
    delivered += words == "0 delivered 2.0.0" ? 1 : 0;
    untried += words == "0 untried" ? 1 : 0;
  }
  CHECK(delivered + untried == 100);
  CHECK(delivered == mx.taken().size());
}

TEST_CASE("no mail is said to be under way over a connection that is idle",
          "[delivery][dispatcher]") {
  FakeMx mx;
  Rig rig;
  rig.settings.smtp.idle_connection = std::chrono::minutes(10);
  rig.route_to(mx.port());
  rig.start();
  CHECK(describe(rig.deliver(make_message({"a@x.test"}))) == "0 delivered 2.0.0");
  rig.wait_until([&] { return rig.status().idle == 1; });
  rig.clock.advance(std::chrono::seconds(10));
  std::promise<std::vector<std::string>> reasons;
  rig.dispatcher->reasons({"a@x.test"}, [&](auto answer) { reasons.set_value(std::move(answer)); });
  CHECK(reasons.get_future().get() == std::vector<std::string>{""});
  CHECK(rig.status().idle == 1);
}

TEST_CASE("explain tells route, hosts and site", "[delivery][dispatcher]") {
  Rig rig("x.test MX 10 mx1.test\nx.test MX 20 mx2.test\nmx1.test A 192.0.2.1\n");
  rig.start();
  const auto explanation = rig.explain("someone@x.test");
  CHECK(explanation.route == "mx");
  CHECK(explanation.dns == "2 MX records, not authenticated");
  REQUIRE(explanation.hosts.size() == 2);
  CHECK(explanation.hosts[0].addresses == std::vector<std::string>{"192.0.2.1"});
  CHECK(explanation.hosts[1].note == "no address");
  CHECK(explanation.conclusion == "is delivered at once to mx1.test;mx2.test");
  CHECK(rig.explain("here.test").route == "local");
}

namespace {

std::vector<std::string> addresses_in_domains(const std::string& stem, std::size_t count) {
  std::vector<std::string> addresses;
  for (std::size_t i = 0; i < count; ++i)
    addresses.push_back("a@" + stem + std::to_string(i) + ".test");
  return addresses;
}

}  // namespace

TEST_CASE("destinations and sites that are out of use are forgotten", "[delivery][dispatcher]") {
  FakeMx mx({}, "127.0.0.2");
  Rig rig("g.test MX 10 mx.test\nmx.test A 127.0.0.2\n");
  rig.settings.remembered = 4;
  rig.settings.port = mx.port();
  rig.settings.smtp.idle_connection = std::chrono::milliseconds(10);
  rig.start();
  CHECK(describe(rig.deliver(make_message({"a@g.test"}))) == "0 delivered 2.0.0");
  const auto sites = rig.status().sites;
  CHECK(sites == 1);
  const auto others =
      rig.deliver(make_message(addresses_in_domains("none", 50), "S: x\r\n\r\n", ""));
  CHECK(others.results.size() == 50);
  rig.wait_until([&] { return rig.status().connections == 0; });
  rig.clock.advance(std::chrono::hours(2));
  rig.deliver(make_message(addresses_in_domains("more", 50), "S: x\r\n\r\n", ""));
  CHECK(rig.status().sites == 0);
  CHECK(describe(rig.deliver(make_message({"a@g.test"}))) == "0 delivered 2.0.0");
}

TEST_CASE("more destinations than are remembered", "[delivery][dispatcher]") {
  Rig rig;
  rig.start();
  const auto message = make_message(addresses_in_domains("d", 20'100), "S: x\r\n\r\n", "");
  const auto record = rig.deliver(message);
  CHECK(record.results.size() == 20'100);
}

TEST_CASE("a host that announces CHUNKING and refuses BDAT as such gets DATA",
          "[delivery][dispatcher]") {
  Behaviour behaviour;
  behaviour.ehlo = "250-mx.test\r\n250-PIPELINING\r\n250 CHUNKING\r\n";
  behaviour.refuses_chunks =
      GENERATE("500 5.5.1 Unknown\r\n", "501 5.5.4 Syntax\r\n", "501 no\r\n", "502 no\r\n",
               "504 5.5.4 Not with a parameter\r\n", "504 no\r\n", "554 5.5.1 no inline data\r\n",
               "555 5.5.4 Parameters not recognized\r\n");
  INFO(behaviour.refuses_chunks);
  FakeMx mx(behaviour);
  Rig rig;
  rig.route_to(mx.port());
  rig.start();
  // The first goes by DATA; the content of the second, and of no other, is sent twice.
  for (int i = 0; i < 3; ++i)
    CHECK(describe(rig.deliver(make_message({"a@x.test", "b@x.test"}))) ==
          "0 delivered 2.0.0, 1 delivered 2.0.0");
  CHECK(mx.taken().size() == 3);
  CHECK(mx.contents() > 3);
}

TEST_CASE("a chunk that is refused for what is in it bounces", "[delivery][dispatcher]") {
  Behaviour behaviour;
  behaviour.ehlo = "250-mx.test\r\n250-PIPELINING\r\n250 CHUNKING\r\n";
  behaviour.refuses_chunks = GENERATE("554 5.7.1 spam\r\n", "554 no\r\n", "550 5.6.0 no\r\n");
  INFO(behaviour.refuses_chunks);
  FakeMx mx(behaviour);
  Rig rig;
  rig.route_to(mx.port());
  rig.start();
  CHECK(describe(rig.deliver(make_message({"a@x.test"}))) == "0 delivered 2.0.0");
  CHECK(describe(rig.deliver(make_message({"a@x.test"}))).starts_with("0 bounce 5."));
  CHECK(mx.taken().size() == 1);
}
