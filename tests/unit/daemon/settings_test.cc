#include "daemon/settings.h"

#include "base/log.h"
#include "base/net/blocking_pool.h"
#include "daemon/config/config_file.h"
#include "daemon/config_doubts.h"
#include "daemon/pickup/local_limits.h"
#include "daemon/privsep/privileges.h"
#include "daemon/protocol/submit_protocol.h"
#include "tests/unit/base/temporary_folder.h"

#include <catch2/catch.hpp>

#include <filesystem>
#include <fstream>
#include <string>
#include <sysexits.h>
#include <unistd.h>

using namespace postrider;
using namespace postrider::daemon;

namespace {

Config config(std::string_view text) {
  const auto loaded = parse_config(text, "test.toml", {"mx.example.org", {}});
  INFO(loaded.describe());
  REQUIRE(loaded.config);
  return *loaded.config;
}

}  // namespace

TEST_CASE("what the unit may not write is warned of", "[daemon][settings]") {
  const TemporaryFolder folder;
  const auto write = [&](const std::string& name, const std::string& text) {
    const auto file = folder.path() + "/" + name;
    std::filesystem::create_directories(std::filesystem::path(file).parent_path());
    std::ofstream(file) << text;
  };
  const auto warned = [&](const std::string& text) {
    std::string keys;
    for (const auto& one : doubts_about_machine(config(text), {}, {folder.path(), "/no/units"}))
      if (one.text.find("may not write") != std::string::npos)
        keys += one.key + " ";
    return keys;
  };
  const std::string elsewhere =
      "spool = \"/srv/spool\"\n[log]\ntarget = \"/usr/x.log\"\n[control]\nsocket = \"/srv/c\"\n"
      "[local]\nmailbox = \"maildir:/srv/mail/{user}/\"\n[[events]]\nname = \"x\"\nfile = "
      "\"/srv/events\"\n";
  CHECK(warned(elsewhere).empty());  // there is no unit
  write("postrider.service",
        "[Service]\nReadWritePaths=-/var/log/postrider\nReadWritePaths=-/var/mail -/home\n");
  CHECK(warned(elsewhere) ==
        "spool log.target control.socket control.submit events[0].file local.mailbox ");
  CHECK(warned("[log]\ntarget = \"/var/log/postrider/mail.log\"\n").empty());
  CHECK(warned("[log]\ntarget = \"/var/logs\"\n") == "log.target ");
  CHECK(warned("[local]\nmailbox = \"mbox:/home/mail/{user}\"\n").empty());
  CHECK(warned("[local]\nmailbox = \"mbox:/homes/{user}\"\n") == "local.mailbox ");
  write("postrider.service.d/override.conf", "[Service]\nReadWritePaths=/srv\n");
  CHECK(warned(elsewhere) == "log.target ");
}

TEST_CASE("receiving is told networks, domains in A-labels and limits", "[daemon][settings]") {
  const auto settings = smtpd_settings(config(R"(
[accept]
message_size = "1MiB"
recipients = 200
relay_from = ["192.0.2.0/24"]
relay_to = ["Backup.Example", ".bücher.example"]
proxy_from = ["10.0.0.1"]
errors = 3
timeout = "10s"
)"),
                                       nullptr);
  REQUIRE(settings.has_value());
  const auto& it = **settings;
  CHECK(it.hostname == "mx.example.org");
  CHECK(it.message_size == 1U << 20U);
  CHECK(it.recipients == 200);
  REQUIRE(it.relay_from.size() == 1);
  CHECK(it.relay_from[0].contains(*IpAddress::parse("192.0.2.77")));
  CHECK(it.relay_to == std::vector<std::string>{"backup.example", ".xn--bcher-kva.example"});
  REQUIRE(it.proxy_from.size() == 1);
  CHECK(it.limits.errors == 3);
  CHECK(it.timeouts.command == std::chrono::seconds(10));
}

TEST_CASE("delivery is told routes, waits and where we listen", "[daemon][settings]") {
  const auto settings =
      delivery_settings(config(R"(
[[route]]
domain = ".BÜCHER.example"
next_hop = "error:5.1.2 gone"
tls = "off"
[[route]]
domain = "*"
from = ["ann@BÜCHER.example", ".bücher.example", "<>"]
next_hop = "smtp://relay.example.net:587"
source = ["192.0.2.1", "2001:db8::1"]
helo = "out.example.org"
tls = "opportunistic"
[delivery]
port = 2525
retry = ["5s"]
lifetime = "1m"
family = "ipv6"
)"),
                        {"0.0.0.0:25", "unix:/run/x", "[::1]:26"}, nullptr, nullptr);
  REQUIRE(settings.has_value());
  const auto& it = **settings;
  REQUIRE(it.routes.size() == 2);
  CHECK(it.routes[0].domain == ".xn--bcher-kva.example");
  CHECK(it.routes[0].next_hop.kind == delivery::NextHop::Kind::error);
  CHECK(it.routes[0].tls == delivery::TlsMode::off);
  CHECK(it.routes[1].next_hop.port == 587);
  CHECK(it.routes[1].senders ==
        std::vector<std::string>{"ann@xn--bcher-kva.example", ".xn--bcher-kva.example", "<>"});
  CHECK(it.routes[1].sources.size() == 2);
  CHECK(it.routes[1].helo == "out.example.org");
  CHECK(it.routes[1].tls == delivery::TlsMode::opportunistic);
  REQUIRE(it.own.addresses.size() == 2);
  CHECK(it.own.addresses[1].port == 26);
  CHECK(it.port == 2525);
  CHECK(it.retry.steps == std::vector<Duration>{Duration(5000)});
  CHECK(it.families == dns::Families::ipv6);
  CHECK(it.double_bounce == "postmaster");
}

TEST_CASE("delivery is told what is known better of sites, and of reasons to retry",
          "[daemon][settings]") {
  const auto told = [](const std::string& text) {
    return *delivery_settings(config(text), {}, nullptr, nullptr);
  };
  const auto it = told(R"(
[[site]]
match = ["mx:.google.com", ".bücher.example"]
connections = 5
rate = "120/m"
per_connection = 50
[[site]]
match = "example.org"
family = "ipv4"
[delivery]
retry_for = ["mailbox-full 2h", "rate 7m 9m"]
)");
  REQUIRE(it->site_rules.size() == 2);
  CHECK(it->site_rules[0].match ==
        std::vector<std::string>{"mx:.google.com", ".xn--bcher-kva.example"});
  CHECK(it->site_rules[0].bounds.connections == 5);
  CHECK(it->site_rules[0].bounds.rate == Approx(2));
  CHECK(it->site_rules[0].bounds.per_connection == 50);
  CHECK(it->site_rules[0].families == dns::Families::both);
  CHECK(it->site_rules[1].bounds.connections == 0);
  CHECK(it->site_rules[1].families == dns::Families::ipv4);
  using scheduler::ReplyClass;
  CHECK(it->probes_by_outage);
  CHECK(it->retry_by_reason->steps(ReplyClass::mailbox_full) ==
        std::vector<Duration>{std::chrono::hours(2)});
  CHECK(it->retry_by_reason->steps(ReplyClass::rate).size() == 2);
  CHECK(it->retry_by_reason->steps(ReplyClass::greylisted).size() > 3);
  // What is given for all holds for all, but for those that have their own.
  const auto all = told("[delivery]\nretry = [\"8m\"]\nretry_for = [\"rate 7m\"]\n");
  CHECK_FALSE(all->probes_by_outage);
  CHECK(all->retry_by_reason->steps(ReplyClass::greylisted) ==
        std::vector<Duration>{std::chrono::minutes(8)});
  CHECK(all->retry_by_reason->steps(ReplyClass::rate) ==
        std::vector<Duration>{std::chrono::minutes(7)});
}

TEST_CASE("a double bounce's user belongs to a domain of ours", "[daemon][settings]") {
  const auto to = [](const std::string& given, const std::string& domains) {
    return (*delivery_settings(config("[delivery]\ndouble_bounces_to = \"" + given +
                                      "\"\n[local]\ndomains = [" + domains + "]\n"),
                               {}, nullptr, nullptr))
        ->double_bounce;
  };
  CHECK(to("", "").empty());
  CHECK(to("Postmaster", "") == "Postmaster");
  CHECK(to("root", "") == "root@mx.example.org");
  CHECK(to("root", "\"example.org\"") == "root@example.org");
  CHECK(to("a@b.example", "") == "a@b.example");
}

TEST_CASE("the resolver follows the system unless servers are given", "[daemon][settings]") {
  CHECK(resolver_settings(config("").dns).resolv_conf == "/etc/resolv.conf");
  const auto given = resolver_settings(config("[dns]\nservers = [\"127.0.0.1:5353\"]\n").dns);
  CHECK(given.resolv_conf.empty());
  REQUIRE(given.servers.size() == 1);
  CHECK(given.servers[0].port == 5353);
  CHECK_FALSE(given.trust_ad);
}

TEST_CASE("listeners take the sockets of their name from the service manager",
          "[daemon][settings]") {
  std::vector<InheritedSocket> sockets;
  sockets.push_back({"smtp", FileDescriptor(dup(0)), "0.0.0.0:25"});
  sockets.push_back({"other", FileDescriptor(dup(0)), "0.0.0.0:26"});
  sockets.push_back({"smtp", FileDescriptor(dup(0)), "[::]:25"});
  const auto with_systemd = config(
      "[[listener]]\naddress = \"systemd:smtp\"\nrole = \"submission\"\n"
      "[[listener]]\naddress = \"127.0.0.1:2525\"\n");
  const auto first = listener_settings(with_systemd, sockets);
  REQUIRE(first.has_value());
  REQUIRE(first->size() == 3);
  CHECK((*first)[0].inherited >= 0);
  CHECK((*first)[0].role == smtpd::Role::submission);
  CHECK((*first)[1].address == "[::]:25");
  CHECK((*first)[2].inherited == -1);
  // A reload names the same places without taking anything.
  const auto again = listener_settings(with_systemd, sockets);
  REQUIRE(again.has_value());
  REQUIRE(again->size() == 3);
  CHECK((*again)[0].address == "0.0.0.0:25");
  CHECK((*again)[0].inherited == -1);
  close((*first)[0].inherited);
  close((*first)[1].inherited);

  const auto missing = config("[[listener]]\naddress = \"systemd:none\"\n");
  CHECK(listener_settings(missing, sockets).has_error());
}

TEST_CASE("a listener is told when TLS begins", "[daemon][settings]") {
  std::vector<InheritedSocket> none;
  const auto with_tls = config(
      "[tls]\ncertificate = \"/etc/c\"\nkey = \"/etc/k\"\n"
      "[[listener]]\naddress = \"127.0.0.1:465\"\ntls = \"implicit\"\n");
  const auto told = listener_settings(with_tls, none);
  REQUIRE(told.has_value());
  CHECK(told->front().tls == smtpd::TlsStart::at_once);
}

TEST_CASE("a reload tells what it cannot change", "[daemon][settings]") {
  const auto old = config("");
  CHECK(need_restart(old, config("hostname = \"a.b\"\n[delivery]\nport = 26\n")).empty());
  CHECK(need_restart(old, config("spool = \"/srv/x\"\nthreads = 3\nlog = {target = \"syslog\"}\n"
                                 "[control]\nsocket = \"/srv/c\"\n")) ==
        std::vector<std::string>{"spool", "threads", "log.target", "control.socket",
                                 "control.submit"});
}

TEST_CASE("the room that must stay free grows with the largest message", "[daemon][settings]") {
  CHECK(queue_settings(config("[accept]\nmessage_size = \"100MiB\"\n")).room_needed == 150U << 20U);
}

TEST_CASE("limits of sendmail hold for everybody but who is named", "[daemon][settings]") {
  auto rules = local_rules(config(R"(
[sendmail]
messages_per_hour = 2
recipients_per_hour = 10
unlimited = ["root", "4242"]
)"));
  REQUIRE(rules.has_value());
  NullLog log;
  const SystemClock clock;
  BlockingPool pool(1);
  LocalLimits limits(clock, log, pool, "/nowhere");
  limits.set_rules(*std::move(rules));
  for (const std::uint64_t uid : {0U, 4242U})
    for (int i = 0; i < 20; ++i)
      CHECK_FALSE(limits.add(uid, 100));
  for (const std::uint32_t uid : {0U, 4242U})
    for (int i = 0; i < 20; ++i) {
      CHECK(limits.begin_message(uid).empty());
      CHECK(limits.add_recipient(uid).empty());
    }
  for (const std::uint64_t uid : {1U, 4241U, 4243U}) {
    CHECK_FALSE(limits.add(uid, 1));
    const auto never = limits.add(uid, 11);
    REQUIRE(never);
    CHECK(never->exit_code == EX_NOPERM);
    CHECK_FALSE(limits.add(uid, 1));
    const auto later = limits.add(uid, 1);
    REQUIRE(later);
    CHECK(later->exit_code == EX_TEMPFAIL);
  }
}

TEST_CASE("what others send through a .forward takes nothing of what its user may send",
          "[daemon][settings]") {
  const auto rules = [](const std::string& unlimited = "root") {
    return local_rules(config("[sendmail]\nrecipients_per_hour = 2\nunlimited = [\"" + unlimited +
                              "\"]\n[local]\nforwarded_per_hour = 5\nforwarded_per_day = 7\n"))
        .value();
  };
  using Kind = delivery::ForwardVerdict::Kind;
  const TemporaryFolder folder;
  NullLog log;
  const SystemClock clock;
  BlockingPool pool(1);
  LocalLimits limits(clock, log, pool, folder / "limits");
  limits.set_rules(rules());
  const auto daemon = find_account("daemon");
  REQUIRE(daemon.has_value());
  CHECK(limits.count_forward("daemon", 4).kind == Kind::now);
  CHECK(limits.count_forward("daemon", 6).kind == Kind::never);
  const auto later = limits.count_forward("daemon", 2);
  CHECK(later.kind == Kind::later);
  CHECK(later.limit == "5 recipients an hour");
  CHECK(limits.count_forward("daemon", 1).kind == Kind::now);
  CHECK(limits.count_forward("daemon", 1).kind == Kind::later);
  // Neither way takes of the other.
  CHECK_FALSE(limits.add(daemon->uid, 2));
  CHECK(limits.add(daemon->uid, 1));
  const auto at_limit = limits.limited();
  REQUIRE(at_limit.size() == 2);
  CHECK(at_limit[0].user == "uid " + std::to_string(daemon->uid));
  CHECK(at_limit[1].user == "uid " + std::to_string(daemon->uid) + " by .forward");
  limits.save();
  LocalLimits restarted(clock, log, pool, folder / "limits");
  restarted.set_rules(rules());
  CHECK(restarted.count_forward("daemon", 1).kind == Kind::later);
  CHECK(restarted.add(daemon->uid, 1));
  CHECK(restarted.count_forward("bin", 5).kind == Kind::now);
  restarted.set_rules(rules("bin"));
  CHECK(restarted.count_forward("bin", 500).kind == Kind::now);
}

TEST_CASE("lent user ids count as their owner", "[daemon][settings]") {
  const auto lent = parse_subuids(
      "# no entry\n7:100000:65536\n\nroot:300000:10\nno-such-user-here:1:2\n8:1\n9:0:4294967296\n"
      "8:x:1\n8:200000:1");
  REQUIRE(lent.size() == 3);
  CHECK((lent[0].owner == 7 && lent[0].first == 100000 && lent[0].count == 65536));
  CHECK((lent[1].owner == 0 && lent[1].count == 10));
  CHECK(lent[2].owner == 8);
  auto rules = local_rules(config("[sendmail]\nmessages_per_hour = 2\n")).value();
  rules.lent = lent;
  NullLog log;
  const SystemClock clock;
  BlockingPool pool(1);
  LocalLimits limits(clock, log, pool, "/nowhere");
  limits.set_rules(std::move(rules));
  CHECK_FALSE(limits.add(100000, 1));
  CHECK(limits.begin_message(165535).empty());
  CHECK(limits.add(7, 1));
  CHECK_FALSE(limits.add(165536, 1));
  for (int i = 0; i < 2; ++i)
    CHECK_FALSE(limits.add(300001, 1));
  CHECK(limits.add(300001, 1));  // who has no limits lends none
  CHECK_FALSE(limits.add(300002, 1));
  // What runs under root's is not root, and shares with what else runs there.
  CHECK(limits.party_of(300001) == 300000);
  CHECK(limits.party_of(300009) == 300000);
  CHECK(limits.party_of(150000) == 7);
  CHECK(limits.party_of(7) == 7);
  CHECK(limits.party_of(165536) == 165536);
}

TEST_CASE("what a user has sent counts on when limits are read again", "[daemon][settings]") {
  const auto rules = [](const std::string& messages) {
    return local_rules(config("[sendmail]\nmessages_per_hour = " + messages + "\n")).value();
  };
  const TemporaryFolder folder;
  NullLog log;
  const SystemClock clock;
  BlockingPool pool(1);
  LocalLimits limits(clock, log, pool, folder / "limits");
  limits.set_rules(rules("3"));
  CHECK_FALSE(limits.add(1, 1));
  limits.save();
  CHECK_FALSE(limits.add(1, 1));
  limits.set_rules(rules("3"));  // no count is the older one of the file again
  CHECK_FALSE(limits.add(1, 1));
  CHECK(limits.add(1, 1));
  limits.set_rules(rules("5"));
  CHECK_FALSE(limits.add(1, 1));
  CHECK_FALSE(limits.add(1, 1));
  CHECK(limits.add(1, 1));
  limits.save();
  LocalLimits restarted(clock, log, pool, folder / "limits");
  restarted.set_rules(rules("5"));
  CHECK(restarted.add(1, 1));
  CHECK_FALSE(restarted.add(2, 1));
  // However it was sent.
  restarted.save();
  for (int i = 0; i < 5; ++i)
    CHECK(restarted.begin_message(3).empty());
  restarted.save();
  LocalLimits once_more(clock, log, pool, folder / "limits");
  once_more.set_rules(rules("5"));
  CHECK_FALSE(once_more.begin_message(3).empty());
}
