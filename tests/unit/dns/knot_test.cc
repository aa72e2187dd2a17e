// The resolver against real name servers, which the test starts and stops: Knot, and Unbound that
// validates what a signing Knot says.
#include "tests/unit/dns/dns_fixture.h"
#include "tests/unit/dns/real_server.h"

#include <boost/asio/steady_timer.hpp>
#include <catch2/catch.hpp>

#include <algorithm>

namespace postrider::dns {

namespace {

using Texts = std::vector<std::string>;

std::string example_zone() {
  std::string zone = R"($ORIGIN example.test.
$TTL 600
@ SOA ns.example.test. root.example.test. 1 3600 600 86400 120
@ NS ns
ns A 127.0.0.1
@ 300 MX 20 mx2
@ 300 MX 10 MX1
mx1 A 192.0.2.1
mx1 A 192.0.2.2
mx1 AAAA 2001:db8::1
_25._tcp.mx1 TLSA 3 1 1 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff
alias CNAME mx1
far CNAME other.example.net.
gone CNAME nowhere
null MX 0 .
spf TXT "v=spf1 " "-all"
)";
  for (int i = 0; i < 120; ++i)
    zone += "big MX " + std::to_string(i) + " a-host-with-a-rather-long-name-" + std::to_string(i) +
            "\n";
  return zone;
}

constexpr const char* kReverseZone = R"($ORIGIN 2.0.192.in-addr.arpa.
$TTL 600
@ SOA ns.example.test. root.example.test. 1 3600 600 86400 120
@ NS ns.example.test.
1 PTR mx1.example.test.
)";

struct KnotFixture : DnsFixture {
  // Asks until the server has loaded its zones.
  void wait_for(const RealServer& real, const std::string& name) {
    asio::steady_timer timer(loop.context());
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(120);
    while (a(name).status != Status::records) {
      INFO(real.complaints());
      REQUIRE(real.is_running());
      REQUIRE(std::chrono::steady_clock::now() < give_up);
      bool is_time = false;
      timer.expires_after(Duration(20));
      timer.async_wait([&is_time](const boost::system::error_code&) { is_time = true; });
      run_until([&] { return is_time; });
      resolver->forget_all();
    }
  }
  void start_with(const RealServer& real) {
    settings.servers = {real.address()};
    settings.timeouts = {Duration(20000)};
    settings.total = Duration(60000);
    settings.failure_ttl = Duration(0);
    start();
  }
};

bool lacks(const std::string& program) {
  if (!find_program(program).empty())
    return false;
  WARN("skipped: " + program + " is not installed (Debian packages knot and unbound)");
  return true;
}

// Names below .test are answered by Unbound itself: these are below .example.
std::string zone_of(const std::string& name) {
  return "$ORIGIN " + name +
         ".\n$TTL 600\n@ SOA ns root 1 3600 600 86400 120\n@ NS ns\nns A 127.0.0.1\n"
         "@ MX 10 mx\nmx A 192.0.2.1\n_25._tcp.mx TLSA 3 1 1 0011\n"
         "out CNAME mx.plain.example.\n";
}

void start_unbound(RealServer& server, const RealServer& knot) {
  std::string wrong = delegation_signer(knot, "bogus.example");
  wrong.back() = wrong.back() == '0' ? '1' : '0';
  std::string conf = "server:\n  directory: \"" + server.folder() +
                     "\"\n  username: \"\"\n  chroot: \"\"\n  pidfile: \"\"\n"
                     "  use-syslog: no\n  logfile: \"\"\n  num-threads: 1\n"
                     "  interface: 127.0.0.1\n  port: " +
                     server.port() +
                     "\n  do-not-query-localhost: no\n  ede: yes\n"
                     "  module-config: \"validator iterator\"\n  trust-anchor: \"" +
                     delegation_signer(knot, "signed.example") + "\"\n  trust-anchor: \"" + wrong +
                     "\"\nremote-control:\n  control-enable: no\n";
  for (const char* zone : {"signed", "bogus", "plain"})
    conf += std::string("stub-zone:\n  name: \"") + zone + ".example\"\n  stub-addr: 127.0.0.1@" +
            knot.port() + "\n";
  server.write("unbound.conf", conf);
  server.start({find_program("unbound"), "-d", "-p", "-c", server.folder() + "/unbound.conf"});
}

}  // namespace

TEST_CASE_METHOD(KnotFixture, "a real name server is understood", "[dns][resolver][knot]") {
  if (lacks("knotd"))
    return;
  RealServer knot;
  start_knot(knot, {{"example.test", example_zone()}, {"2.0.192.in-addr.arpa", kReverseZone}});
  start_with(knot);
  wait_for(knot, "ns.example.test");

  const auto mx_answer = mx("Example.TEST");
  Texts hosts = texts(mx_answer.records);
  std::sort(hosts.begin(), hosts.end());
  CHECK(hosts == Texts{"10 mx1.example.test", "20 mx2.example.test"});
  CHECK(mx_answer.ttl <= Duration(300000));
  CHECK(mx_answer.ttl > Duration(290000));
  CHECK_FALSE(mx_answer.secure);
  CHECK(a("mx1.example.test").records.size() == 2);
  CHECK(texts(finish(begin(resolver->aaaa("mx1.example.test"))).records) == Texts{"2001:db8::1"});
  CHECK(txt("spf.example.test").records == Texts{"v=spf1 -all"});
  CHECK(texts(mx("null.example.test").records) == Texts{"0 "});
  const auto address = asio::ip::make_address("192.0.2.1");
  CHECK(finish(begin(resolver->ptr(address))).records == Texts{"mx1.example.test"});
  const auto tlsa_answer = tlsa("_25._tcp.mx1.example.test");
  REQUIRE(tlsa_answer.records.size() == 1);
  CHECK(tlsa_answer.records[0].data.size() == 32);

  const auto alias = a("alias.example.test");
  CHECK(alias.records.size() == 2);
  CHECK(alias.canonical_name == "mx1.example.test");
  CHECK(a("gone.example.test").status == Status::no_such_name);
  // Knot answers the alias and refuses the rest, which is another's.
  CHECK(a("far.example.test").reason.find("REFUSED") != std::string::npos);
  const auto absent = mx("nowhere.example.test");
  CHECK(absent.status == Status::no_such_name);
  CHECK(absent.ttl <= Duration(120000));
  CHECK(absent.ttl > Duration(110000));
  CHECK(mx("mx1.example.test").status == Status::no_data);
  CHECK(a("_tcp.mx1.example.test").status == Status::no_data);
  CHECK(a("example.com").status == Status::temporary_failure);

  CHECK(resolver->counters().over_tcp == 0);
  const auto big = mx("big.example.test");
  CHECK(big.records.size() == 120);
  CHECK(resolver->counters().over_tcp == 1);
}

TEST_CASE_METHOD(KnotFixture,
                 "D14 what a validating resolver proved is secure, and bogus is trouble",
                 "[dns][resolver][knot][attack]") {
  if (lacks("knotd") || lacks("keymgr") || lacks("unbound"))
    return;
  RealServer knot, unbound;
  start_knot(
      knot, {{"plain.example", zone_of("plain.example")}},
      {{"signed.example", zone_of("signed.example")}, {"bogus.example", zone_of("bogus.example")}});
  start_with(knot);
  for (const char* name : {"ns.signed.example", "ns.bogus.example", "ns.plain.example"})
    wait_for(knot, name);
  CHECK_FALSE(mx("signed.example").secure);  // an authority proves nothing by itself
  start_unbound(unbound, knot);
  start_with(unbound);
  wait_for(unbound, "mx.plain.example");
  INFO(unbound.complaints());

  CHECK(mx("signed.example").status == Status::records);
  CHECK(mx("signed.example").secure);
  CHECK(tlsa("_25._tcp.mx.signed.example").secure);
  const auto no_data = tlsa("mx.signed.example");
  CHECK(no_data.status == Status::no_data);
  CHECK(no_data.secure);
  const auto absent = a("none.signed.example");
  CHECK(absent.status == Status::no_such_name);
  CHECK(absent.secure);
  CHECK(mx("plain.example").status == Status::records);
  CHECK_FALSE(mx("plain.example").secure);
  const auto out = a("out.signed.example");
  CHECK(out.canonical_name == "mx.plain.example");
  CHECK_FALSE(out.secure);
  const auto alias = finish(begin(resolver->cname("out.signed.example")));
  CHECK(alias.records == std::vector<std::string>{"mx.plain.example"});
  CHECK(alias.secure);  // of itself, whatever it leads to
  const auto no_alias = finish(begin(resolver->cname("mx.signed.example")));
  CHECK(no_alias.status == Status::no_data);
  CHECK(no_alias.secure);
  const auto bogus = mx("bogus.example");
  CHECK(bogus.status == Status::temporary_failure);
  CHECK(bogus.reason.starts_with("mx bogus.example: SERVFAIL (EDE "));
  settings.trust_ad = false;
  resolver->reconfigure(settings);
  CHECK_FALSE(mx("signed.example").secure);
}

}  // namespace postrider::dns
