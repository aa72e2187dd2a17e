// Where TLSA records are looked for (RFC 7672 §2.2.2, attacks.md E01 to E07).
#include "delivery/tls/tlsa.h"

#include "base/log.h"
#include "base/net/loop.h"
#include "delivery/routing/hosts.h"
#include "tests/support/zone_resolver.h"

#include <catch2/catch.hpp>

#include <algorithm>

namespace postrider::delivery {

namespace {

using Questions = std::vector<std::string>;
using Status = TlsaLookup::Status;

constexpr const char* kZone = R"(
  mx.example.org           A     192.0.2.1
  _25._tcp.mx.example.org  TLSA  3 1 1 01
  out.example.org          CNAME far.example.net
  far.example.net          A     192.0.2.2
)";

Task<void> find(dns::Resolver& resolver, std::string name, TlsaLookup& found) {
  FoundHost host;
  host.host.name = std::move(name);
  const auto addresses = co_await resolver.a(host.host.name);
  SystemRandom random;
  add_addresses(host, addresses, random);
  const TlsaHost named{host.host.name, host.canonical, host.secure};
  found = co_await look_up_tlsa(resolver, named, 25);
}

TlsaLookup look_up(tests::ZoneResolver& resolver, const std::string& name) {
  Loop loop(0);
  NullLog log;
  TlsaLookup found;
  loop.spawn(find(resolver, name, found), log, "test");
  loop.finish();
  loop.run();
  return found;
}

}  // namespace

TEST_CASE("TLSA records are looked for where the RFC says", "[delivery][tls][attack]") {
  struct Case {
    std::string name;
    std::string zone;
    std::vector<std::string> insecure;  // "name" or "name type"
    std::string failing;                // "name" or "name type"
    std::string host;
    Status status;
    std::string base;
    Questions asked;  // behind the addresses
  };
  const std::vector<Case> cases = {
      {"E01 at a host's name",
       "",
       {},
       "",
       "mx.example.org",
       Status::records,
       "mx.example.org",
       {"tlsa _25._tcp.mx.example.org"}},
      {"E06 not at a host whose address is insecure",
       "",
       {"mx.example.org"},
       "",
       "mx.example.org",
       Status::none,
       "",
       {}},
      {"an answer that is not authenticated is none",
       "",
       {"_25._tcp.mx.example.org"},
       "",
       "mx.example.org",
       Status::none,
       "",
       {"tlsa _25._tcp.mx.example.org"}},
      {"E04 a failure is not the absence of records",
       "",
       {},
       "_25._tcp.mx.example.org",
       "mx.example.org",
       Status::failed,
       "mx.example.org",
       {"tlsa _25._tcp.mx.example.org"}},
      {"E07 behind an alias first",
       "_25._tcp.far.example.net TLSA 3 1 1 02",
       {},
       "",
       "out.example.org",
       Status::records,
       "far.example.net",
       {"tlsa _25._tcp.far.example.net"}},
      {"E07 then at the alias",
       "_25._tcp.out.example.org TLSA 3 1 1 03",
       {},
       "",
       "out.example.org",
       Status::records,
       "out.example.org",
       {"tlsa _25._tcp.far.example.net", "tlsa _25._tcp.out.example.org"}},
      {"at a secure alias alone, where its target is insecure",
       "_25._tcp.out.example.org TLSA 3 1 1 03\n_25._tcp.far.example.net TLSA 3 1 1 02",
       {"far.example.net", "_25._tcp.far.example.net"},
       "",
       "out.example.org",
       Status::records,
       "out.example.org",
       {"cname out.example.org", "tlsa _25._tcp.out.example.org"}},
      {"none there: none",
       "",
       {"far.example.net"},
       "",
       "out.example.org",
       Status::none,
       "",
       {"cname out.example.org", "tlsa _25._tcp.out.example.org"}},
      {"not at an alias that is insecure itself",
       "_25._tcp.out.example.org TLSA 3 1 1 03",
       {"far.example.net", "out.example.org"},
       "",
       "out.example.org",
       Status::none,
       "",
       {"cname out.example.org"}},
      {"nobody knows whether the alias is secure",
       "_25._tcp.out.example.org TLSA 3 1 1 03",
       {"far.example.net"},
       "out.example.org cname",
       "out.example.org",
       Status::failed,
       "out.example.org",
       {"cname out.example.org"}},
      {"at a secure alias the lookup fails",
       "",
       {"far.example.net"},
       "_25._tcp.out.example.org",
       "out.example.org",
       Status::failed,
       "out.example.org",
       {"cname out.example.org", "tlsa _25._tcp.out.example.org"}},
  };
  const auto split_at_space = [](const std::string& text) {
    const auto space = std::min(text.find(' '), text.size());
    return std::pair(text.substr(0, space),
                     space == text.size() ? std::string() : text.substr(space + 1));
  };
  for (const auto& c : cases) {
    DYNAMIC_SECTION(c.name) {
      tests::ZoneResolver resolver(kZone);
      resolver.add(c.zone);
      resolver.set_secure(true);
      for (const auto& one : c.insecure) {
        const auto [name, type] = split_at_space(one);
        resolver.set_secure(name, false, type);
      }
      if (!c.failing.empty()) {
        const auto [name, type] = split_at_space(c.failing);
        resolver.servfail(name, type);
      }
      const auto found = look_up(resolver, c.host);
      CHECK(found.status == c.status);
      CHECK(found.base == c.base);
      CHECK(found.reason.empty() == (c.status == Status::records));
      const auto& asked = resolver.asked();
      CHECK(Questions(asked.begin() + 1, asked.end()) == c.asked);
    }
  }
}

}  // namespace postrider::delivery
