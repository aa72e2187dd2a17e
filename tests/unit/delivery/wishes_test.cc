// DELIVERBY (RFC 2852) and MT-PRIORITY (RFC 6710) from the lease to the peer and the record.
#include "fake_mx.h"
#include "rig.h"

#include <catch2/catch.hpp>

using namespace postrider;
using namespace postrider::delivery;

namespace {

constexpr const char* kTimed =
    "250-mx.test\r\n250-PIPELINING\r\n250-DSN\r\n250-MT-PRIORITY\r\n250 DELIVERBY 10\r\n";

struct Wished {
  explicit Wished(const char* ehlo) {
    Behaviour behaviour;
    behaviour.ehlo = ehlo;
    mx.behave(behaviour);
    rig.route_to(mx.port());
    rig.start();
  }
  std::shared_ptr<mail::Message> message(int seconds, bool returns, bool traces = false,
                                         const std::string& to = "a@x.test") {
    auto made = make_message({to});
    made->received = rig.clock.now();
    made->envelope.deliver_by =
        mail::DeliverBy{.time = rig.clock.now() + std::chrono::seconds(seconds),
                        .returns = returns,
                        .traces = traces};
    made->envelope.priority = 3;
    return made;
  }
  static std::string notice(const queue::Record& record) {
    return record.notices.empty() ? "none" : *record.notices.at(0).message->content.bytes;
  }

  FakeMx mx;
  Rig rig;
};

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("what is left of the time goes to a host that asks for it", "[delivery][wishes]") {
  Wished here(kTimed);
  const auto record = here.rig.deliver(here.message(120, true, true));
  CHECK(describe(record) == "0 delivered 2.0.0");
  REQUIRE(here.mx.taken().size() == 1);
  CHECK(here.mx.taken()[0].mail == "FROM:<from@sender.test> BY=120;RT MT-PRIORITY=3");
  REQUIRE(record.notices.size() == 1);
  CHECK(has(here.notice(record), "Action: relayed"));
  CHECK(record.notices[0].message->envelope.priority == 3);
}

TEST_CASE("mode R is not passed on to a host that may be late", "[delivery][wishes]") {
  const char* ehlo = kTimed;
  int seconds = 120;
  SECTION("because it says nothing") {
    ehlo = "250-mx.test\r\n250-PIPELINING\r\n250 DSN\r\n";
  }
  SECTION("because it needs more time") {
    seconds = 9;
  }
  Wished here(ehlo);
  const auto record = here.rig.deliver(here.message(seconds, true));
  CHECK(describe(record) == "0 bounce 5.4.7");
  CHECK(here.mx.taken().empty());
  CHECK(has(here.notice(record), "Action: failed\r\nStatus: 5.4.7"));
}

TEST_CASE("mode N is, and its sender hears that nobody will tell him", "[delivery][wishes]") {
  Wished here("250-mx.test\r\n250-PIPELINING\r\n250 DSN\r\n");
  const auto record = here.rig.deliver(here.message(120, false));
  CHECK(describe(record) == "0 delivered 2.0.0");
  CHECK(has(here.notice(record), "Action: relayed"));
  REQUIRE(here.mx.taken().size() == 1);
  CHECK(here.mx.taken()[0].mail == "FROM:<from@sender.test>");
}

TEST_CASE("what is to be returned by now is not tried, here or elsewhere", "[delivery][wishes]") {
  Wished here(kTimed);
  for (const std::string to : {"a@x.test", "a@here.test"}) {
    const auto message = here.message(0, true, false, to);
    const auto record = here.rig.custody->wait_for(here.rig.send(
        message, to == "a@x.test" ? queue::Lease::Reason::fresh : queue::Lease::Reason::due));
    CHECK(describe(record) == "0 bounce 5.4.7");
    CHECK(has(here.notice(record), "it was to be delivered by"));
  }
  CHECK(here.mx.connections() == 0);
}

TEST_CASE("late mail of mode N is tried, and says how late it is", "[delivery][wishes]") {
  Wished here(kTimed);
  CHECK(describe(here.rig.deliver(here.message(-5, false))) == "0 delivered 2.0.0");
  REQUIRE(here.mx.taken().size() == 1);
  CHECK(here.mx.taken()[0].mail == "FROM:<from@sender.test> BY=-5;N MT-PRIORITY=3");
}
