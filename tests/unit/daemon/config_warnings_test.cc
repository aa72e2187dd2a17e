#include "base/text.h"
#include "daemon/config/config_checks.h"
#include "daemon/config/config_file.h"
#include "daemon/config/listened.h"

#include <catch2/catch.hpp>

#include <string>
#include <vector>

using namespace postrider;
using namespace postrider::daemon;

namespace {

Loaded read(const std::string& text) {
  return parse_config(text, "t.toml", {"mx.example.org", {}});
}

// "key: text" of all warnings; the configuration must be one.
std::string warned(const std::string& text) {
  const auto loaded = read(text);
  INFO(loaded.describe());
  REQUIRE(loaded.config);
  std::string all;
  for (const auto& one : warnings_about(*loaded.config))
    all += one.key + ": " + one.text + "\n";
  return all;
}

std::string refused(const std::string& text) {
  const auto loaded = read(text);
  return loaded.config ? std::string() : loaded.describe();
}

std::string listening(const std::string& address, const std::string& more = {}) {
  return "[[listener]]\naddress = \"" + address + "\"\n" + more;
}

std::string relaying(const std::string& networks, const std::string& more = {}) {
  return "[accept]\nrelay_from = [" + networks + "]\n" + more;
}

std::string route(const std::string& next_hop) {
  return "[[route]]\ndomain = \"*\"\nnext_hop = \"" + next_hop + "\"\n";
}

}  // namespace

TEST_CASE("an open relay is a mistake, unless somebody says that it is meant", "[config]") {
  for (const auto* everybody : {R"("0.0.0.0/0")", R"("::/0")", R"("192.0.2.0/24", "0.0.0.0/0")",
                                R"("0.0.0.0/1", "128.0.0.0/1")", R"("2000::/3")"})
    for (const auto* address : {"0.0.0.0:25", "[::]:25", "192.0.2.1:25", "systemd:smtp"}) {
      INFO(everybody << " at " << address);
      const auto problems = refused(relaying(everybody) + listening(address));
      CHECK(problems.find("t.toml:2: accept.relay_from: ") != std::string::npos);
      CHECK(problems.find("open relay") != std::string::npos);
      CHECK(refused(relaying(everybody, "open_relay = true\n") + listening(address)).empty());
    }
  for (const auto* fine :
       {R"("127.0.0.0/8", "::1/128")", R"("10.0.0.0/8")", R"("2001:db8::/32")", ""})
    CHECK(refused(relaying(fine) + listening("0.0.0.0:25")).empty());
  // Nobody from elsewhere reaches these.
  for (const auto* near : {"127.0.0.1:25", "[::1]:25", "unix:/run/smtp"})
    CHECK(refused(relaying(R"("0.0.0.0/0")") + listening(near)).empty());
}

TEST_CASE("a name that is none on the Internet is warned of", "[config]") {
  const auto named = [](const std::string& name) {
    const auto loaded =
        parse_config("hostname = \"" + name + "\"\n", "t.toml", {"mx.example.org", {}});
    REQUIRE(loaded.config);
    const auto all = warnings_about(*loaded.config);
    return !all.empty() && all.front().key == "hostname";
  };
  for (const auto* bad : {"localhost", "LOCALHOST", "box", "localhost.localdomain"})
    CHECK(named(bad));
  for (const auto* good : {"mx.example.org", "box.home.arpa"})
    CHECK_FALSE(named(good));
}

TEST_CASE("two listeners of one port are warned of", "[config]") {
  const auto both = [](const char* one, const char* two) {
    return warned(listening(one) + listening(two));
  };
  CHECK(both("0.0.0.0:25", "127.0.0.1:25").find("listener[1].address: \"127.0.0.1:25\"") == 0);
  CHECK(both("127.0.0.1:25", "0.0.0.0:25").find("listener[0].address") == 0);
  CHECK(both("[::]:25", "[::1]:25").find("the start will fail") != std::string::npos);
  CHECK(both("0.0.0.0:25", "0.0.0.0:587").empty());
  CHECK(both("0.0.0.0:25", "[::1]:25").empty());
  CHECK(both("192.0.2.1:25", "127.0.0.1:25").empty());
}

TEST_CASE("a route to ourselves is warned of", "[config]") {
  for (const auto& [address, hop] : {std::pair("127.0.0.1:25", "smtp://127.0.0.1:25"),
                                     {"0.0.0.0:25", "smtp://127.0.0.1:25"},
                                     {"0.0.0.0:25", "smtp://localhost:25"},
                                     {"192.0.2.1:25", "smtp://192.0.2.1:25"},
                                     {"0.0.0.0:25", "smtp://mx.example.org:25"},
                                     {"[::]:2525", "smtp://[::1]:2525"}}) {
    INFO(address << " and " << hop);
    CHECK(warned(listening(address) + route(hop)).find("route[0].next_hop: leads to our own") == 0);
  }
  for (const auto& [address, hop] : {std::pair("127.0.0.1:25", "smtp://127.0.0.1:2525"),
                                     {"127.0.0.1:25", "lmtp://127.0.0.1:25"},
                                     {"127.0.0.1:25", "smtp://127.0.0.2:25"},
                                     {"0.0.0.0:25", "smtp://relay.example.net:25"}}) {
    INFO(address << " and " << hop);
    CHECK(warned(listening(address) + route(hop)).empty());
  }
}

TEST_CASE("TLS at a port that begins otherwise is warned of", "[config]") {
  CHECK(warned(route("smtps://relay.example.net:587")).find("STARTTLS") != std::string::npos);
  CHECK(warned(route("smtp://relay.example.net:465")).find("smtps://") != std::string::npos);
  for (const auto* fine : {"smtps://relay.example.net:465", "smtp://relay.example.net:587",
                           "smtps://relay.example.net:4650", "smtps://relay.example.net"})
    CHECK(warned(route(fine)).empty());
}

TEST_CASE("a proxy of this machine is warned of, where some may relay", "[config]") {
  const auto proxied = listening("192.0.2.1:25", "proxy_protocol = true\n");
  const auto from = [](const std::string& networks) { return "proxy_from = [" + networks + "]\n"; };
  const std::string relay = R"("192.0.2.0/24")";
  for (const auto* here : {R"("127.0.0.1")", R"("127.0.0.0/8")", R"("198.51.100.7", "::1")"})
    CHECK(warned(relaying(relay, from(here)) + proxied).find("accept.proxy_from: holds this") == 0);
  CHECK(warned(relaying(relay, from(R"("198.51.100.7")")) + proxied).empty());
  CHECK(warned(relaying("", from(R"("127.0.0.1")")) + proxied).empty());
  CHECK(warned(relaying(relay, from(R"("127.0.0.1")")) + listening("192.0.2.1:25")).empty());
}

TEST_CASE("a submission listener to which no program can log in is warned of", "[config]") {
  const std::string submission = listening("0.0.0.0:587", "role = \"submission\"\n");
  CHECK(warned(submission).find("listener[0].role: ") == 0);
  CHECK(warned("[auth]\nusers = \"/etc/postrider/users\"\n" + submission).empty());
  CHECK(warned(listening("unix:/run/s", "role = \"submission\"\n")).empty());
}

TEST_CASE("the address of a token service is judged by what asks it", "[config]") {
  for (const auto* bad :
       {"https://host:99999/", "https://host:0x/", "https://user@host/", "https:///x"}) {
    INFO(bad);
    CHECK(refused(std::string("[auth]\noauth_introspect = \"") + bad + "\"\n")
              .find("auth.oauth_introspect") != std::string::npos);
  }
  CHECK(refused("[auth]\noauth_introspect = \"https://host:8443/introspect?x=1\"\n").empty());
}

TEST_CASE("a listener that sends its mail on to itself is warned of", "[config]") {
  const auto out = listening("127.0.0.1:2525", "next_hop = \"smtp://127.0.0.1:10025\"\n");
  CHECK(warned(out + listening("127.0.0.1:10026")).empty());
  const auto itself = warned(listening("0.0.0.0:2525", "next_hop = \"smtp://127.0.0.1:2525\"\n"));
  CHECK(itself.find("listener[0].next_hop: leads to our own listener") != std::string::npos);
  CHECK(itself.find("it would wait here") != std::string::npos);
  const auto each_other =
      warned(out + listening("127.0.0.1:10025", "next_hop = \"smtp://localhost:2525\"\n"));
  CHECK(each_other.find("listener[1].next_hop: ") != std::string::npos);
  CHECK(warned(out + listening("127.0.0.1:10025")).find("past any filter") != std::string::npos);
  CHECK(refused(listening("127.0.0.1:2525", "next_hop = \"mx\"\n"))
            .find("not a host that takes mail") != std::string::npos);
}
