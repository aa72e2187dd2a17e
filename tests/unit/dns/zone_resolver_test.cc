#include "tests/support/zone_resolver.h"

#include "base/log.h"
#include "base/net/loop.h"

#include <catch2/catch.hpp>

namespace postrider::tests {

using Texts = std::vector<std::string>;

namespace {

template <class Record>
Task<void> collect(Task<dns::Answer<Record>> lookup, dns::Answer<Record>& answer) {
  answer = co_await std::move(lookup);
}

template <class Record>
dns::Answer<Record> now(Task<dns::Answer<Record>> lookup) {
  Loop loop(0);
  NullLog log;
  dns::Answer<Record> answer;
  loop.spawn(collect(std::move(lookup), answer), log, "test");
  loop.finish();
  loop.run();
  return answer;
}

}  // namespace

TEST_CASE("the resolver for unit tests answers from its zone", "[dns][support]") {
  ZoneResolver resolver(R"(
    example.test  MX    10 MX1.example.test
    example.test  MX    20 mx2.example.test.   ; a comment
    null.test     MX    0 .
    mx1.example.test A  192.0.2.1
    mx1.example.test AAAA 2001:db8::1
    www.test      CNAME mx1.example.test
    loop.test     CNAME loop.test
    txt.test      TXT   "v=spf1; " "-all"
    192.0.2.1     PTR   mx1.example.test
    _25._tcp.mx1.example.test TLSA 3 1 1 00ff
    bare.test     EXISTS
  )");
  resolver.servfail("broken.test");
  resolver.timeout("mx2.example.test", "AAAA");

  const auto mx = now(resolver.mx("Example.test"));
  REQUIRE(mx.records.size() == 2);
  CHECK(mx.records[0].host == "mx1.example.test");
  CHECK(mx.records[1].host == "mx2.example.test");
  CHECK(now(resolver.mx("null.test")).records.at(0).host.empty());
  const auto alias = now(resolver.a("www.test"));
  CHECK(alias.records.at(0).to_string() == "192.0.2.1");
  CHECK(alias.canonical_name == "mx1.example.test");
  CHECK(now(resolver.txt("txt.test")).records == Texts{"v=spf1; -all"});
  CHECK(now(resolver.ptr(asio::ip::make_address("192.0.2.1"))).records ==
        Texts{"mx1.example.test"});
  CHECK(now(resolver.tlsa("_25._tcp.mx1.example.test")).records.at(0).data.size() == 2);
  CHECK(now(resolver.mx("bare.test")).status == dns::Status::no_data);
  CHECK(now(resolver.a("_tcp.mx1.example.test")).status == dns::Status::no_data);
  CHECK(now(resolver.a("none.test")).status == dns::Status::no_such_name);
  CHECK(now(resolver.a("broken.test")).status == dns::Status::temporary_failure);
  CHECK(now(resolver.a("loop.test")).status == dns::Status::temporary_failure);
  CHECK(now(resolver.a("mx2.example.test")).status == dns::Status::no_such_name);
  CHECK(now(resolver.aaaa("mx2.example.test")).reason ==
        "aaaa mx2.example.test: no answer from 127.0.0.1:53");
  resolver.set_secure("mx1.example.test", true);
  CHECK(now(resolver.a("mx1.example.test")).secure);
  CHECK(resolver.times_asked("a loop.test") == 1);
  CHECK_THROWS(resolver.add("x.test MX"));
}

}  // namespace postrider::tests
