#include "tests/unit/dns/dns_fixture.h"

#include <catch2/catch.hpp>

namespace postrider::dns {

using namespace tests;
using Texts = std::vector<std::string>;

namespace {

Script one_mx() {
  return answers({record("example.test", 300, "MX 10 mx.example.test")});
}

}  // namespace

TEST_CASE_METHOD(DnsFixture, "each type of record comes back as asked", "[dns][resolver]") {
  start();
  server.on("mx example.test", answers({record("example.test", 300, "MX 10 Mx1.Example.test"),
                                        record("example.test", 200, "MX 20 mx2.example.test")}));
  server.on("a mx1.example.test", answers({record("mx1.example.test", 60, "A 192.0.2.1")}));
  server.on("aaaa mx1.example.test", answers({record("mx1.example.test", 60, "AAAA 2001:db8::1")}));
  server.on("ptr 1.2.0.192.in-addr.arpa",
            answers({record("1.2.0.192.in-addr.arpa", 60, "PTR mx1.example.test")}));
  server.on("txt example.test", answers({record("example.test", 60, "TXT \"v=spf1 -all\"")}));
  server.on("tlsa _25._tcp.mx1.example.test",
            answers({record("_25._tcp.mx1.example.test", 60, "TLSA 3 1 1 00ff")}));
  server.on("cname www.example.test",
            answers({record("www.example.test", 60, "CNAME Mx1.Example.test")}));

  const auto mx_answer = mx("Example.TEST");
  CHECK(mx_answer.status == Status::records);
  CHECK(texts(mx_answer.records) == Texts{"10 mx1.example.test", "20 mx2.example.test"});
  CHECK(mx_answer.canonical_name == "example.test");
  CHECK(mx_answer.ttl > Duration(190000));
  CHECK(mx_answer.ttl <= Duration(200000));
  CHECK(texts(a("mx1.example.test").records) == Texts{"192.0.2.1"});
  CHECK(texts(finish(begin(resolver->aaaa("mx1.example.test"))).records) == Texts{"2001:db8::1"});
  const auto address = asio::ip::make_address("192.0.2.1");
  CHECK(finish(begin(resolver->ptr(address))).records == Texts{"mx1.example.test"});
  CHECK(txt("example.test").records == Texts{"v=spf1 -all"});
  const auto tlsa_answer = tlsa("_25._tcp.mx1.example.test");
  REQUIRE(tlsa_answer.records.size() == 1);
  CHECK(tlsa_answer.records[0].usage == 3);
  CHECK(tlsa_answer.records[0].data == std::vector<std::uint8_t>{0x00, 0xff});
  const auto alias = finish(begin(resolver->cname("www.example.test")));
  CHECK(alias.records == Texts{"mx1.example.test"});
  CHECK(alias.canonical_name == "www.example.test");  // nothing was followed
}

TEST_CASE_METHOD(DnsFixture, "an unusable name does not exist and is not asked for",
                 "[dns][resolver]") {
  start();
  for (const auto& name :
       {std::string(), std::string("."), std::string("a..b"), std::string(".a"),
        std::string(64, 'a') + ".test", std::string(300, 'a'), std::string("a b.test"),
        std::string("a\0b.test", 8), std::string("caf\xc3\xa9.test"), std::string("a\\.b.test")})
    CHECK(mx(name).status == Status::no_such_name);
  CHECK(server.asked().empty());
  CHECK(mx("exists.not").status == Status::no_such_name);
  CHECK(server.asked() == Texts{"mx exists.not"});
}

TEST_CASE_METHOD(DnsFixture, "what was found is remembered for its time to live",
                 "[dns][resolver]") {
  start();
  server.on("mx example.test", one_mx());
  server.on("a gone.test", answers({}, {record("test", 300, "SOA a.test b.test 1 1 1 1 200")}));
  server.on("a unproven.test", answers({}));
  server.on("a fleeting.test", answers({record("fleeting.test", 0, "A 192.0.2.1")}));
  for (int i = 0; i < 2; ++i) {
    CHECK(mx("example.test").status == Status::records);
    CHECK(a("gone.test").status == Status::no_data);
    CHECK(a("unproven.test").status == Status::no_data);
    CHECK(a("fleeting.test").status == Status::records);
  }
  CHECK(a("gone.test").ttl <= Duration(200000));
  CHECK(server.asked() == Texts{"mx example.test", "a gone.test", "a unproven.test",
                                "a fleeting.test", "a unproven.test", "a fleeting.test"});
  resolver->forget_all();
  CHECK(mx("example.test").status == Status::records);
  CHECK(server.asked().back() == "mx example.test");
}

TEST_CASE_METHOD(DnsFixture, "many who ask the same at once share one query", "[dns][resolver]") {
  start();
  server.on("mx example.test", one_mx());
  server.hold();
  std::vector<std::shared_ptr<std::optional<Answer<Mx>>>> all;
  for (int i = 0; i < 50; ++i)
    all.push_back(begin(resolver->mx("example.test")));
  run_until_asked(server, 1);
  server.release();
  for (const auto& one : all)
    CHECK(finish(one).status == Status::records);
  CHECK(server.asked().size() == 1);
  CHECK(resolver->counters().joined == 49);
}

TEST_CASE_METHOD(DnsFixture, "D09 only the answer about a name decides; trouble is temporary",
                 "[dns][resolver][attack]") {
  settings.failure_ttl = Duration(0);
  start();
  struct Case {
    std::string name;
    Script script;
    Status want;
    std::string reason;  // with PORT for the server's
  };
  const auto soa = record("test", 300, "SOA a.test b.test 1 1 1 1 200");
  Message absent;
  absent.rcode = Rcode::name_error;
  absent.authority = {soa};
  Message bogus;
  bogus.rcode = Rcode::server_failure;
  bogus.extended_error = ExtendedError{6, "no valid\nsignature"};
  Message referral;
  referral.authority = {record("test", 300, "NS ns.test")};
  const std::vector<Case> cases = {
      {"NXDOMAIN", says(absent), Status::no_such_name, ""},
      {"NODATA", answers({}, {soa}), Status::no_data, ""},
      {"SERVFAIL", fails(Rcode::server_failure), Status::temporary_failure,
       "mx x.test: SERVFAIL from 127.0.0.1:PORT"},
      {"REFUSED", fails(Rcode::refused), Status::temporary_failure,
       "mx x.test: REFUSED from 127.0.0.1:PORT"},
      {"an unknown code", fails(static_cast<Rcode>(23)), Status::temporary_failure,
       "mx x.test: RCODE 23 from 127.0.0.1:PORT"},
      {"bogus signatures, with the reason", says(bogus), Status::temporary_failure,
       "mx x.test: SERVFAIL (EDE 6 DNSSEC Bogus: no valid\\x0asignature) from 127.0.0.1:PORT"},
      {"silence", nothing(), Status::temporary_failure, "mx x.test: no answer from 127.0.0.1:PORT"},
      {"a referral", says(referral), Status::temporary_failure,
       "mx x.test: a referral to other servers; it does not resolve for us from 127.0.0.1:PORT"},
      {"truncated for ever", truncated(truncated(nothing())), Status::temporary_failure, "*"},
      {"truncated, then TCP closes", truncated(nothing()), Status::temporary_failure,
       "mx x.test: 127.0.0.1:PORT: receive over TCP: read: End of file"},
      {"truncated, then half a frame", truncated(unframed(bytes("ab"))), Status::temporary_failure,
       "*"},
  };
  for (const auto& c : cases) {
    DYNAMIC_SECTION(c.name) {
      server.on("mx x.test", c.script);
      const auto answer = mx("x.test");
      CHECK(answer.status == c.want);
      CHECK(answer.records.empty());
      std::string want = c.reason;
      if (const auto at = want.find("PORT"); at != want.npos)
        want.replace(at, 4, std::to_string(server.address().port));
      if (want == "*")
        CHECK_FALSE(answer.reason.empty());
      else
        CHECK(answer.reason == want);
    }
  }
}

}  // namespace postrider::dns
