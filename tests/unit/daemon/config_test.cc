#include "base/nearest.h"
#include "base/text.h"
#include "daemon/config/config_checks.h"
#include "daemon/config/config_file.h"
#include "daemon/config/secret_values.h"
#include "daemon/config/suggest.h"

#include <catch2/catch.hpp>

#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

namespace fs = std::filesystem;
using namespace postrider;
using namespace postrider::daemon;

namespace {

Loaded parse(std::string_view text) {
  return parse_config(text, "test.toml", {"mx.example.org", {}});
}

// A folder of its own that goes with the test.
struct Folder {
  Folder() {
    char name[] = "/tmp/postrider-config-XXXXXX";
    path = mkdtemp(name);
  }
  ~Folder() { fs::remove_all(path); }
  std::string file(const std::string& name, const std::string& text) const {
    std::ofstream(path / name, std::ios::binary) << text;
    fs::permissions(path / name, fs::perms(0644));
    return path / name;
  }
  fs::path path;
};

}  // namespace

TEST_CASE("a file rests since its last change, whatever its clock says", "[config][unit]") {
  using std::chrono::milliseconds;
  const SteadyTime asked{std::chrono::hours(1)};
  FileRest file({"one", Duration(0)}, asked);
  CHECK(file.look({"one", Duration(0)}, asked + milliseconds(400)) == Duration(400));
  CHECK(file.look({"one", Duration(5000)}, asked + milliseconds(500)) == Duration(5000));
  // Changed while a reload waits: that has to wait again.
  CHECK(file.look({"two", Duration(0)}, asked + milliseconds(900)) == Duration(0));
  CHECK(file.look({"two", Duration(0)}, asked + milliseconds(1500)) == Duration(600));
  CHECK(file.look({"three", Duration(20)}, asked + milliseconds(2000)) == Duration(20));
  CHECK(file.look({"three", Duration(0)}, asked + milliseconds(3100)) == Duration(1100));
}

TEST_CASE("what can be understood of a broken file counts for who must go on", "[config][unit]") {
  const auto read = [](std::string_view text) {
    const auto no_file = [](const std::string&) -> Result<std::string> {
      return Error(Errc::not_found, "open");
    };
    return parse_leniently(text, {"mx.example.org", no_file});
  };
  const std::string good = "spool = \"/s\"\n[control]\nsocket = \"/r/c\"\n";
  for (const auto& text : {good + "[acept]\nx = 1\n", "hostname = 5\n" + good, "= = [\n" + good,
                           "]]\nx =\n" + good + "[zz\n", good + std::string(1, '\0') + "spool = 1",
                           "spool = \"/s\"\nspool = \"/t\"\n" + good.substr(13),
                           good + "[accept]\nmessage_size = \"1\"\n"}) {
    INFO(text);
    const auto config = read(text);
    CHECK(config.spool == "/s");
    CHECK(config.control.socket == "/r/c");
    CHECK(config.control.submit == "/r/submit");
    CHECK(config.hostname == "mx.example.org");
    CHECK(config.origin == "mx.example.org");
    CHECK(config.accept.message_size == Config().accept.message_size);
  }
  CHECK(read("").spool == Config().spool);
  CHECK(read(std::string(10'000, '[')).spool == Config().spool);
  CHECK(read("origin = \"/nowhere\"").origin == "mx.example.org");
}

TEST_CASE("a file that may be cut is known from the one in use", "[config][unit]") {
  const auto parsed = [](const std::string& text) {
    auto loaded = parse_config(text, "test.toml", {"mx.example.org", {}});
    loaded.ends_a_line = text.ends_with('\n');
    REQUIRE(loaded.config);
    return loaded;
  };
  const std::string head = "[[listener]]\naddress = \"127.0.0.1:25\"\n";
  const std::string route = "[[route]]\ndomain = \"*\"\nnext_hop = \"smtp://r.example.net\"\n";
  const auto running = parsed(head + route);
  CHECK(looks_cut(parsed(head), running));
  CHECK(looks_cut(parsed(route), running));
  CHECK(looks_cut(parsed(head + route.substr(0, route.size() - 1)), running));
  CHECK_FALSE(looks_cut(parsed("hostname = \"b.example.org\"\n" + head + route), running));
  CHECK_FALSE(looks_cut(parsed(head), parsed(head)));
}

namespace {

// A program writes these, one after the other, each time that we wait; what we start with.
std::string started_with(const std::vector<std::string>& texts, Duration rest = {}) {
  const Folder folder;
  const auto path = folder.file("postrider.toml", texts.front());
  std::size_t turn = 0;
  Duration all(0);
  ConfigWaits waits;
  waits.rest = [&](const std::string&) { return rest; };
  waits.sleep = [&](Duration wait) {
    CHECK(wait > Duration(0));
    CHECK(wait <= kConfigSettled);
    all += wait;
    rest += wait;
    if (++turn >= texts.size())
      return;
    std::ofstream(path, std::ios::trunc) << texts[turn];
    rest = Duration(0);
  };
  const auto loaded = load_settled_config(path, waits);
  const auto name = loaded.config ? loaded.config->hostname : loaded.problems.back().text;
  return name + " after " + std::to_string(all.count() / 1000);
}

}  // namespace

TEST_CASE("a configuration that is being written at the start is waited for", "[daemon][unit]") {
  const std::string whole = "hostname = \"a.test\"\norigin = \"o.test\"\n";
  const auto half = whole.substr(0, whole.find('\n') + 1);
  using std::chrono::seconds;
  CHECK(started_with({whole}) == "a.test after 1");
  CHECK(started_with({whole}, seconds(2)) == "a.test after 0");
  CHECK(started_with({"", half, whole}) == "a.test after 3");
  CHECK(started_with({"hostname = \"a.", whole}) == "a.test after 2");
  CHECK(started_with({"hostname = \"b.test\"", whole}) == "a.test after 2");
  // It stays so: then it is meant.
  CHECK(started_with({"hostname = \"b.test\""}) == "b.test after 5");
  CHECK(started_with({"hostname = \"b.test\""}, seconds(3)) == "b.test after 2");
  CHECK(started_with({"hostname = \"b.test\""}, seconds(60)) == "b.test after 0");
  CHECK(started_with(std::vector<std::string>(100, whole)).find("written all the time after 60") !=
        std::string::npos);
}

TEST_CASE("a configuration without a key at the start is waited for longer", "[daemon][unit]") {
  CHECK(started_with({""}).ends_with(" after 5"));
  CHECK(started_with({"# nothing here\n"}, std::chrono::seconds(3)).ends_with(" after 2"));
  CHECK(started_with({""}, std::chrono::seconds(60)).ends_with(" after 0"));
}

TEST_CASE("a configuration that is written just after its rest was asked is waited for",
          "[daemon][unit]") {
  const Folder folder;
  const auto path = folder.file("postrider.toml", "hostname = \"a.test\"\n");
  int asked = 0;
  ConfigWaits waits;
  waits.rest = [&](const std::string&) {
    if (asked++ == 0)
      std::ofstream(path, std::ios::trunc) << "hostname = \"half.te";
    return asked == 1 ? Duration(std::chrono::hours(1)) : Duration(0);
  };
  waits.sleep = [&](Duration) {
    std::ofstream(path, std::ios::trunc) << "hostname = \"b.test\"\norigin = \"o.test\"\n";
    waits.rest = [](const std::string&) { return Duration(std::chrono::hours(1)); };
  };
  const auto loaded = load_settled_config(path, waits);
  REQUIRE(loaded.config);
  CHECK(loaded.config->hostname == "b.test");
}

TEST_CASE("how long a configuration has been at rest its stamp says", "[daemon][unit]") {
  const Folder folder;
  const auto path = folder.file("postrider.toml", "hostname = \"a.test\"\n");
  const auto waits = real_waits();
  CHECK(waits.rest(path) < std::chrono::minutes(1));
  fs::last_write_time(path, fs::last_write_time(path) - std::chrono::hours(1));
  CHECK(waits.rest(path) >= std::chrono::hours(1));
  // One that is not there is not waited for.
  CHECK(waits.rest("/nonexistent/postrider.toml") > kConfigSettledIfCut);
  CHECK_FALSE(load_settled_config("/nonexistent/postrider.toml", waits).config);
}

TEST_CASE("an empty file means the defaults and the system's name", "[config]") {
  const auto loaded = parse("");
  REQUIRE(loaded.config);
  CHECK(loaded.config->hostname == "mx.example.org");
  CHECK(loaded.config->spool == "/var/spool/postrider");
  CHECK(loaded.config->control.submit == "/run/postrider/submit");
  CHECK(loaded.config->listeners.empty());
  CHECK(loaded.origins.empty());
}

TEST_CASE("a [[site]] that is of no mail is warned of", "[config]") {
  const auto warnings_of = [](const std::string& text) {
    const auto loaded = parse(text);
    REQUIRE(loaded.config != nullptr);
    std::vector<std::string> all;
    for (const auto& one : warnings_about(*loaded.config))
      all.push_back(one.key + ": " + one.text);
    return all;
  };
  CHECK(warnings_of("[[site]]\nmatch = [\"google\", \"GMX\", \"mx:host\", \"a.test\"]\n").empty());
  CHECK(warnings_of("[[site]]\nmatch = []\n") ==
        std::vector<std::string>{"site[0].match: is empty, so that this [[site]] is of no mail"});
  const auto unknown = warnings_of("[[site]]\nmatch = \"gogle\"\n");
  REQUIRE(unknown.size() == 1);
  CHECK(unknown.front().find("\"gogle\" is no provider that is known here") != std::string::npos);
  CHECK(unknown.front().find("google") != std::string::npos);
  CHECK(
      warnings_of("[[site]]\nmatch = \"a.test\"\n[[site]]\nmatch = \"A.test\"\n") ==
      std::vector<std::string>{"site[1].match: \"A.test\" stands in an earlier [[site]], which is "
                               "the one that counts"});
}

TEST_CASE("fewer connections than can be shared out are warned of", "[config]") {
  for (const auto& [most, is_few] :
       {std::pair{0, false}, {1, true}, {7, true}, {8, false}, {1000, false}}) {
    INFO(most);
    const auto loaded = parse("[delivery]\nconnections = " + std::to_string(most) + "\n");
    REQUIRE(loaded.config);
    const auto warnings = warnings_about(*loaded.config);
    REQUIRE(warnings.size() == (is_few ? 1 : 0));
    CHECK((!is_few || warnings.front().key == "delivery.connections"));
  }
}

TEST_CASE("every key of the table is read into its member", "[config]") {
  const auto loaded = parse(R"(
hostname = "mail.example.org"
origin = "example.org"
spool = "/srv/spool"
user = ""
threads = 3
log = { level = "debug", format = "postfix", target = "/var/log/mail" }

[[listener]]
address = "[::]:25"
proxy_protocol = true
[[listener]]
address = "unix:/run/lmtp"
role = "submission"
tls = "starttls"
next_hop = "smtp://127.0.0.1:10024"

[tls]
certificate = "/etc/cert.pem"
key = "/etc/key.pem"
protocol = "TLSv1.3"

[accept]
message_size = "10MiB"
recipients = 200
future_release = "12h"
relay_certificates = ["00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"]
relay_recipients = "text:/etc/relayed"
success_notices = true
open_relay = true
senders = "text:/etc/senders"
recipient_map = "text:/etc/recipients"
always_bcc = "archive@example.org"
sender_bcc = "text:/etc/sender_bcc"
recipient_bcc = ["text:/etc/recipient_bcc", "inline:{a@b.test=c@d.test}"]
client_names = false
greeting_delay = "2s"
relay_from = []
relay_to = ["backup.example", ".below.example"]
proxy_from = ["192.0.2.1"]
sessions = 5
sessions_per_client = 6
errors = 7
timeout = "30s"

[checks]
clients = "text:/etc/clients"
client_lists = ["zen.example.org=127.0.0.[2..11]*2", "welcome.example.org*-2"]
domain_lists = "names.example.org"
refused_from = 3
welcome_from = 2
client_name = "confirmed"
helo = "present"
report_only = true
except_from = "192.0.2.0/24"
time_limit = "2s"
greylist = true
greylist_delay = "1m"
greylist_successes = 3
policy_services = ["127.0.0.1:10023", "/run/policy"]
policy_data_services = ["127.0.0.1:10024"]
policy_end_services = ["127.0.0.1:10025"]
policy_default = "accept"
policy_timeout = "10s"
messages_per_hour = 31
recipients_per_hour = 32
failures_per_hour = 33

[authentication]
spf = true
dkim = true
arc = true
dmarc = "quarantine"
authserv_id = "example.org"
exceptions = "text:/etc/exceptions"
time_limit = "5s"

[auth]
mechanisms = ["PLAIN", "OAUTHBEARER"]
users = "/etc/users"
dovecot = ""
pam = ""
certificates = "/etc/fingerprints"
senders = "/etc/owners"
from = "reject"
oauth_introspect = "https://id.example.org/introspect"
oauth_client = "/etc/client"
oauth_roots = "/etc/roots.pem"
oauth_keys = ""
oauth_issuer = "https://id.example.org"
oauth_audience = "mail"
oauth_scope = "smtp"
oauth_user = "sub"
clear = true
tries_per_client = 2
tries_per_account = 3
failure_delay = "2s"
hash_threads = 2
messages_per_hour = 11
messages_per_day = 12
recipients_per_hour = 13
recipients_per_day = 14
new_recipients_per_hour = 15
new_recipients_per_day = 16

[sendmail]
messages_per_hour = 21
messages_per_day = 22
recipients_per_hour = 23
recipients_per_day = 24
unlimited = ["www-data", "33"]

[local]
domains = ["example.org", "bücher.example"]
mailbox = "maildir:/home/{user}/Maildir"
aliases = ""
minimum_uid = 500
users = ["ann"]
deliveries = 3
command_time = "5m"
command_processes = 50
command_memory = "64MiB"
mbox_size = "1GiB"
virtual = "text:/etc/virtual"
separator = "-"
forward = ""
forwarded_per_hour = 3
forwarded_per_day = 4
catch_all = "postmaster"
srs = true
srs_domain = "srs.example.org"
srs_key = "/etc/srs"
arc = true
arc_domain = "example.org"
alias_user = "mail"
command_users = ["mail", "list"]
expansion_recipients = 99
expansion_steps = 5

[dkim]
folder = "/etc/postrider/dkim"
keys = ["example.org:s1:/etc/postrider/s1.pem"]
sign = ["sendmail", "notices"]
canonicalization = "relaxed/simple"
signed_fields = ["List-Id"]
oversigned_fields = ["From", "Subject"]
valid_for = "7d"

[[header_check]]
pattern = "/^Subject: .*free/"
action = "reject No, thank you"
in = "mime"
mail = ["mx", "sendmail"]

[rewrite]
sender = "text:/etc/canonical"
recipient = "text:/etc/canonical"
masquerade = ["example.org"]
masquerade_except = ["daemon"]

[[milter]]
address = "inet:8891@127.0.0.1"
name = "opendkim"
mail = ["mx", "sendmail"]
listeners = []
except_from = "192.0.2.0/24"
default_action = "quarantine"
macros = "{daemon_name}=ORIGINATING"
connections = 20
connect_timeout = "5s"
command_timeout = "6s"
content_timeout = "7m"

[[route]]
domain = ".example.net"
next_hop = "lmtp:///run/lmtp"
tls = "off"
[[route]]
domain = "*"
next_hop = "smtp://relay.example.net:587"
from = ["ann@example.org", ".example.net", "<>"]
source = ["192.0.2.1", "2001:db8::1"]
helo = "out.example.org"
tls = "verify"
tls_names = "relay.example.net"
credentials = "/etc/secret"
unverified_login = true

[[site]]
match = "mx:.google.com"
connections = 5
rate = "100/m"
per_connection = 50
family = "ipv4"
source = ["192.0.2.1*3", "2001:db8::1"]
helo = "out.example.org"
[[site]]
match = [".example.net", "example.org"]

[dns]
servers = ["127.0.0.1:5353", "::1"]
trust_ad = false

[delivery]
route_map = "text:/etc/routes"
port = 2525
lifetime = "1h"
retry = ["10s", "1m30s"]
retry_for = ["mailbox-full 1h 4h"]
delay_notice = "0s"
site_connections = 2
connections = 400
tls_ca = "/etc/ca.pem"
connect_timeout = "5s"
idle = "1s"
family = "ipv4"
double_bounces_to = ""

[mta_sts]
enabled = false
port = 8443
timeout = "3s"

[trace]
keep = "3d"
size = "2GiB"
[dmarc_report]
enabled = false
contact = "dmarc@example.org"
organisation = "Example"
delay = "2h"
[tls_report]
enabled = false
contact = "tls@example.org"
organisation = "Example"
delay = "1h"

[control]
socket = "/srv/control"
readers = "readers"
submit = "/srv/door"

[[events]]
name = "audit"
file = "/var/log/postrider/events"
types = ["delivered", "bounced"]
domains = ["example.net", ".example.org"]
senders = ["shop@example.org", "@example.org", "<>"]
tags = ["order *"]
fields = ["from", "to", "reply"]
privacy = "domains"
batch = 7
timeout = "3s"
[[events]]
name = "hook"
webhook = "https://example.org/hook"
secret = "/etc/postrider/hook.keys"
[[events]]
name = "app"
socket = "/run/app/events"
[[events]]
name = "bus"
broker = "amqps://shop@rabbit.example.org/shop"
password = "/etc/postrider/rabbit"
exchange = "mail"
topic = "mail.{type}"

[[requests]]
name = "shop"
broker = "stomps://shop@mq.example.org/shop"
password = "/etc/postrider/stomp"
source = "/queue/mail"
refused = "/queue/refused"
connections = 2

[outbox]
size = "1GiB"
age = "2d"
keep = "0s"

[sandbox]
read = ["/srv/lists"]
core_dumps = true
[web]
listen = ["127.0.0.1:8025", "unix:/run/web/door"]
hosts = ["status.example.org"]
tokens = "/etc/tokens"
metrics_need_token = true
request_size = "2MiB"
user = "viewer"
pam = "viewers"
pam_read = "@adm"
pam_change = ["anna", "@sudo"]
)");
  INFO(loaded.describe());
  REQUIRE(loaded.config);
  const auto& c = *loaded.config;
  CHECK(c.hostname == "mail.example.org");
  CHECK(c.user.empty());
  CHECK(c.threads == 3);
  CHECK(c.log.level == Level::debug);
  CHECK(c.log.format == LogFormatName::postfix);
  CHECK(c.log.target == "/var/log/mail");
  REQUIRE(c.listeners.size() == 2);
  CHECK(c.listeners[0].proxy_protocol);
  CHECK(c.listeners[1].role == Role::submission);
  CHECK(c.listeners[1].tls == ListenerTls::starttls);
  CHECK(c.listeners[1].next_hop == "smtp://127.0.0.1:10024");
  CHECK(c.accept.always_bcc == std::vector<std::string>{"archive@example.org"});
  CHECK(c.accept.sender_bcc == std::vector<std::string>{"text:/etc/sender_bcc"});
  CHECK(c.accept.recipient_bcc.size() == 2);
  CHECK(c.accept.message_size == 10U << 20U);
  CHECK(c.accept.relay_from.empty());
  CHECK(c.accept.success_notices);
  CHECK(c.accept.open_relay);
  CHECK(c.accept.relay_to == std::vector<std::string>{"backup.example", ".below.example"});
  CHECK(c.accept.errors == 7);
  CHECK(c.accept.timeout == std::chrono::seconds(30));
  CHECK(c.checks.client_lists.size() == 2);
  CHECK(c.checks.client_name == 2);
  CHECK_FALSE(c.accept.client_names);
  CHECK(c.accept.greeting_delay == std::chrono::seconds(2));
  CHECK(c.checks.messages_per_hour + c.checks.recipients_per_hour + c.checks.failures_per_hour ==
        96);
  CHECK(c.checks.clients == std::vector<std::string>{"text:/etc/clients"});
  CHECK(c.checks.policy_data_services.size() == 1);
  CHECK(c.checks.policy_end_services.size() == 1);
  CHECK(c.checks.policy_default == 1);
  REQUIRE(c.header_checks.size() == 1);
  CHECK(c.header_checks[0].pattern == "/^Subject: .*free/");
  CHECK(c.header_checks[0].action == "reject No, thank you");
  CHECK(c.header_checks[0].in == 1);
  CHECK(c.header_checks[0].mail == std::vector<std::string>{"mx", "sendmail"});
  REQUIRE(c.milters.size() == 1);
  CHECK(c.milters[0].mail == std::vector<std::string>{"mx", "sendmail"});
  CHECK(c.milters[0].default_action == 3);
  CHECK(c.milters[0].content_timeout == std::chrono::minutes(7));
  CHECK(c.authentication.dmarc == 2);
  CHECK(c.authentication.exceptions == std::vector<std::string>{"text:/etc/exceptions"});
  CHECK(c.local.domains.size() == 2);
  CHECK(c.local.arc);
  CHECK(c.local.arc_domain == "example.org");
  REQUIRE(c.routes.size() == 2);
  CHECK(c.routes[0].tls == RouteTls::off);
  CHECK(c.routes[1].credentials == "/etc/secret");
  CHECK(c.routes[1].unverified_login);
  CHECK(c.routes[1].from.size() == 3);
  CHECK(c.routes[1].source == std::vector<std::string>{"192.0.2.1", "2001:db8::1"});
  CHECK(c.routes[1].helo == "out.example.org");
  CHECK(c.delivery.route_map == std::vector<std::string>{"text:/etc/routes"});
  CHECK(c.dns.trust_ad == std::optional(false));
  CHECK(c.delivery.port == 2525);
  CHECK(c.delivery.retry == std::vector<Duration>{Duration(10000), Duration(90000)});
  CHECK(c.delivery.retry_for == std::vector<std::string>{"mailbox-full 1h 4h"});
  REQUIRE(c.sites.size() == 2);
  CHECK(c.sites[0].match == std::vector<std::string>{"mx:.google.com"});
  CHECK(c.sites[0].connections == 5);
  CHECK(c.sites[0].rate == "100/m");
  CHECK(c.sites[0].per_connection == 50);
  CHECK(c.sites[0].family == Family::ipv4);
  CHECK(c.sites[1].match.size() == 2);
  CHECK(c.delivery.delay_notice == Duration(0));
  CHECK(c.delivery.connections == 400);
  CHECK(c.delivery.family == Family::ipv4);
  CHECK(c.control.submit == "/srv/door");
  CHECK(c.control.readers == "readers");
  CHECK(c.web.listen == std::vector<std::string>{"127.0.0.1:8025", "unix:/run/web/door"});
  CHECK(c.web.hosts == std::vector<std::string>{"status.example.org"});
  CHECK(c.web.metrics_need_token);
  CHECK(c.web.request_size == 2U << 20U);
  CHECK(c.web.pam == "viewers");
  CHECK(c.web.pam_read == std::vector<std::string>{"@adm"});
  CHECK(c.web.pam_change == std::vector<std::string>{"anna", "@sudo"});
  REQUIRE(c.events.size() == 4);
  CHECK(c.events[2].door() == "/run/app/events");
  CHECK(c.events[3].door() == "/run/postrider-amqp/bus");
  CHECK(c.events[0].door().empty());
  CHECK(c.events[0].privacy == EventPrivacy::domains);
  CHECK(c.events[0].senders.back() == "<>");
  CHECK(c.events[1].timeout == Duration(20'000));
  REQUIRE(c.requests.size() == 1);
  CHECK(c.requests[0].source == "/queue/mail");
  CHECK(c.requests[0].connections == 2);
  CHECK(c.outbox.size == 1U << 30U);
  CHECK(c.accept.future_release == std::chrono::hours(12));
  CHECK(c.trace.keep == std::chrono::hours(72));
  CHECK(c.trace.size == 2ULL << 30U);
  CHECK_FALSE(c.dmarc_report.enabled);
  CHECK(c.dmarc_report.contact == "dmarc@example.org");
  CHECK(c.dmarc_report.organisation == "Example");
  CHECK(c.dmarc_report.delay == std::chrono::hours(2));
  // The table has no row that this file does not use.
  for (const auto& option : options()) {
    INFO(option.key);
    const bool is_given = loaded.origins.contains(origin_key(option, 0)) ||
                          loaded.origins.contains(origin_key(option, 1)) ||
                          loaded.origins.contains(origin_key(option, 2)) ||
                          loaded.origins.contains(origin_key(option, 3));
    CHECK((is_given || std::string(option.key).empty()));
  }
}

TEST_CASE("a sink of events has one place to go, and a name of its own", "[config]") {
  const struct {
    const char* lines;
    const char* problem;
  } cases[] = {
      {"", "has no place to go"},
      {"file = \"/a/b\"\nsocket = \"/a/c\"", "has several places to go"},
      {"file = \"a\"", "path"},
      {"file = \"/a/b\"\nsecret = \"/a/c\"", "is given without webhook"},
      {"webhook = \"http://example.org/x\"", "is http:// to another machine"},
      {"webhook = \"ftp://example.org/x\"", "is not a URL"},
      {"broker = \"amqp://localhost\"", "topic: is missing"},
      {"broker = \"kafka://kafka.example.org\"\ntopic = \"mail\"",
       "broker: is without TLS to another machine; expected kafkas://"},
      {"broker = \"kafka://localhost\"\ntopic = \"mail/{type}\"",
       "topic: is not the name of a topic of Kafka"},
      {"broker = \"mqtt://localhost\"\ntopic = \"mail\"\nexchange = \"x\"",
       "exchange: is given for another protocol"},
      {"broker = \"amqp10://rabbit.example.org\"\ntopic = \"mail\"",
       "broker: is without TLS to another machine; expected amqp10s://"},
      {"broker = \"amqp10://localhost\"\ntopic = \"mail\"\nexchange = \"x\"",
       "exchange: is given for another protocol"},
      {"broker = \"mqtt://localhost\"\ntopic = \"mail/#\"", "topic: is not a topic of MQTT"},
      {"broker = \"stomp://mq.example.org\"\ntopic = \"mail\"",
       "broker: is without TLS to another machine; expected stomps://"},
      {"broker = \"amqp://rabbit.example.org\"\ntopic = \"mail\"",
       "is without TLS to another machine"},
      {"broker = \"amqp://u:secret@localhost\"\ntopic = \"mail\"", "is not the URL of a broker"},
      {"broker = \"amqp://u@localhost\"\ntopic = \"mail\"",
       "password: is missing; expected for the user in broker"},
      {"broker = \"amqp://localhost\"\ntopic = \"mail\"\nfile = \"/a/b\"",
       "has several places to go"},
      {"broker = \"amqp://localhost\"\ntopic = \"mail\"\nexchange = \"a\\tb\"",
       "is not a name at a broker"},
      {"file = \"/a/b\"\ntopic = \"mail\"", "topic: is given without broker"},
      {"file = \"/a/b\"\ntypes = [\"sent\"]", "is not a type of event"},
      {"file = \"/a/b\"\nfields = [\"colour\"]", "is not a field of an event"},
      {"file = \"/a/b\"\nsenders = [\"shop\"]", "is not a sender"},
      {"file = \"/a/b\"\n[[events]]\nname = \"ONE\"\nfile = \"/a/c\"", "is the name of another"},
  };
  for (const auto& each : cases) {
    const auto loaded = parse("[[events]]\nname = \"one\"\n" + std::string(each.lines) + "\n");
    INFO(each.lines << "\n" << loaded.describe());
    CHECK_FALSE(loaded.config);
    CHECK(loaded.describe().find(each.problem) != std::string::npos);
  }
  for (const auto* url :
       {"http://127.0.0.1:8080/x", "http://[::1]/x", "http://localhost/x", "https://example.org/x"})
    CHECK(parse("[[events]]\nname = \"one\"\nwebhook = \"" + std::string(url) + "\"\n").config);
  for (const auto* url :
       {"amqp://127.0.0.1:5673", "amqps://rabbit.example.org:5671/shop", "amqp10://localhost",
        "kafka://localhost", "stomps://mq.example.org/orders"})
    CHECK(parse("[[events]]\nname = \"one\"\ntopic = \"mail\"\nsocket = \"/a/b\"\nbroker = \"" +
                std::string(url) + "\"\n")
              .config);
  CHECK_FALSE(parse("[[events]]\nname = \"../x\"\nfile = \"/a/b\"\n").config);
}

TEST_CASE("the printed configuration says where each value comes from", "[config]") {
  const auto loaded = parse("threads = 2\n\n[[listener]]\naddress = \"127.0.0.1:2525\"\n");
  REQUIRE(loaded.config);
  const auto text = print_config(loaded);
  CHECK(text.find("threads = 2                                     # test.toml:1\n") != text.npos);
  CHECK(text.find("# default: those of /etc/resolv.conf\n") != text.npos);
  CHECK(text.find("\n[[listener]]\naddress = \"127.0.0.1:2525\"") != text.npos);
  CHECK(text.find("# test.toml:4\n") != text.npos);
}

TEST_CASE("a comment of the printed configuration stays within 80 columns", "[config]") {
  std::string names;
  for (int i = 0; i < 20; ++i)
    names += "\"d" + std::to_string(i) + ".example.org\", ";
  const auto loaded = parse("[local]\ndomains = [" + names + "]\n[tls_report]\norganisation = \"" +
                            std::string(60, 'x') + "\"\n");
  REQUIRE(loaded.config);
  const auto text = print_config(loaded);
  for (const auto line : split(text, '\n')) {
    INFO(line);
    CHECK((line.size() <= 80 || line.find("# ") == line.npos));  // a value may be wider
  }
  CHECK(text.find("\n# test.toml:2\ndomains = [\"d0.example.org\"") != text.npos);
  CHECK(text.find("\n# test.toml:4\norganisation = \"xxx") != text.npos);
}

TEST_CASE("the printed configuration reads back as the same", "[config]") {
  const char* const texts[] = {
      "",
      "hostname = \"a.b\"\n[[route]]\ndomain = \"*\"\nnext_hop = \"error:5.1.2 no \\\"such\\\"\"\n",
      "[delivery]\nretry = [\"1s\", \"1h30m\"]\n[dns]\ntrust_ad = true\n"};
  for (const auto* text : texts) {
    const auto first = parse(text);
    INFO(first.describe());
    REQUIRE(first.config);
    const auto second = parse(print_config(first));
    INFO(second.describe());
    REQUIRE(second.config);
    for (const auto& option : options())
      for (std::size_t i = 0; i < find_section(section_of(option))->count(*first.config); ++i)
        CHECK(value_text(option, *first.config, i) == value_text(option, *second.config, i));
  }
}

TEST_CASE("the nearest key is suggested", "[config]") {
  CHECK(edit_distance("hostnam", "hostname") == 1);
  CHECK(edit_distance("levle", "level") == 1);
  CHECK(unknown_key("Hostname", nullptr) == "unknown key; did you mean hostname?");
  CHECK(unknown_key("lifetme", find_section("delivery")) == "unknown key; did you mean lifetime?");
  CHECK(unknown_key(std::string(100000, 'x'), find_section("tls")) ==
        "unknown key; expected certificate, key or protocol");
}

TEST_CASE("I15 a configuration file that cannot be trusted is refused", "[config][I15]") {
  const Folder folder;
  const auto good = folder.file("good.toml", "hostname = \"mx.example.org\"\n");
  CHECK(load_config(good).config);

  SECTION("missing") {
    CHECK(load_config(folder.path / "none.toml").describe() ==
          (folder.path / "none.toml").string() +
              ": cannot be read: No such file or directory; name another with -c (sendmail: -C)\n");
  }
  SECTION("of another exit code where we may not read it") {
    if (geteuid() == 0)
      return;  // tests/integration/broken_config.py does it as another user
    fs::permissions(good, fs::perms(0000));
    const auto loaded = load_config(good);
    CHECK(loaded.exit_code() == EX_NOPERM);
    CHECK(loaded.describe().find("Permission denied; run this as root") != std::string::npos);
  }
  SECTION("a folder") {
    CHECK(load_config(folder.path).exit_code() == EX_CONFIG);
    CHECK(load_config(folder.path).describe() ==
          folder.path.string() + ": is not a regular file; expected a regular file\n");
  }
  SECTION("a FIFO does not hold us up") {
    const auto fifo = folder.path / "fifo";
    REQUIRE(mkfifo(fifo.c_str(), 0600) == 0);
    CHECK(load_config(fifo).describe().find("is not a regular file") != std::string::npos);
  }
  SECTION("100 MiB are not read") {
    const auto huge = folder.file("huge.toml", "");
    fs::resize_file(huge, 100U << 20U);
    CHECK(load_config(huge).describe() == huge + ": has 104857600 bytes; expected at most 1MiB\n");
  }
  if (geteuid() == 0) {
    SECTION("writable by its group") {
      fs::permissions(good, fs::perms(0664));
      CHECK(load_config(good).describe().find("can be written by its group") != std::string::npos);
    }
    SECTION("writable by everyone, behind a symbolic link") {
      fs::permissions(good, fs::perms(0646));
      const auto link = folder.path / "link.toml";
      fs::create_symlink(good, link);
      CHECK(load_config(link).describe().find("by everyone") != std::string::npos);
    }
    SECTION("of another user") {
      REQUIRE(chown(good.c_str(), 12345, 0) == 0);
      CHECK(load_config(good).describe() ==
            good + ": belongs to user 12345; expected a file of root\n");
    }
  }
}

TEST_CASE("the origin is the host's name, a name of its own, or a file's first line", "[config]") {
  const Machine machine{"mx.example.org", [](const std::string& path) -> Result<std::string> {
                          if (path == "/etc/mailname")
                            return std::string("example.net");
                          if (path == "/etc/empty")
                            return std::string();
                          return Error(Errc::not_found, "open");
                        }};
  const auto with = [&](const std::string& text) {
    return parse_config(text, "test.toml", machine);
  };
  CHECK(with("").config->origin == "mx.example.org");
  CHECK(with("hostname = \"a.example\"").config->origin == "a.example");
  CHECK(with("origin = \"b.example\"").config->origin == "b.example");
  CHECK(with("origin = \"/etc/mailname\"").config->origin == "example.net");
  CHECK(with("\norigin = \"/etc/empty\"").describe() ==
        "test.toml:2: origin: /etc/empty begins with \"\"; expected a line with a name such "
        "as \"example.org\"\n");
  CHECK(with("origin = \"/etc/none\"")
            .describe()
            .starts_with("test.toml:1: origin: /etc/none cannot be read: "));
}

TEST_CASE("local domains may name the host and the origin, and each counts once", "[config]") {
  const Machine machine{"mx.example.org", {}};
  const auto domains = [&](const std::string& text) {
    return parse_config(text, "test.toml", machine).config->local.domains;
  };
  const std::string own = "[local]\ndomains = [\"{origin}\", \"{hostname}\", \"localhost\"]";
  CHECK(domains(own) == std::vector<std::string>{"mx.example.org", "localhost"});
  CHECK(domains("origin = \"example.net\"\n" + own) ==
        std::vector<std::string>{"example.net", "mx.example.org", "localhost"});
}

TEST_CASE("a file's first line is read without what surrounds it", "[config]") {
  const Folder folder;
  const auto name = folder.file("mailname", " example.net \r\nmore\n");
  CHECK(*this_machine().first_line(name) == "example.net");
  CHECK_FALSE(this_machine().first_line(folder.path / "absent"));
}

TEST_CASE("I15 NUL bytes and includes are refused", "[config][I15]") {
  CHECK(parse(std::string_view("user = \"a\"\n\0", 12)).describe() ==
        "test.toml:2: has a NUL byte in it; expected text alone\n");
  CHECK(parse("include = \"test.toml\"\n").describe().find("unknown key") != std::string::npos);
}

TEST_CASE("values that TOML allows but nothing else are survived", "[config]") {
  std::string deep = "x = ";
  for (int i = 0; i < 5000; ++i)
    deep.append("[");
  const std::string texts[] = {deep,
                               "\xff\xfe = 1",
                               "\"\" = 1",
                               "a.b.c.d = 1",
                               "\"listener.address\" = \"x\"",
                               "listener = [1, {address = 2}]",
                               "[[route]]\n[route.domain]\nx = 1",
                               "threads = 9223372036854775807",
                               "threads = nan",
                               "hostname = \"" + std::string(100000, 'a') + "\""};
  for (const auto& text : texts) {
    const auto loaded = parse(text);
    CHECK_FALSE(loaded.config);
    CHECK_FALSE(loaded.problems.empty());
  }
}

TEST_CASE("a route that logs in verifies its next hop unless it says otherwise", "[config]") {
  const auto tls_of = [](const std::string& lines) {
    const auto loaded = parse_config("[[route]]\ndomain = \"*\"\n" + lines, "f", {"mx.test", {}});
    INFO(loaded.describe());
    REQUIRE(loaded.config);
    return loaded.config->routes[0].tls;
  };
  const std::string login = "credentials = \"/etc/secret\"\n";
  const std::string out = "next_hop = \"smtp://relay.example.net:587\"\n";
  CHECK(tls_of(out) == RouteTls::opportunistic);
  CHECK(tls_of(out + login) == RouteTls::verify);
  CHECK(tls_of(out + login + "tls = \"dane\"\n") == RouteTls::dane);
  CHECK(tls_of(out + login + "tls = \"require\"\nunverified_login = true\n") == RouteTls::require);
  CHECK(tls_of("tls_names = \"relay.example.net\"\nnext_hop = \"smtp://192.0.2.1\"\n" + login) ==
        RouteTls::verify);
  for (const std::string here : {"127.0.0.1", "127.3.2.1:587", "[::1]", "localhost"}) {
    CHECK(tls_of("next_hop = \"smtp://" + here + "\"\n" + login) == RouteTls::opportunistic);
    CHECK(tls_of("next_hop = \"smtp://" + here + "\"\ntls = \"off\"\n" + login) == RouteTls::off);
  }
}

namespace {

// A configuration of one key. value: as it stands between quotes in TOML.
std::string given_to(const Option& option, const std::string& value) {
  const std::string section(section_of(option));
  const auto* const known = find_section(section);
  REQUIRE(known != nullptr);
  const auto quoted = "\"" + value + "\"";
  const bool is_list = std::holds_alternative<TextList>(option.value) ||
                       std::holds_alternative<TimeList>(option.value);
  std::string text = section.empty()  ? ""
                     : known->repeats ? "[[" + section + "]]\n"
                                      : "[" + section + "]\n";
  text.append(name_in_section(option))
      .append(" = ")
      .append(is_list ? "[" + quoted + ", " + quoted + "]" : quoted);
  return text + "\n";
}

}  // namespace

TEST_CASE("no problem repeats what was pasted into the wrong key", "[config]") {
  const std::string kept = "Zq7SeCr3tXw";
  const Machine machine{"mx.example.org", [](const std::string& path) -> Result<std::string> {
                          return Error(Errc::not_found, "open " + path);
                        }};
  const std::string values[] = {kept,
                                "-----BEGIN PRIVATE KEY-----" + kept + "MIIEvQIBADANBgkqhkiG",
                                "-----BEGIN RSA PRIVATE KEY-----\\n" + kept + "\\n-----END",
                                "Bearer " + kept,
                                "Authorization: Basic " + kept,
                                "anna:" + kept,
                                "password='" + kept + "'",
                                "$6$salt$" + kept,
                                "{PLAIN}" + kept,
                                "AKIA" + kept,
                                "ghp_" + kept + "abcdefghij0123456789ABCD",
                                "xoxb-123456789012-" + kept,
                                "sk_live_" + kept,
                                "eyJhbGciOiJIUzI1NiJ9.eyJz" + kept + ".c2ln",
                                "|/usr/bin/x --password " + kept,
                                "|/usr/bin/x --token=" + kept,
                                "/usr/bin/mysql -u x -p" + kept,
                                "command:/usr/bin/x " + kept,
                                "text:" + kept,
                                kept + ".zen.dq.spamhaus.net=999.1.1.1",
                                kept + ".zen.dq.spamhaus.net*x",
                                kept + " x"};
  for (const auto& option : options())
    for (const auto& value : values) {
      const auto text = given_to(option, value);
      const auto loaded = parse_config(text, "test.toml", machine);
      INFO(text << "\n" << loaded.describe());
      CHECK(loaded.describe().find(kept) == std::string::npos);
      CHECK(loaded.describe().find("zq7secr3txw") == std::string::npos);
      if (!loaded.config)
        continue;
      for (const auto& warning : warnings_about(*loaded.config))
        CHECK(without_secret_values(warning.text, *loaded.config).find(kept) == std::string::npos);
    }
  CHECK(parse("[delivery]\n\"" + kept + "\" = 1\n").describe().find(kept) == std::string::npos);
  CHECK(parse("[\"" + kept + "\"]\nx = 1\n").describe().find(kept) == std::string::npos);
}

TEST_CASE("the key of a DNS list is not printed, nor is what a library says of a secret value",
          "[config]") {
  const auto loaded = parse(
      "[checks]\nclient_lists = [\"k3ykeykey.zen.dq.spamhaus.net=127.0.0.2\"]\n"
      "[auth]\nusers = \"/usr/bin/x --token=abcd\"\n");
  REQUIRE(loaded.config);
  CHECK(print_config(loaded).find("k3ykeykey") == std::string::npos);
  CHECK(print_config(loaded).find("\"***.zen.dq.spamhaus.net=127.0.0.2\"") != std::string::npos);
  CHECK(without_secret_values("open /usr/bin/x --token=abcd: no", *loaded.config) ==
        "open /usr/bin/x ***: no");
}

TEST_CASE("no problem repeats the password of a URL, whatever key it was given to", "[config]") {
  const std::string secrets[] = {"smtp://user:s3cret@relay.example:587",
                                 "amqps://user:s3cret@broker.example/x",
                                 "https://user:s3cret@example.org/hook",
                                 "user:s3cret@relay.example:25",
                                 "ldap://user:s3cret@ldap.example/dc=x",
                                 "smtp://user:" + std::string(100, 'x') + "s3cret@relay.example"};
  for (const auto& option : options())
    for (const auto& secret : secrets) {
      const auto text = given_to(option, secret);
      const auto loaded = parse(text);
      INFO(text << "\n" << loaded.describe());
      CHECK(loaded.describe().find("xxxs3cret") == std::string::npos);
      CHECK(loaded.describe().find(":s3cret") == std::string::npos);
      CHECK(loaded.describe().find("xxxxxxxxxx") == std::string::npos);
    }
}

TEST_CASE("each wrong item of a list is reported, with its line", "[config]") {
  const auto loaded = parse(
      "[accept]\nrelay_from = [\n\"192.0.2.0/24\",\n\"192.0.2.1/33\",\n7,\n\"nonsense\"]\n"
      "[delivery]\nretry = [\"5m\", \"1\",\n\"0s\"]\n");
  std::vector<std::pair<unsigned, std::string>> seen;
  for (const auto& problem : loaded.problems)
    seen.emplace_back(problem.line, problem.key);
  CHECK(seen == std::vector<std::pair<unsigned, std::string>>{{4, "accept.relay_from"},
                                                              {5, "accept.relay_from"},
                                                              {6, "accept.relay_from"},
                                                              {8, "delivery.retry"},
                                                              {9, "delivery.retry"}});
}
