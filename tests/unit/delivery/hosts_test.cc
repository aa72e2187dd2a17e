#include "delivery/routing/hosts.h"

#include <catch2/catch.hpp>

#include <random>
#include <set>

using namespace postrider;
using namespace postrider::delivery;

namespace {

class Counting : public Random {
 public:
  std::uint64_t next() override { return engine_(); }

 private:
  std::mt19937_64 engine_{42};
};

FoundHost host(std::uint16_t preference, std::string name, std::vector<std::string> addresses) {
  FoundHost found;
  found.host = {preference, std::move(name), false};
  for (const auto& address : addresses)
    found.addresses.push_back(asio::ip::make_address(address));
  return found;
}

std::vector<Host> first_lookups(const std::vector<Host>& hosts, Random& random) {
  auto order = lookup_order(hosts, random);
  order.resize(std::min(order.size(), kHostsAtOnce));
  return order;
}

std::string first_of(const std::vector<HostAddress>& candidates) {
  return candidates.front().address;
}

}  // namespace

TEST_CASE("equal preference is used at random, lower numbers first", "[delivery][hosts]") {
  Counting random;
  const std::vector<FoundHost> hosts = {host(10, "a", {"192.0.2.1"}), host(10, "b", {"192.0.2.2"}),
                                        host(20, "c", {"192.0.2.3"})};
  std::set<std::string> seen;
  for (int i = 0; i < 100; ++i) {
    const auto candidates = candidates_of(hosts, 25, Families::both, {}, {}, random);
    REQUIRE(candidates.size() == 3);
    seen.insert(first_of(candidates));
    CHECK(candidates.back().remote == "c[192.0.2.3]:25");
  }
  CHECK(seen == std::set<std::string>{"192.0.2.1", "192.0.2.2"});
}

TEST_CASE("families take turns, and neither is lost to the cap", "[delivery][hosts]") {
  Counting random;
  const std::vector<FoundHost> one = {
      host(10, "a", {"2001:db8::1", "2001:db8::2", "192.0.2.1", "192.0.2.2"})};
  const auto mixed = candidates_of(one, 25, Families::both, {}, {}, random);
  REQUIRE(mixed.size() == 4);
  CHECK(mixed[0].address.find(':') != std::string::npos);
  CHECK(mixed[1].address.find(':') == std::string::npos);
  CHECK(candidates_of(one, 25, Families::ipv4, {}, {}, random).size() == 2);
  const std::vector<FoundHost> many = {host(10, "a",
                                            {"2001:db8::1", "2001:db8::2", "2001:db8::3",
                                             "2001:db8::4", "2001:db8::5", "2001:db8::6"}),
                                       host(20, "b", {"192.0.2.1"})};
  const auto capped = candidates_of(many, 25, Families::both, {}, {}, random);
  REQUIRE(capped.size() == 5);
  CHECK(std::any_of(capped.begin(), capped.end(),
                    [](const HostAddress& one) { return one.address == "192.0.2.1"; }));
}

TEST_CASE("D08: a thousand hosts with a thousand addresses come to five", "[delivery][hosts]") {
  Counting random;
  dns::Answer<dns::Mx> answer;
  answer.status = dns::Status::records;
  for (int i = 0; i < 1000; ++i)
    answer.records.push_back({10, "mx" + std::to_string(i) + ".test"});
  const auto chosen = choose_hosts("x.test", answer, OwnHosts());
  CHECK(chosen.hosts.size() == 1000);
  const auto kept = some_of(chosen.hosts, random);
  CHECK(kept.size() == 100);
  dns::Answer<asio::ip::address> addresses;
  addresses.status = dns::Status::records;
  for (std::uint32_t i = 0; i < 1000; ++i)
    addresses.records.emplace_back(asio::ip::address_v4(0xc0000200U + i));
  std::vector<FoundHost> found;
  for (const auto& one : first_lookups(kept, random)) {
    found.emplace_back();
    found.back().host = one;
    add_addresses(found.back(), addresses, random);
    CHECK(found.back().addresses.size() == 100);
  }
  CHECK(found.size() == 10);
  CHECK(candidates_of(found, 25, Families::both, {}, {}, random).size() == 5);
}

TEST_CASE("of more hosts than a site keeps, each has its turn", "[delivery][hosts]") {
  Counting random;
  dns::Answer<dns::Mx> answer;
  answer.status = dns::Status::records;
  for (int i = 0; i < 150; ++i)
    answer.records.push_back({10, "mx" + std::to_string(i) + ".test"});
  answer.records.push_back({20, "backup.test"});
  answer.records.push_back({30, "last.test"});
  std::set<std::string> seen;
  std::string site;
  for (int i = 0; i < 60; ++i) {
    std::reverse(answer.records.begin(), answer.records.end());
    const auto chosen = choose_hosts("x.test", answer, OwnHosts());
    REQUIRE(chosen.hosts.size() == 152);
    // One site, whichever of its hosts are kept.
    const auto name = site_name(chosen.hosts, 25);
    CHECK((site.empty() || name == site));
    site = name;
    const auto kept = some_of(chosen.hosts, random);
    REQUIRE(kept.size() == kMostHosts);
    CHECK(kept.back().preference > 10);
    CHECK(std::all_of(kept.begin(), kept.end() - 1,
                      [](const Host& one) { return one.preference == 10; }));
    for (const auto& one : kept)
      seen.insert(one.name);
  }
  CHECK(seen.size() == 152);
}

TEST_CASE("every host and every address has its turn", "[delivery][hosts]") {
  Counting random;
  std::vector<Host> hosts;
  for (int i = 0; i < 30; ++i)
    hosts.push_back({10, "mx" + std::to_string(i) + ".test", false});
  hosts.push_back({20, "backup.test", false});
  std::set<std::string> seen;
  for (int i = 0; i < 200; ++i) {
    CHECK(lookup_order(hosts, random).size() == 31);
    const auto tried = first_lookups(hosts, random);
    REQUIRE(tried.size() == 10);
    for (const auto& one : tried)
      seen.insert(one.name);
    CHECK(tried.back().name == "backup.test");
  }
  CHECK(seen.size() == 31);

  // One host with many addresses does not keep its equals out, nor those behind it.
  std::vector<std::string> many;
  for (int i = 1; i <= 20; ++i)
    many.push_back("192.0.2." + std::to_string(i));
  const std::vector<FoundHost> found = {host(10, "big", many), host(10, "small", {"192.0.2.101"}),
                                        host(20, "backup", {"192.0.2.102"})};
  seen.clear();
  for (int i = 0; i < 400; ++i) {
    const auto candidates = candidates_of(found, 25, Families::both, {}, {}, random);
    REQUIRE(candidates.size() == 5);
    for (const auto& one : candidates)
      seen.insert(one.address);
    CHECK((candidates[0].host == "small" || candidates[1].host == "small"));
    CHECK(candidates[3].host == "backup");
  }
  CHECK(seen.size() == 22);
}

TEST_CASE("however hosts are spread over preferences, each is tried", "[delivery][hosts]") {
  Counting random;
  struct World {
    const char* name;
    std::vector<std::pair<std::uint16_t, int>> ranks;  // preference, how many hosts
  };
  const std::vector<World> worlds = {
      {"ten preferences and one more",
       {{0, 1}, {1, 1}, {2, 1}, {3, 1}, {4, 1}, {5, 1}, {6, 1}, {7, 1}, {8, 1}, {9, 1}, {50, 1}}},
      {"three preferences", {{10, 6}, {20, 8}, {30, 1}}},
      {"one, many, one", {{1, 1}, {2, 20}, {50, 1}}},
      {"many equal ones", {{10, 25}}},
      {"twenty preferences of three",
       {{0, 3},  {1, 3},  {2, 3},  {3, 3},  {4, 3},  {5, 3},  {6, 3},  {7, 3},  {8, 3},  {9, 3},
        {10, 3}, {11, 3}, {12, 3}, {13, 3}, {14, 3}, {15, 3}, {16, 3}, {17, 3}, {18, 3}, {19, 3}}},
  };
  for (const auto& world : worlds) {
    INFO(world.name);
    std::vector<Host> hosts;
    for (const auto& [preference, count] : world.ranks)
      for (int i = 0; i < count; ++i)
        hosts.push_back({preference, "mx" + std::to_string(hosts.size()) + ".test", false});
    std::set<std::string> tried;
    for (int attempt = 0; attempt < 2000; ++attempt) {
      std::vector<FoundHost> found;
      for (const auto& one : first_lookups(hosts, random)) {
        const auto number = std::to_string(1 + std::stoul(one.name.substr(2)));
        found.push_back(host(one.preference, one.name, {"192.0.2." + number}));
      }
      const auto usable = usable_hosts(found, "x.test", true);
      for (const auto& one : candidates_of(usable.hosts, 25, Families::both, {}, {}, random))
        tried.insert(one.host);
    }
    CHECK(tried.size() == hosts.size());
  }
}

TEST_CASE("each of many addresses of a host has its turn", "[delivery][hosts]") {
  Counting random;
  dns::Answer<asio::ip::address> answer;
  answer.status = dns::Status::records;
  for (std::uint32_t i = 0; i < 300; ++i)
    answer.records.emplace_back(asio::ip::address_v4(0xc0000200U + i));
  std::set<std::string> seen;
  for (int i = 0; i < 100; ++i) {
    FoundHost one = host(10, "mx", {});
    add_addresses(one, answer, random);
    for (const auto& address : one.addresses)
      seen.insert(address.to_string());
  }
  CHECK(seen.size() == 300);
}

TEST_CASE("sites of many hosts that differ have names that differ", "[delivery][hosts]") {
  std::vector<Host> hosts;
  for (int i = 0; i < 30; ++i)
    hosts.push_back({10, "mx" + std::to_string(i) + ".test", false});
  const auto name = site_name(hosts, 25);
  CHECK(name.size() < 200);
  hosts.back().name = "other.test";
  CHECK(site_name(hosts, 25) != name);
}

TEST_CASE("an address that failed lately comes last", "[delivery][hosts]") {
  Counting random;
  const std::vector<FoundHost> hosts = {host(10, "a", {"192.0.2.1"}), host(20, "b", {"192.0.2.2"})};
  const SteadyTime now{std::chrono::hours(1)};
  const BadAddresses bad = {{"192.0.2.1", now + std::chrono::seconds(5)}};
  CHECK(first_of(candidates_of(hosts, 25, Families::both, bad, now, random)) == "192.0.2.2");
  const auto later = now + std::chrono::seconds(6);
  CHECK(first_of(candidates_of(hosts, 25, Families::both, bad, later, random)) == "192.0.2.1");
}

TEST_CASE("D06: addresses that lead nowhere or to ourselves", "[delivery][hosts]") {
  OwnHosts own;
  own.addresses.push_back({asio::ip::make_address("192.0.2.9"), 25});
  std::vector<FoundHost> hosts = {
      host(5, "zero", {"0.0.0.0", "::", "224.0.0.1", "255.255.255.255", "fe80::1", "0.1.2.3"}),
      host(10, "good", {"192.0.2.1"}), host(20, "us", {"192.0.2.9"}),
      host(30, "after", {"192.0.2.3"})};
  find_ourselves(hosts, own, 25, true);
  CHECK(hosts[0].addresses.empty());
  CHECK(hosts[2].is_ourselves);
  const auto usable = usable_hosts(hosts, "x.test", true);
  REQUIRE(usable.hosts.size() == 1);
  CHECK(usable.hosts[0].host.name == "good");
  std::vector<FoundHost> loopback = {host(10, "lo", {"127.0.0.1"}),
                                     host(10, "mapped", {"192.0.2.7"})};
  find_ourselves(loopback, own, 25, true);
  CHECK(loopback[0].is_ourselves);
  CHECK(mail::to_string(usable_hosts(loopback, "x.test", true).outcome->status) == "5.4.6");
  find_ourselves(loopback, own, 25, false);
  CHECK_FALSE(loopback[0].is_ourselves);
}

TEST_CASE("a route to ourselves waits and does not bounce", "[delivery][hosts]") {
  OwnHosts own;
  own.addresses.push_back({asio::ip::make_address("0.0.0.0"), 25});
  std::vector<FoundHost> hosts = {host(0, "relay", {"127.0.0.1"})};
  find_ourselves(hosts, own, 25, false);
  const auto usable = usable_hosts(hosts, "smtp://relay:25", false);
  REQUIRE(usable.outcome);
  CHECK(usable.outcome->verdict == mail::Verdict::retry);
}

TEST_CASE("a site's name says the order of its hosts", "[delivery][hosts]") {
  CHECK(site_name({{10, "a.test", false}, {10, "b.test", false}, {20, "c.test", false}}, 25) ==
        "a.test,b.test;c.test");
  CHECK(site_name({{10, "a.test", false}}, 2525) == "a.test:2525");
}
