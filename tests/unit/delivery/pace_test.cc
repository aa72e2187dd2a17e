// What delivery makes of the limits that sites have, over real connections.
#include "fake_mx.h"
#include "rig.h"

#include "delivery/evidence.h"

#include <catch2/catch.hpp>

#include <filesystem>
#include <optional>

using namespace postrider;
using namespace postrider::delivery;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

const char* const kRate = "451 4.7.1 rate limit exceeded\r\n";

std::string site_of(const FakeMx& mx) {
  return "smtp://127.0.0.1:" + std::to_string(mx.port());
}

std::shared_ptr<mail::Message> from(std::string sender, std::string recipient) {
  return make_message({std::move(recipient)}, "Subject: pace\r\n\r\n\r\n", std::move(sender));
}

std::shared_ptr<const scheduler::RetrySchedule> schedule() {
  return std::make_shared<const scheduler::RetrySchedule>();
}

}  // namespace

TEST_CASE("a site's limit of connections is found, and kept to", "[delivery][pace]") {
  Behaviour behaviour;
  behaviour.most_connections = 3;
  behaviour.end_takes = milliseconds(5);
  FakeMx mx(behaviour);
  Rig rig;
  rig.route_to(mx.port());
  rig.start();
  std::vector<mail::MessageId> ids;
  for (int i = 0; i < 300; ++i)
    ids.push_back(rig.send(make_message({"a@x.test"}, "S: " + std::to_string(i) + "\r\n\r\n\r\n")));
  for (const auto id : ids)
    CHECK(describe(rig.custody->wait_for(id)) == "0 delivered 2.0.0");
  CHECK(mx.taken().size() == 300);
  CHECK(mx.connections_refused() <= 10);
  const auto site = rig.explain("a@x.test").site;
  CHECK(site.limit <= 3);
  CHECK_THAT(site.limits, Catch::Contains("one more was refused"));
}

TEST_CASE("a site that bears all gets all that it may have", "[delivery][pace]") {
  Behaviour behaviour;
  behaviour.end_takes = milliseconds(5);
  FakeMx mx(behaviour);
  Rig rig;
  rig.settings.site_connections = 12;
  rig.route_to(mx.port());
  rig.start();
  std::vector<mail::MessageId> ids;
  for (int i = 0; i < 200; ++i)
    ids.push_back(rig.send(make_message({"a@x.test"})));
  for (const auto id : ids)
    CHECK(describe(rig.custody->wait_for(id)) == "0 delivered 2.0.0");
  CHECK(mx.connections() <= 12);
  CHECK(rig.explain("a@x.test").site.limit == 12);
}

TEST_CASE("a refusal of the rate stops a site until it takes mail", "[delivery][pace]") {
  Behaviour behaviour;
  behaviour.replies["MAIL"] = kRate;
  FakeMx mx(behaviour);
  Rig rig;
  rig.settings.site_connections = 1;
  rig.settings.smtp.idle_connection = milliseconds(1);
  rig.settings.retry_by_reason = schedule();
  rig.route_to(mx.port());
  rig.start();
  std::vector<mail::MessageId> ids;
  for (int i = 0; i < 20; ++i)
    ids.push_back(rig.send(from("s" + std::to_string(i) + "@sender.test", "a@x.test")));
  unsigned tried = 0;
  for (const auto id : ids) {
    const auto words = describe(rig.custody->wait_for(id));
    CHECK((words == "0 retry 4.7.1" || words == "0 untried"));
    tried += words == "0 untried" ? 0 : 1;
  }
  CHECK(tried == Evidence::kSeveral);
  auto site = rig.custody->sites()[site_of(mx)];
  CHECK(site.blocked_until == rig.clock.now() + seconds(10));
  CHECK_THAT(site.last.reason(), Catch::Contains("rate limit exceeded"));
  // A probe that is refused, and a longer pause.
  rig.clock.advance(seconds(11));
  CHECK(describe(rig.deliver(make_message({"a@x.test"}))) == "0 retry 4.7.1");
  site = rig.custody->sites()[site_of(mx)];
  CHECK(site.blocked_until == rig.clock.now() + seconds(20));
  // Its greeting opens nothing, mail that it takes does.
  rig.wait_until([&] { return rig.status().connections == 0; });
  mx.behave({});
  rig.clock.advance(seconds(21));
  CHECK(describe(rig.deliver(make_message({"a@x.test"}))) == "0 delivered 2.0.0");
  CHECK(rig.custody->sites()[site_of(mx)].blocked_until == TimePoint{});
  CHECK_THAT(rig.explain("a@x.test").site.limits, Catch::Contains("it refused for the rate"));
}

// As the queue keeps the tally between attempts.
TEST_CASE("a retry is by the deferrals for its reason, and obeys two hints", "[delivery][pace]") {
  using scheduler::ReplyClass;
  const auto number = [](ReplyClass klass) {
    return static_cast<std::uint8_t>(static_cast<unsigned>(klass) + 1);
  };
  struct Case {
    std::string reply;
    std::uint32_t attempts;
    queue::RetryTally before;
    Duration least, most;
    queue::RetryTally after;
  };
  using std::chrono::minutes;
  const auto full = number(ReplyClass::mailbox_full), busy = number(ReplyClass::busy),
             grey = number(ReplyClass::greylisted), policy = number(ReplyClass::policy);
  const std::string over = "452 4.2.2 over quota\r\n";
  const std::string hint = "451 4.7.1 Greylisted, try again in 60 seconds\r\n";
  const std::string long_hint = "451 4.7.1 Greylisted, try again in 1 hour\r\n";
  const std::string plain = "450 4.7.1 <a@x.test>: Recipient address rejected: come later\r\n";
  const auto [reply, attempts, before, least, most, after] = GENERATE_COPY(values<Case>(
      {{over, 3, {busy, 3, 0}, minutes(52), minutes(68), {full, 1, 0}},
       {over, 4, {full, 1, 0}, minutes(210), minutes(270), {full, 2, 0}},
       {over, 1, {}, minutes(210), minutes(270), {full, 2, 0}},  // of an earlier version
       {hint, 0, {}, seconds(60), seconds(70), {grey, 1, 1}},
       {hint, 1, {grey, 1, 1}, seconds(60), seconds(70), {grey, 2, 2}},
       {hint, 2, {grey, 2, 2}, minutes(17), minutes(23), {grey, 3, 2}},
       {hint, 3, {busy, 1, 2}, seconds(305), minutes(6), {grey, 1, 2}},
       {long_hint, 0, {}, minutes(60), minutes(66), {grey, 1, 1}},
       {plain, 0, {}, seconds(305), minutes(6), {grey, 1, 0}},
       {plain, 1, {grey, 1, 0}, minutes(26), minutes(34), {policy, 1, 0}}}));
  CAPTURE(reply, attempts);
  Behaviour behaviour;
  behaviour.replies["RCPT"] = reply;
  FakeMx mx(behaviour);
  Rig rig;
  rig.settings.retry_by_reason = schedule();
  rig.route_to(mx.port());
  rig.start();
  const auto result = rig.deliver_again(attempts, before);
  const auto wait = result.next_attempt - rig.clock.now();
  CHECK(wait >= least);
  CHECK(wait <= most);
  CHECK(result.tally == after);
}

// Whatever the text says, in whatever language, and whether it names somebody or not.
TEST_CASE("a sender or a mailbox that is refused stops no others", "[delivery][pace]") {
  const auto [command, reply] = GENERATE(table<const char*, const char*>(
      {{"MAIL", "450 4.7.1 <news@src.test>: Sender address rejected: rate limit exceeded\r\n"},
       {"MAIL", "450 4.7.28 Zu viele Nachrichten in letzter Zeit\r\n"},
       {"MAIL", "451 4.7.1 rate limit exceeded\r\n"},
       {"RCPT", "450 4.7.28 Trop de messages\r\n"},
       {"RCPT", "452 4.2.2 <a@x.test>: mailbox is full, too many messages\r\n"},
       {"MAIL", "421 4.7.0 very low reputation\r\n"},
       {"MAIL", "421 4.3.0 \xd0\xbf\xd0\xbe\xd0\xb7\xd0\xb6\xd0\xb5\r\n"},
       {".", "421 4.7.0 very low reputation\r\n"}}));
  const bool is_of_sender = GENERATE(true, false);
  if (!is_of_sender && std::string(command) == "MAIL")
    return;  // nobody has named the mailbox yet
  CAPTURE(command, reply, is_of_sender);
  Behaviour behaviour;
  behaviour.replies[command] = reply;
  FakeMx mx(behaviour);
  Rig rig;
  rig.settings.site_connections = 1;
  rig.settings.smtp.idle_connection = milliseconds(1);
  rig.settings.retry_by_reason = schedule();
  rig.route_to(mx.port());
  rig.start();
  std::vector<mail::MessageId> ids;
  for (int i = 0; i < 20; ++i) {
    const auto number = std::to_string(i);
    ids.push_back(rig.send(is_of_sender ? from("news@src.test", "u" + number + "@x.test")
                                        : from("s" + number + "@src.test", "a@x.test")));
  }
  for (const auto id : ids)
    CHECK(describe(rig.custody->wait_for(id)).find("retry") !=
          std::string::npos);  // each was tried
  CHECK(rig.custody->sites()[site_of(mx)].blocked_until == TimePoint{});
  rig.wait_until([&] { return rig.status().connections == 0; });
  mx.behave({});
  CHECK(describe(rig.deliver(make_message({"b@x.test"}))) == "0 delivered 2.0.0");
}

TEST_CASE("conversations that break block a site if they are of several senders",
          "[delivery][pace]") {
  const int senders = GENERATE(1, 10);
  Behaviour behaviour;
  behaviour.drop_at = "DATA";
  FakeMx mx(behaviour);
  Rig rig;
  rig.settings.site_connections = 1;
  rig.settings.smtp.idle_connection = milliseconds(1);
  rig.route_to(mx.port());
  rig.start();
  std::vector<mail::MessageId> ids;
  for (int i = 0; i < 12; ++i)
    ids.push_back(rig.send(from("s" + std::to_string(i % senders) + "@src.test",
                                "u" + std::to_string(i) + "@x.test")));
  for (const auto id : ids)
    (void)rig.custody->wait_for(id);
  CHECK((rig.custody->sites()[site_of(mx)].blocked_until != TimePoint{}) == (senders > 1));
}

TEST_CASE("greylisting is waited for as the site asks", "[delivery][pace]") {
  Behaviour behaviour;
  Duration least{0}, most{0};
  SECTION("as greylisters do") {
    behaviour.replies["RCPT"] = "451 4.7.1 greylisted, come back later\r\n";
    least = seconds(300);
    most = seconds(330);
  }
  SECTION("by a hint") {
    behaviour.replies["RCPT"] = "451 4.7.1 greylisted, try again in 90 seconds\r\n";
    least = seconds(90);
    most = seconds(110);
  }
  SECTION("a hint of days is none of ours") {
    behaviour.replies["RCPT"] = "451 4.7.1 greylisted, try again in 50 hours\r\n";
    least = std::chrono::minutes(5);
    most = std::chrono::minutes(67);  // an hour at most
  }
  SECTION("a full mailbox") {
    behaviour.replies["RCPT"] = "452 4.2.2 mailbox full\r\n";
    least = std::chrono::minutes(52);
    most = std::chrono::minutes(68);
  }
  FakeMx mx(behaviour);
  Rig rig;
  rig.settings.retry_by_reason = schedule();
  rig.route_to(mx.port());
  rig.start();
  const auto record = rig.deliver(make_message({"a@x.test", "b@x.test", "c@x.test"}));
  REQUIRE(record.results.size() == 3);
  for (const auto& result : record.results) {
    CHECK(result.next_attempt >= rig.clock.now() + least);
    CHECK(result.next_attempt <= rig.clock.now() + most);
    CHECK(result.next_attempt == record.results[0].next_attempt);
  }
}

TEST_CASE("a hint is obeyed twice, then the schedule goes on", "[delivery][pace]") {
  Behaviour behaviour;
  behaviour.replies["RCPT"] = "451 4.7.1 greylisted, try again in 90 seconds\r\n";
  FakeMx mx(behaviour);
  Rig rig;
  rig.settings.retry_by_reason = schedule();
  rig.route_to(mx.port());
  rig.start();
  queue::RetryTally tally;
  for (std::uint32_t attempts = 0; attempts < 4; ++attempts) {
    const auto result = rig.deliver_again(attempts, tally);
    tally = result.tally;
    const auto wait = result.next_attempt - rig.clock.now();
    if (attempts < 2)
      CHECK(wait < seconds(110));
    else
      CHECK(wait > std::chrono::minutes(15));
  }
}

TEST_CASE("a dead site is probed by how long it has been dead", "[delivery][pace]") {
  Rig rig;
  std::uint16_t port = 0;
  {
    FakeMx once;
    port = once.port();
  }
  rig.settings.retry_by_reason = schedule();
  rig.settings.probes_by_outage = true;
  rig.route_to(port);
  rig.start();
  const auto name = "smtp://127.0.0.1:" + std::to_string(port);
  const auto began = rig.clock.now();
  unsigned probes = 0;
  while (rig.clock.now() < began + std::chrono::hours(2)) {
    CHECK(describe(rig.deliver(make_message({"a@x.test"}))) == "0 untried");
    ++probes;
    const auto until = rig.custody->sites()[name].blocked_until;
    REQUIRE(until > rig.clock.now());
    CHECK(until <= rig.clock.now() + std::chrono::minutes(17));
    rig.clock.advance(until - rig.clock.now());
  }
  CHECK(probes >= 20);
  CHECK(probes <= 80);
}

TEST_CASE("what an operator knows better of a site is kept to", "[delivery][pace]") {
  FakeMx mx;
  Rig rig;
  SiteRule rule;
  rule.match = {"mx:127.0.0.1"};
  rule.bounds.connections = 2;
  rule.bounds.per_connection = 5;
  rig.settings.site_rules = {rule};
  rig.route_to(mx.port());
  rig.start();
  std::vector<mail::MessageId> ids;
  for (int i = 0; i < 100; ++i)
    ids.push_back(rig.send(make_message({"a@x.test"})));
  for (const auto id : ids)
    CHECK(describe(rig.custody->wait_for(id)) == "0 delivered 2.0.0");
  CHECK(rig.explain("a@x.test").site.limit <= 2);
  CHECK(mx.connections() >= 20);
  CHECK(mx.connections() <= 30);
}

TEST_CASE("what was found of a site is known after a restart", "[delivery][pace]") {
  Behaviour behaviour;
  behaviour.most_connections = 3;
  behaviour.end_takes = milliseconds(5);
  FakeMx mx(behaviour);
  const auto file = std::filesystem::temp_directory_path() / ("sites-" + std::to_string(mx.port()));
  const auto send_all = [&](Rig& rig, int count) {
    rig.settings.site_memory = file.string();
    rig.route_to(mx.port());
    rig.start();
    std::vector<mail::MessageId> ids;
    for (int i = 0; i < count; ++i)
      ids.push_back(rig.send(make_message({"a@x.test"})));
    for (const auto id : ids)
      CHECK(describe(rig.custody->wait_for(id)) == "0 delivered 2.0.0");
  };
  unsigned found = 0;
  {
    Rig rig;
    send_all(rig, 200);
    found = rig.explain("a@x.test").site.limit;
    CHECK(found <= 3);
  }
  REQUIRE(std::filesystem::exists(file));
  const auto end = std::chrono::steady_clock::now() + std::chrono::minutes(2);
  while (mx.connections_open() > 0 && std::chrono::steady_clock::now() < end)
    std::this_thread::sleep_for(milliseconds(2));
  const auto refused = mx.connections_refused();
  CHECK(refused > 0);
  {
    Rig rig;
    send_all(rig, 50);
    const auto site = rig.explain("a@x.test").site;
    CHECK(site.limit == found);
    CHECK_THAT(site.limits, Catch::Contains("one more was refused"));
  }
  CHECK(mx.connections_refused() == refused);
  std::filesystem::remove(file);
}
