// Answers that are large, strange or forged, over real sockets.
#include "tests/unit/dns/dns_fixture.h"

#include <catch2/catch.hpp>

#include <set>

namespace postrider::dns {

using namespace std::literals;
using namespace tests;
using Texts = std::vector<std::string>;

namespace {

Script good() {
  return answers({record("a.test", 300, "A 192.0.2.1")});
}

Script forged() {
  return answers({record("a.test", 300, "A 203.0.113.66")});
}

}  // namespace

TEST_CASE_METHOD(DnsFixture, "D10 forged answers are dropped and the true one is taken",
                 "[dns][resolver][attack]") {
  settings.timeouts = {Duration(5000)};
  start();
  struct Case {
    std::string name;
    Script before;
    std::uint64_t dropped;
  };
  const std::vector<Case> cases = {
      {"a wrong id", with_wrong_id(forged()), 1},
      {"a wrong question", with_wrong_question(forged()), 1},
      {"another port", from_another_port(forged()), 0},  // the kernel drops it
      {"the query itself", [](const Asked& asked) { return std::vector<Packet>{asked.packet}; }, 1},
      {"one octet", bytes("x"), 1},
      {"nothing at all", bytes(""), 1},
      {"a thousand guesses", one_after_another(std::vector<Script>(100, with_wrong_id(forged()))),
       100},
  };
  for (const auto& c : cases) {
    DYNAMIC_SECTION(c.name) {
      server.on("a a.test", one_after_another({c.before, good()}));
      CHECK(texts(a("a.test").records) == Texts{"192.0.2.1"});
      CHECK(resolver->counters().dropped == c.dropped);
    }
  }
}

TEST_CASE_METHOD(DnsFixture, "D10 the first of two answers counts", "[dns][resolver][attack]") {
  start();
  server.on("a a.test", one_after_another({good(), forged()}));
  CHECK(texts(a("a.test").records) == Texts{"192.0.2.1"});
}

TEST_CASE_METHOD(DnsFixture, "D10 after guesses and silence the question goes over TCP",
                 "[dns][resolver][attack]") {
  start();
  const Script script = [](const Asked& asked) {
    return asked.over_tcp ? good()(asked) : with_wrong_id(forged())(asked);
  };
  server.on("a a.test", script);
  CHECK(texts(a("a.test").records) == Texts{"192.0.2.1"});
  CHECK(server.asked() == Texts{"a a.test", "tcp a a.test"});
}

TEST_CASE_METHOD(DnsFixture, "D10 the case of letters in an answer does not matter",
                 "[dns][resolver][attack]") {
  start();
  server.on("a a.test", [](const Asked& asked) {
    auto packets = good()(asked);
    for (auto& c : packets[0].bytes)
      if (c == 't')
        c = 'T';
    return packets;
  });
  CHECK(texts(a("a.test").records) == Texts{"192.0.2.1"});
}

TEST_CASE_METHOD(DnsFixture, "D10 ports and ids do not repeat", "[dns][resolver][attack]") {
  start();
  for (int i = 0; i < 40; ++i)
    (void)a("n" + std::to_string(i) + ".test");
  std::set<std::uint16_t> ports, ids;
  for (const auto& query : server.queries()) {
    ports.insert(query.from_port);
    ids.insert(query.message.id);
  }
  CHECK(ports.size() > 30);
  CHECK(ids.size() > 38);
}

TEST_CASE_METHOD(DnsFixture, "D10 over TCP, too, only the answer to our question counts",
                 "[dns][resolver][attack]") {
  settings.timeouts = {Duration(5000)};
  for (const auto& forgery : {with_wrong_id(good()), with_wrong_question(good())}) {
    start();
    server.on("a a.test", truncated(forgery));
    const auto answer = a("a.test");
    CHECK(answer.status == Status::temporary_failure);
    CHECK(answer.reason.find("not the answer to our question") != std::string::npos);
  }
}

TEST_CASE_METHOD(DnsFixture, "D01 malformed answers are temporary, over UDP and over TCP",
                 "[dns][resolver][attack]") {
  settings.failure_ttl = Duration(0);
  start();
  const auto header = "xx\x84\0\0\1\0\1\0\0\0\0\1a\4test\0\0\1\0\1"s;
  for (const auto& body : {""s, "\xc0"s, "\xc0\x0c\0\1\0\1\0\0\0\1\0\3\1\2\3"s,
                           "\xc0\x18\0\1\0\1\0\0\0\1\0\4\1\2\3\4"s, std::string(3000, '\xff')}) {
    server.on("a a.test", bytes(header + body));
    CHECK(a("a.test").status == Status::temporary_failure);
    CHECK(server.asked().back() == "tcp a a.test");
  }
  // What was mangled over UDP only is repaired.
  server.on("a a.test", [header](const Asked& asked) {
    return asked.over_tcp ? good()(asked) : bytes(header)(asked);
  });
  CHECK(texts(a("a.test").records) == Texts{"192.0.2.1"});
}

TEST_CASE_METHOD(DnsFixture, "D09 a truncated answer is fetched over TCP or is temporary",
                 "[dns][resolver][attack]") {
  start();
  server.on("a a.test", truncated(good()));
  CHECK(texts(a("a.test").records) == Texts{"192.0.2.1"});
  CHECK(server.asked() == Texts{"a a.test", "tcp a a.test"});
  CHECK(resolver->counters().over_tcp == 1);
  server.on("a b.test", truncated(good()));
  server.refuse_tcp();
  const auto answer = a("b.test");
  CHECK(answer.status == Status::temporary_failure);
  CHECK(answer.reason.find("connect over TCP: Connection refused") != std::string::npos);
}

TEST_CASE_METHOD(DnsFixture, "D08 sixty kilobytes of records come over TCP",
                 "[dns][resolver][attack]") {
  start();
  std::vector<Record> many;
  for (int i = 0; i < 1000; ++i)
    many.push_back(record("m.test", 300, "MX 10 mx" + std::to_string(i) + ".a-long-name.m.test"));
  server.on("mx m.test", truncated(answers(many)));
  const auto answer = mx("m.test");
  CHECK(answer.status == Status::records);
  CHECK(answer.records.size() == 1000);
}

TEST_CASE_METHOD(DnsFixture, "D02 a TLSA record of 60 kilobytes does no harm",
                 "[dns][resolver][attack]") {
  start();
  auto large = record("t.test", 300, "TLSA 3 1 1 00");
  std::get<TlsaData>(large.data).data.assign(60000, '\7');
  server.on("tlsa t.test", truncated(answers({large})));
  const auto answer = tlsa("t.test");
  REQUIRE(answer.records.size() == 1);
  CHECK(answer.records[0].data.size() == 60000);
}

TEST_CASE_METHOD(DnsFixture, "D03 an alias that ends the answer is followed by new questions",
                 "[dns][resolver][attack]") {
  start();
  SECTION("to the records") {
    server.on("a a.test", answers({record("a.test", 300, "CNAME b.test")}));
    server.on("a b.test", answers({record("b.test", 50, "CNAME c.test")}));
    server.on("a c.test", answers({record("c.test", 300, "A 192.0.2.3")}));
    const auto answer = a("a.test");
    CHECK(texts(answer.records) == Texts{"192.0.2.3"});
    CHECK(answer.canonical_name == "c.test");
    CHECK(answer.ttl <= Duration(50000));
  }
  SECTION("to a name that does not exist") {
    server.on("a a.test", answers({record("a.test", 300, "CNAME b.test")}));
    CHECK(a("a.test").status == Status::no_such_name);
  }
  SECTION("round in a circle") {
    server.on("a a.test", answers({record("a.test", 300, "CNAME b.test")}));
    server.on("a b.test", answers({record("b.test", 300, "CNAME a.test")}));
    CHECK(a("a.test").status == Status::temporary_failure);
    CHECK(server.asked().size() <= 10);
  }
  SECTION("for ever") {
    for (int i = 0; i < 30; ++i)
      server.on("a n" + std::to_string(i) + ".test",
                answers({record("n" + std::to_string(i) + ".test", 300,
                                "CNAME n" + std::to_string(i + 1) + ".test")}));
    const auto answer = a("n0.test");
    CHECK(answer.status == Status::temporary_failure);
    CHECK(answer.reason == "a n0.test: a chain of more than 10 aliases");
  }
}

TEST_CASE_METHOD(DnsFixture, "D12 a host name with odd octets is not used",
                 "[dns][resolver][attack]") {
  start();
  auto odd = record("a.test", 300, "MX 10 mx.test");
  Name host;
  REQUIRE(host.append_label("mx\0.test"s));
  std::get<MxData>(odd.data).host = host;
  server.on("mx a.test", answers({odd}));
  const auto answer = mx("a.test");
  CHECK(answer.status == Status::temporary_failure);
  CHECK(answer.reason == "mx a.test: no record with a usable name");
}

TEST_CASE_METHOD(DnsFixture, "D13 a host name that looks like an address is only a name",
                 "[dns][resolver][attack]") {
  start();
  server.on("mx a.test", answers({record("a.test", 300, "MX 10 192.0.2.1")}));
  CHECK(texts(mx("a.test").records) == Texts{"10 192.0.2.1"});
  CHECK(a("192.0.2.1").status == Status::no_such_name);
  CHECK(server.asked().back() == "a 192.0.2.1");
}

TEST_CASE_METHOD(DnsFixture, "D14 the AD bit of a server that is not trusted means nothing",
                 "[dns][resolver][attack]") {
  Message authentic;
  authentic.authentic = true;
  authentic.answers = {record("a.test", 300, "A 192.0.2.1")};
  for (const bool trusted : {true, false}) {
    settings.trust_ad = trusted;
    start();
    server.on("a a.test", says(authentic));
    CHECK(a("a.test").secure == trusted);
    CHECK(a("a.test").secure == trusted);  // from memory
    server.on("a b.test", good());
    CHECK_FALSE(a("b.test").secure);
  }
}

TEST_CASE_METHOD(DnsFixture, "D14 an answer is secure only if each of its parts is",
                 "[dns][resolver][attack]") {
  start();
  Message authentic;
  authentic.authentic = true;
  authentic.answers = {record("a.test", 300, "CNAME b.test")};
  server.on("a a.test", says(authentic));
  server.on("a b.test", answers({record("b.test", 300, "A 192.0.2.1")}));
  const auto answer = a("a.test");
  CHECK(answer.status == Status::records);
  CHECK_FALSE(answer.secure);
}

// RFC 6891 section 7; some send the OPT back with the rest.
TEST_CASE_METHOD(DnsFixture, "a server that does not know EDNS is asked without, then at once",
                 "[dns][resolver]") {
  settings.trust_ad = true;
  const auto code = GENERATE(Rcode::format_error, Rcode::not_implemented);
  const bool sends_opt_back = GENERATE(false, true);
  start();
  std::vector<bool> with_edns;
  for (const auto* name : {"a.test", "b.test"})
    server.on(std::string("a ") + name, [&, name](const Asked& asked) {
      with_edns.push_back(asked.message.has_edns);
      Message reply;
      reply.authentic = true;
      reply.answers = {record(name, 300, "A 192.0.2.1")};
      if (asked.message.has_edns) {
        reply.answers.clear();
        reply.rcode = code;
        reply.has_edns = sends_opt_back;
      }
      return says(reply)(asked);
    });
  const auto first = a("a.test");
  CHECK(first.status == Status::records);
  CHECK_FALSE(first.secure);  // DNSSEC needs EDNS
  const auto second = a("b.test");
  CHECK(second.status == Status::records);
  CHECK_FALSE(second.secure);
  CHECK(with_edns == std::vector<bool>{true, false, false});
}

TEST_CASE_METHOD(DnsFixture, "a server that fails without EDNS too is asked with it again",
                 "[dns][resolver]") {
  start();
  std::size_t with_edns = 0;
  server.on_any([&](const Asked& asked) {
    with_edns += asked.message.has_edns ? 1 : 0;
    return fails(Rcode::not_implemented)(asked);
  });
  CHECK(a("a.test").status == Status::temporary_failure);
  CHECK(a("b.test").status == Status::temporary_failure);
  CHECK(with_edns == 2);
}

}  // namespace postrider::dns
