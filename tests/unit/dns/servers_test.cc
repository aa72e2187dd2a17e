// Which server is asked, how often, and what happens when the resolver changes or ends.
#include "base/file.h"
#include "tests/unit/dns/dns_fixture.h"

#include <catch2/catch.hpp>

#include <cstdlib>
#include <filesystem>

namespace postrider::dns {

using namespace tests;
using Texts = std::vector<std::string>;

namespace {

Script one_mx() {
  return answers({record("example.test", 300, "MX 10 mx.example.test")});
}

}  // namespace

TEST_CASE_METHOD(DnsFixture, "the next server is asked when one is silent or fails",
                 "[dns][resolver]") {
  struct Case {
    std::string name;
    Script first;
  };
  Message mangled;
  const std::vector<Case> cases = {
      {"silent", nothing()},
      {"SERVFAIL", fails(Rcode::server_failure)},
      {"REFUSED", fails(Rcode::refused)},
      {"FORMERR", fails(Rcode::format_error)},
      {"malformed", truncated(nothing())},
  };
  for (const auto& c : cases) {
    DYNAMIC_SECTION(c.name) {
      start_with_two();
      server.on_any(c.first);
      second.on("mx example.test", one_mx());
      CHECK(mx("example.test").status == Status::records);
      CHECK(second.asked() == Texts{"mx example.test"});
    }
  }
}

TEST_CASE_METHOD(DnsFixture, "a server that nobody runs is known at once", "[dns][resolver]") {
  settings.timeouts = {Duration(60000)};
  settings.total = Duration(60000);
  start_with_two();
  server.stop();
  second.on("mx example.test", one_mx());
  CHECK(mx("example.test").status == Status::records);
  second.stop();
  const auto answer = mx("other.test");
  CHECK(answer.status == Status::temporary_failure);
  CHECK(answer.reason.ends_with("Connection refused"));
}

TEST_CASE_METHOD(DnsFixture, "no name is asked for again because it does not exist",
                 "[dns][resolver]") {
  start_with_two();
  CHECK(mx("example.test").status == Status::no_such_name);
  CHECK(server.asked().size() == 1);
  CHECK(second.asked().empty());
}

TEST_CASE_METHOD(DnsFixture, "a silent server is asked in each round, one that failed is not",
                 "[dns][resolver]") {
  start_with_two();
  server.on_any(nothing());
  second.on_any(fails(Rcode::server_failure));
  const auto answer = mx("example.test");
  CHECK(answer.status == Status::temporary_failure);
  CHECK(answer.reason == "mx example.test: SERVFAIL from " + to_string(second.address()));
  CHECK(server.asked().size() == 3);
  CHECK(second.asked().size() == 1);
  CHECK(resolver->counters().timeouts == 3);
}

TEST_CASE_METHOD(DnsFixture, "the server that answered goes first after another was silent",
                 "[dns][resolver]") {
  start_with_two();
  server.on_any(nothing());
  CHECK(mx("a.test").status == Status::no_such_name);
  CHECK(mx("b.test").status == Status::no_such_name);
  CHECK(server.asked() == Texts{"mx a.test"});
  CHECK(second.asked() == Texts{"mx a.test", "mx b.test"});
}

TEST_CASE_METHOD(DnsFixture, "a lookup ends by its total deadline", "[dns][resolver]") {
  settings.timeouts = {Duration(600000)};
  settings.total = Duration(200);
  start();
  server.on_any(nothing());
  const auto begun = std::chrono::steady_clock::now();
  CHECK(mx("example.test").status == Status::temporary_failure);
  const auto took = std::chrono::steady_clock::now() - begun;
  CHECK(took >= Duration(200));
  CHECK(took < Duration(60000));
}

TEST_CASE_METHOD(DnsFixture, "a failure is remembered for a few seconds", "[dns][resolver]") {
  start();
  server.on("mx example.test", in_turn({fails(Rcode::server_failure), one_mx()}));
  CHECK(mx("example.test").status == Status::temporary_failure);
  CHECK(mx("example.test").status == Status::temporary_failure);
  CHECK(server.asked().size() == 1);
  resolver->forget_all();
  CHECK(mx("example.test").status == Status::records);
}

TEST_CASE_METHOD(DnsFixture, "lookups beyond the limit in flight wait their turn",
                 "[dns][resolver]") {
  settings.most_in_flight = 3;
  settings.most_waiting = 5;
  settings.timeouts = {Duration(60000)};
  settings.total = Duration(60000);
  start();
  server.hold();
  std::vector<std::shared_ptr<std::optional<Answer<Mx>>>> all;
  for (int i = 0; i < 9; ++i)
    all.push_back(begin(resolver->mx("n" + std::to_string(i) + ".test")));
  run_until_asked(server, 3);
  run_until([&] { return all[8]->has_value(); });
  CHECK((*all[8])->reason == "mx n8.test: too many lookups are waiting");
  CHECK(server.asked().size() == 3);
  server.release();
  for (int i = 0; i < 8; ++i)
    CHECK(finish(all[static_cast<std::size_t>(i)]).status == Status::no_such_name);
  CHECK(server.asked().size() == 8);
}

TEST_CASE_METHOD(DnsFixture, "a burst of a thousand lookups loses no packet", "[dns][resolver]") {
  settings.timeouts = {Duration(60000)};
  settings.total = Duration(60000);
  start();
  std::vector<std::shared_ptr<std::optional<Answer<Mx>>>> all;
  for (int i = 0; i < 1000; ++i)
    all.push_back(begin(resolver->mx("n" + std::to_string(i) + ".test")));
  for (const auto& one : all)
    CHECK(finish(one).status == Status::no_such_name);
  CHECK(server.asked().size() == 1000);
}

TEST_CASE_METHOD(DnsFixture, "answers that never come do not keep others from being asked",
                 "[dns][resolver]") {
  settings.timeouts = {Duration(60000)};
  settings.total = Duration(60000);
  start();
  server.on_any(nothing());
  server.on("mx example.test", one_mx());
  std::vector<std::shared_ptr<std::optional<Answer<Mx>>>> all;
  for (int i = 0; i < 300; ++i)
    all.push_back(begin(resolver->mx("n" + std::to_string(i) + ".test")));
  CHECK(mx("example.test").status == Status::records);
  CHECK_FALSE(all[0]->has_value());
}

TEST_CASE_METHOD(DnsFixture,
                 "names that nobody answers for do not use up all that may be in flight",
                 "[dns][resolver]") {
  settings.timeouts = {Duration(60000)};
  settings.total = Duration(60000);
  settings.most_in_flight = 20;
  start();
  server.on_any(nothing());
  server.on("mx example.test", one_mx());
  std::vector<std::shared_ptr<std::optional<Answer<Mx>>>> all;
  for (int i = 0; i < 60; ++i)
    all.push_back(begin(resolver->mx("n" + std::to_string(i) + ".test")));
  // Half of those in flight have short patience, and then its turn comes before that of many.
  CHECK(mx("example.test").status == Status::records);
  CHECK_FALSE(all[0]->has_value());
  CHECK(std::count_if(all.begin(), all.end(), [](const auto& one) { return one->has_value(); }) <=
        20);
}

TEST_CASE_METHOD(DnsFixture, "that a name's servers are silent is remembered for longer",
                 "[dns][resolver]") {
  settings.timeouts = {Duration(500)};
  settings.failure_ttl = Duration(1);
  settings.silence_ttl = Duration(60000);
  start();
  server.on("mx silent.test", nothing());
  server.on("mx example.test", one_mx());
  const auto first = begin(resolver->mx("silent.test"));
  const bool others_are_answered = GENERATE(true, false);
  if (others_are_answered)
    CHECK(mx("example.test").status == Status::records);
  CHECK(finish(first).status == Status::temporary_failure);
  const auto asked = server.asked().size();
  const auto end = std::chrono::steady_clock::now() + Duration(2);
  while (std::chrono::steady_clock::now() < end) {
  }
  CHECK(mx("silent.test").status == Status::temporary_failure);
  CHECK(server.asked().size() == asked + (others_are_answered ? 0 : 1));
}

TEST_CASE_METHOD(DnsFixture, "other servers are asked after a reload, and old answers forgotten",
                 "[dns][resolver]") {
  start();
  server.on("mx example.test", one_mx());
  server.on("mx slow.test", one_mx());
  CHECK(mx("example.test").status == Status::records);
  resolver->set_servers({server.address()});
  CHECK(mx("example.test").status == Status::records);
  CHECK(server.asked().size() == 1);
  server.hold();
  const auto in_flight = begin(resolver->mx("slow.test"));
  run_until_asked(server, 2);
  resolver->set_servers({second.address()});
  server.release();
  (void)finish(in_flight);
  CHECK(mx("slow.test").status == Status::no_such_name);
  CHECK(mx("example.test").status == Status::no_such_name);
  CHECK(second.asked() == Texts{"mx slow.test", "mx example.test"});
}

TEST_CASE_METHOD(DnsFixture, "without servers every lookup fails temporarily", "[dns][resolver]") {
  settings.servers.clear();
  start();
  CHECK(mx("example.test").reason == "mx example.test: no server is configured");
}

TEST_CASE_METHOD(DnsFixture, "a lookup without time says so, not that servers are missing",
                 "[dns][resolver]") {
  settings.total = Duration(0);
  start();
  CHECK(mx("example.test").reason == "mx example.test: no time was left to ask a server");
  CHECK(server.asked().empty());
}

TEST_CASE_METHOD(DnsFixture, "stopping answers all who wait", "[dns][resolver]") {
  settings.most_in_flight = 2;
  start();
  server.hold();
  std::vector<std::shared_ptr<std::optional<Answer<Mx>>>> all;
  for (int i = 0; i < 4; ++i)
    all.push_back(begin(resolver->mx("n" + std::to_string(i % 3) + ".test")));
  run_until_asked(server, 2);
  SECTION("by stop()") {
    resolver->stop();
    CHECK(mx("later.test").reason == "mx later.test: the resolver was stopped");
  }
  SECTION("by its end") {
    resolver.reset();
  }
  for (const auto& one : all) {
    const auto answer = finish(one);
    CHECK(answer.status == Status::temporary_failure);
    CHECK(answer.reason.ends_with("the resolver was stopped"));
  }
}

TEST_CASE_METHOD(DnsFixture, "stopping ends a lookup over TCP, too", "[dns][resolver]") {
  settings.timeouts = {Duration(60000)};
  start();
  bool over_tcp = false;
  server.on("mx example.test", truncated([&over_tcp](const Asked&) -> std::vector<Packet> {
              over_tcp = true;
              Packet half("\x01");  // of a length that never comes in full
              half.unframed = true;
              return {half};
            }));
  const auto answer = begin(resolver->mx("example.test"));
  run_until([&] { return over_tcp; });
  resolver.reset();
  CHECK(finish(answer).status == Status::temporary_failure);
}

TEST_CASE_METHOD(DnsFixture, "the last who waits may end the resolver", "[dns][resolver]") {
  start();
  server.on("mx example.test", one_mx());
  const auto end_it = [](DnsFixture& fixture) -> Task<void> {
    const auto answer = co_await fixture.resolver->mx("example.test");
    CHECK(answer.status == Status::records);
    fixture.resolver.reset();
  };
  loop.spawn(end_it(*this), log, "test");
  const auto other = begin(resolver->mx("example.test"));
  CHECK(finish(other).status == Status::records);
  run_until([&] { return resolver == nullptr; });
}

TEST_CASE_METHOD(DnsFixture, "trust in the AD bit depends on where the servers are",
                 "[dns][resolver]") {
  const auto server_at = [](const char* text) { return parse_server(text).value(); };
  struct Case {
    std::string name;
    std::vector<Server> servers;
    std::optional<bool> asked;
    bool want;
  };
  const std::vector<Case> cases = {
      {"loopback", {server_at("127.0.0.1"), server_at("::1")}, {}, true},
      {"elsewhere", {server_at("192.0.2.1")}, {}, false},
      {"one elsewhere", {server_at("127.0.0.1"), server_at("192.0.2.1")}, {}, false},
      {"loopback, but no", {server_at("127.0.0.1")}, false, false},
      {"elsewhere, but yes", {server_at("192.0.2.1")}, true, true},
  };
  for (const auto& c : cases) {
    DYNAMIC_SECTION(c.name) {
      settings.servers = c.servers;
      settings.trust_ad = c.asked;
      start();
      CHECK(resolver->trusts_ad() == c.want);
    }
  }
}

TEST_CASE_METHOD(DnsFixture, "the system's servers come from a file", "[dns][resolver]") {
  std::string folder = (std::filesystem::temp_directory_path() / "dns-XXXXXX").string();
  REQUIRE(::mkdtemp(folder.data()) != nullptr);
  settings.resolv_conf = folder + "/resolv.conf";
  REQUIRE(replace_file(settings.resolv_conf,
                       "nameserver 192.0.2.1\nnameserver 127.0.0.1\noptions trust-ad\n", 0644));
  start();
  CHECK(to_string(resolver->servers().at(0)) == "192.0.2.1:53");
  CHECK(resolver->servers().size() == 2);
  CHECK(resolver->trusts_ad());
  resolver->set_servers({server.address()});
  CHECK(mx("example.test").status == Status::no_such_name);
  std::filesystem::remove_all(folder);
}

}  // namespace postrider::dns
