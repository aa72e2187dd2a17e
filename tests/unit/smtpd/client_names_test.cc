// What clients are called in the DNS, and the tables that know them by name.
#include "smtpd/filter/client_names.h"

#include "smtpd/filter/client_rates.h"
#include "smtpd/session/access.h"
#include "tests/support/fake_zones.h"

#include <catch2/catch.hpp>

#include <string>

using namespace postrider;
using namespace postrider::smtpd;
using namespace std::chrono_literals;
using Status = ClientName::Status;

namespace {

IpAddress address(const std::string& text) {
  return IpAddress::parse(text).value();
}

ClientName found(tests::FakeZones& dns, const char* client) {
  return dns.run(filter::find_client_name(address(client)));
}

TablePtr table(const std::string& entries) {
  return tables::open_table(tables::parse_spec("inline:{" + entries + "}").value(), {}).value();
}

// The text of the entry that is found.
std::string entry(const std::string& entries, const std::string& client, const ClientName* name) {
  return look_up_client({table(entries)}, address(client), name).text;
}

}  // namespace

TEST_CASE("client names: only one that leads back is shown", "[names]") {
  tests::FakeZones dns(R"(
    192.0.2.1 PTR MX.One.Test
    mx.one.test A 192.0.2.1
    192.0.2.2 PTR liar.test
    liar.test A 192.0.2.1
    192.0.2.4 PTR gone.test
    2001:db8::1 PTR six.test
    six.test AAAA 2001:db8::1
    192.0.2.5 PTR slow.test
    slow.test FAILS
    192.0.2.6 PTR first.test
    192.0.2.6 PTR second.test
    first.test A 192.0.2.9
    second.test A 192.0.2.6
  )");
  const auto one = found(dns, "192.0.2.1");
  CHECK((one.status == Status::confirmed && one.shown() == "mx.one.test"));
  const auto liar = found(dns, "192.0.2.2");
  CHECK(liar.status == Status::unconfirmed);
  CHECK((liar.shown() == "unknown" && liar.reverse() == "liar.test"));
  CHECK((found(dns, "192.0.2.3").status == Status::none));
  CHECK(found(dns, "192.0.2.3").reverse() == "unknown");
  CHECK(found(dns, "192.0.2.4").status == Status::unconfirmed);
  CHECK(found(dns, "2001:db8::1").shown() == "six.test");
  const auto slow = found(dns, "192.0.2.5");
  CHECK((slow.status == Status::unknown && slow.shown() == "unknown"));
  CHECK(found(dns, "192.0.2.6").shown() == "second.test");
  dns.fail("1.2.0.192.in-addr.arpa", mailauth::Type::ptr);
  CHECK(found(dns, "192.0.2.1").status == Status::unknown);
}

TEST_CASE("client names: what is not a host name is none, and many names cost few questions",
          "[names]") {
  tests::FakeZones dns;
  const std::string reversed = "1.2.0.192.in-addr.arpa";
  for (const char* odd : {"evil\")\r\nX: y (\".test", "a b.test", "x;y.test", "caf\xc3\xa9.test"})
    dns.add_record(reversed, mailauth::Type::ptr, odd);
  CHECK(found(dns, "192.0.2.1").status == Status::none);
  for (int i = 0; i < 500; ++i)
    dns.add_record(reversed, mailauth::Type::ptr, "n" + std::to_string(i) + ".test");
  dns.forget_questions();
  CHECK(found(dns, "192.0.2.1").status == Status::unconfirmed);
  CHECK(dns.asked().size() == 11);
}

TEST_CASE("client names: they are kept for a while, and not too many", "[names]") {
  filter::ClientNames names;
  const SteadyTime start{1h};
  const auto client = address("192.0.2.1");
  names.keep(client, {Status::confirmed, "one.test"}, start);
  CHECK(names.find(client, start + 9min)->name == "one.test");
  CHECK_FALSE(names.find(client, start + 10min));
  names.keep(client, {Status::none, {}}, start);
  CHECK_FALSE(names.find(client, start));
  names.keep(client, {Status::unknown, {}}, start);
  CHECK(names.find(client, start + 59s));
  CHECK_FALSE(names.find(client, start + 1min));
  for (unsigned i = 0; i < filter::ClientNames::kMost + 100; ++i)
    names.keep(address("10." + std::to_string(i >> 16U) + "." + std::to_string(i >> 8U & 255U) +
                       "." + std::to_string(i & 255U)),
               {Status::confirmed, "x.test"}, start);
  CHECK(names.size() == filter::ClientNames::kMost);
  CHECK_FALSE(names.find(client, start));
  CHECK(names.find(address("10.0.32.99"), start));
}

TEST_CASE("client tables: address before network before name", "[names][access]") {
  const ClientName named{Status::confirmed, "mx.one.test"};
  const std::string all =
      "192.0.2.1=reject address, 192.0.2.0/24=reject net, mx.one.test=reject name, "
      ".test=reject below, unknown=reject unknown, 2001:db8:1:2::/64=reject net6";
  CHECK(entry(all, "192.0.2.1", &named) == "address");
  CHECK(entry(all, "192.0.2.77", &named) == "net");
  CHECK(entry(all, "192.0.3.1", &named) == "name");
  const ClientName other{Status::confirmed, "other.test"};
  CHECK(entry(all, "192.0.3.1", &other) == "below");
  CHECK(entry(all, "2001:db8:1:2::9", &other) == "net6");
  CHECK(entry("192.0.0.0/16=reject wide", "192.0.3.1", nullptr) == "wide");
}

TEST_CASE("client tables: who may have a name is not unknown", "[names][access]") {
  const std::string all = "unknown=reject unknown, mx.one.test=reject name";
  for (const auto status : {Status::none, Status::unconfirmed}) {
    const ClientName name{status, "mx.one.test"};
    CHECK(entry(all, "192.0.2.1", &name) == "unknown");
  }
  const ClientName troubled{Status::unknown, "mx.one.test"};
  CHECK(look_up_client({table(all)}, address("192.0.2.1"), &troubled).kind == Access::Kind::none);
  CHECK(look_up_client({table(all)}, address("192.0.2.1"), nullptr).kind == Access::Kind::none);
}

TEST_CASE("client rates: an hour slides, and a /64 is one client", "[rates]") {
  filter::ClientRates rates;
  const SteadyTime start{48h};
  const auto one = address("192.0.2.1");
  const auto count = [&](const char* client, Duration after) {
    return rates.count(address(client), filter::ClientRates::messages, start + after);
  };
  for (int i = 0; i < 3; ++i)
    rates.note(one, filter::ClientRates::messages, start + i * 10min);
  CHECK(count("192.0.2.1", 20min) == 3);
  CHECK(count("192.0.2.2", 20min) == 0);
  CHECK(rates.count(one, filter::ClientRates::failures, start) == 0);
  CHECK(count("192.0.2.1", 59min) == 3);
  CHECK(count("192.0.2.1", 66min) == 2);
  CHECK(count("192.0.2.1", 10h) == 0);
  rates.note(one, filter::ClientRates::messages, start + 10h);
  CHECK(count("192.0.2.1", 10h) == 1);
  rates.note(address("2001:db8:1:2::1"), filter::ClientRates::messages, start);
  CHECK(count("2001:db8:1:2:ffff::9", 0s) == 1);
  CHECK(count("2001:db8:1:3::1", 0s) == 0);
}

TEST_CASE("client rates: memory is bounded, and who is active stays", "[rates]") {
  filter::ClientRates rates;
  const SteadyTime start{48h};
  const auto active = address("192.0.2.1");
  rates.note(active, filter::ClientRates::messages, start);
  for (unsigned i = 0; i < 2 * filter::ClientRates::kMost; ++i) {
    rates.note(address("10." + std::to_string(i >> 16U) + "." + std::to_string(i >> 8U & 255U) +
                       "." + std::to_string(i & 255U)),
               filter::ClientRates::messages, start);
    if (i % 1000 == 0)
      rates.note(active, filter::ClientRates::messages, start);
  }
  CHECK(rates.size() == filter::ClientRates::kMost);
  CHECK(rates.count(active, filter::ClientRates::messages, start) == 101);
}
