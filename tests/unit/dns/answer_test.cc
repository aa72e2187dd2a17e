#include "dns/answer.h"

#include "tests/support/fake_dns_server.h"

#include <catch2/catch.hpp>

namespace postrider::dns {

using tests::name;
using tests::record;

namespace {

Question question(std::string_view text, Type type) {
  Question made;
  made.name = name(text);
  made.type = type;
  return made;
}

Message response(std::vector<Record> answers, std::vector<Record> authority = {}) {
  Message message;
  message.is_response = true;
  message.question = question("a.test", Type::mx);
  message.answers = std::move(answers);
  message.authority = std::move(authority);
  return message;
}

Finding read(const Message& message) {
  return read_answer(message, question("a.test", Type::mx));
}

// a.test -> n1.test -> ... with the records at the end.
std::vector<Record> chain(int links) {
  std::vector<Record> records;
  std::string owner = "a.test";
  for (int i = 1; i <= links; ++i) {
    const std::string next = "n" + std::to_string(i) + ".test";
    records.push_back(record(owner, 300, "CNAME " + next));
    owner = next;
  }
  records.push_back(record(owner, 200, "MX 10 mx.test"));
  return records;
}

const auto kSoa = "SOA a.test b.test 1 1 1 1 200";

}  // namespace

TEST_CASE("D03 a chain of aliases is followed up to ten", "[dns][answer][attack]") {
  for (const int links : {0, 1, 3, 9, 10}) {
    DYNAMIC_SECTION(links << " aliases") {
      const auto finding = read(response(chain(links)));
      CHECK(finding.status == Status::records);
      CHECK(finding.ttl == 200);
      CHECK(finding.links == static_cast<unsigned>(links));
      CHECK(finding.canonical ==
            name(links == 0 ? "a.test" : "n" + std::to_string(links) + ".test"));
    }
  }
  for (const int links : {11, 100}) {
    DYNAMIC_SECTION(links << " aliases") {
      const auto finding = read(response(chain(links)));
      CHECK(finding.status == Status::temporary_failure);
      CHECK(finding.reason == "a chain of more than 10 aliases");
      CHECK_FALSE(finding.unfinished);
    }
  }
}

TEST_CASE("D03 loops and contradictions of aliases are temporary", "[dns][answer][attack]") {
  CHECK(read(response({record("a.test", 1, "CNAME a.test")})).reason ==
        "a chain of more than 10 aliases");
  CHECK(read(response({record("a.test", 1, "CNAME b.test"), record("b.test", 1, "CNAME a.test")}))
            .status == Status::temporary_failure);
  CHECK(read(response({record("a.test", 1, "CNAME b.test"), record("a.test", 1, "CNAME c.test")}))
            .reason == "aliases of a.test that contradict");
  const auto dname = record("test", 1, "DNAME example");
  CHECK(read(response({dname})).status == Status::temporary_failure);
  CHECK(read(response({dname, record("a.test", 1, "CNAME a.example"),
                       record("a.example", 1, "MX 1 mx.test")}))
            .status == Status::records);
}

TEST_CASE("an alias whose target the answer does not show is asked for", "[dns][answer]") {
  const auto alias = record("a.test", 100, "CNAME b.example");
  const auto open = read(response({alias}));
  CHECK(open.unfinished);
  CHECK(open.canonical == name("b.example"));
  CHECK(open.links == 1);
  CHECK(open.ttl == 100);
  // The SOA of another zone proves nothing about the target.
  CHECK(read(response({alias}, {record("test", 300, kSoa)})).unfinished);
  const auto closed = read(response({alias}, {record("example", 300, kSoa)}));
  CHECK_FALSE(closed.unfinished);
  CHECK(closed.status == Status::no_data);
  CHECK(closed.ttl == 100);
  auto absent = response({alias}, {record("example", 300, kSoa)});
  absent.rcode = Rcode::name_error;
  CHECK(read(absent).status == Status::no_such_name);
}

TEST_CASE("absence is remembered as long as the zone's SOA says", "[dns][answer]") {
  struct Case {
    std::string name;
    std::vector<Record> authority;
    std::uint32_t want;
  };
  const std::vector<Case> cases = {
      {"the minimum of the SOA", {record("test", 300, kSoa)}, 200},
      {"the TTL of the SOA", {record("test", 30, kSoa)}, 30},
      {"the cap", {record("test", 90000, "SOA a.test b.test 1 1 1 1 90000")}, 3600},
      {"a negative TTL", {record("test", 0x80000001, kSoa)}, 0},
      {"no SOA", {}, 0},
      {"the SOA of another zone", {record("example", 300, kSoa)}, 0},
  };
  for (const auto& c : cases) {
    DYNAMIC_SECTION(c.name) {
      auto message = response({}, c.authority);
      CHECK(read(message).status == Status::no_data);
      CHECK(read(message).ttl == c.want);
      message.rcode = Rcode::name_error;
      CHECK(read(message).status == Status::no_such_name);
      CHECK(read(message).ttl == c.want);
    }
  }
}

TEST_CASE("D11 times to live are clamped", "[dns][answer][attack]") {
  struct Case {
    std::uint32_t ttl, want;
  };
  for (const auto& c : {Case{0, 0}, Case{1, 1}, Case{86400, 86400}, Case{86401, 86400},
                        Case{0x7fffffff, 86400}, Case{0x80000000, 0}, Case{0xffffffff, 0}})
    CHECK(read(response({record("a.test", c.ttl, "MX 10 mx.test")})).ttl == c.want);
}

TEST_CASE("answers that lie are temporary", "[dns][answer][attack]") {
  auto absent = response({record("a.test", 1, "MX 10 mx.test")});
  absent.rcode = Rcode::name_error;
  CHECK(read(absent).status == Status::temporary_failure);
  auto no_question = response({});
  no_question.question.reset();
  CHECK(read(no_question).status == Status::temporary_failure);
  auto query = response({});
  query.is_response = false;
  CHECK(read(query).status == Status::temporary_failure);
  // Records of others are not ours.
  CHECK(read(response({record("b.test", 1, "MX 10 mx.test")})).status == Status::no_data);
  auto referral = response({}, {record("test", 1, "NS ns.test")});
  CHECK(read(referral).status == Status::temporary_failure);
  referral.authoritative = true;
  CHECK(read(referral).status == Status::no_data);
}

TEST_CASE("D08 very many records are cut to what is useful", "[dns][answer][attack]") {
  std::vector<Data> many_mx, many_addresses;
  for (int i = 1500; i > 0; --i) {
    MxData mx;
    mx.preference = static_cast<std::uint16_t>(i);
    mx.host = name("mx" + std::to_string(i) + ".test");
    many_mx.emplace_back(mx);
    many_addresses.emplace_back(Address4{192, 0, 2, static_cast<std::uint8_t>(i % 256)});
  }
  const auto mx = std::get<std::vector<Mx>>(to_records(Type::mx, many_mx));
  REQUIRE(mx.size() == 1000);
  CHECK(mx.front().host == "mx1.test");
  CHECK(mx.back().preference == 1000);
  CHECK(std::get<std::vector<asio::ip::address>>(to_records(Type::a, many_addresses)).size() ==
        500);
}

TEST_CASE("D04, D05, D12 null MX records are kept, hosts that are no hosts are not",
          "[dns][answer][attack]") {
  MxData null, odd, good;
  good.host = name("mx.test");
  REQUIRE(odd.host.append_label("a.b"));
  const auto mx = std::get<std::vector<Mx>>(to_records(Type::mx, {null, odd, good}));
  REQUIRE(mx.size() == 2);
  CHECK(mx[0].host.empty());
  CHECK(mx[1].host == "mx.test");
  CHECK(is_empty(to_records(Type::mx, {odd})));
}

TEST_CASE("the reverse name of an address", "[dns][answer]") {
  const auto reverse = [](const char* text) {
    return reverse_name(asio::ip::make_address(text)).text();
  };
  CHECK(reverse("192.0.2.10") == "10.2.0.192.in-addr.arpa");
  CHECK(reverse("::ffff:192.0.2.10") == "10.2.0.192.in-addr.arpa");
  CHECK(reverse("2001:db8::567:89ab") ==
        "b.a.9.8.7.6.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa");
}

}  // namespace postrider::dns
