// Mail of strangers: what is found out about it, what is written on it, and when it is refused.
#include "smtpd/filter/authentication.h"

#include "support.h"

#include "mailauth/arc.h"
#include "mailauth/auth_results.h"
#include "tables/table.h"
#include "tests/support/zone_resolver.h"
#include "tests/unit/mailauth/dkim_support.h"

#include <catch2/catch.hpp>

#include <algorithm>
#include <functional>
#include <mutex>

using namespace postrider;
using namespace postrider::tests;
using smtpd::filter::AuthenticationCounters;
using smtpd::filter::AuthenticationSettings;
using smtpd::filter::Questioner;
using Dmarc = AuthenticationSettings::Dmarc;

namespace {

// Answers wait until they are let go; on the loop, but for held().
class SlowZones : public ZoneResolver {
 public:
  using ZoneResolver::ZoneResolver;
  std::atomic<bool> holds{false};
  std::size_t held() const { return held_; }
  void let_go() {
    holds = false;
    for (auto& each : std::exchange(waiting_, {}))
      each->set();
  }
  Task<dns::Answer<std::string>> txt(std::string name) override {
    if (holds) {
      const auto signal = std::make_shared<Signal>();
      waiting_.push_back(signal);
      ++held_;
      co_await signal->wait();
      --held_;
    }
    co_return co_await ZoneResolver::txt(std::move(name));
  }

 private:
  std::vector<std::shared_ptr<Signal>> waiting_;
  std::atomic<std::size_t> held_{0};
};

const mailauth::PrivateKey& key() {
  static const auto made = mailauth::PrivateKey::generate(mailauth::KeyType::ed25519).value();
  return made;
}

std::string zone() {
  const auto record = "TXT \"v=DKIM1; k=ed25519; p=" + key().public_data() + "\"\n";
  return "s._domainkey.good.test " + record + "s._domainkey.lists.test " + record +
         "good.test TXT \"v=spf1 ip4:127.0.0.1 -all\"\n"
         "mx.good.test TXT \"v=spf1 ip4:127.0.0.1 -all\"\n"
         "bad.test TXT \"v=spf1 -all\"\n"
         "_dmarc.good.test TXT \"v=DMARC1; p=reject\"\n"
         "_dmarc.strict.test TXT \"v=DMARC1; p=reject; sp=quarantine\"\n"
         "strict.test EXISTS\n"
         "sub.strict.test EXISTS\n"
         "_dmarc.mild.test TXT \"v=DMARC1; p=none\"\n"
         "mild.test EXISTS\n";
}

AuthenticationSettings all_checks(Dmarc dmarc = Dmarc::reject) {
  AuthenticationSettings settings;
  settings.spf = settings.dkim = settings.arc = true;
  settings.dmarc = dmarc;
  settings.authserv_id = "mx.us.test";
  settings.time_limit = std::chrono::minutes(2);
  return settings;
}

smtpd::TablePtr table(const std::string& entries) {
  const auto spec = tables::parse_spec("inline:{" + entries + "}");
  return tables::open_table(*spec, {}).value();
}

// A server that checks, and one session with it.
struct Checked {
  explicit Checked(const AuthenticationSettings& settings = all_checks(),
                   const std::string& more = {}, ServerSettings receiving = strict_settings())
      : dns(zone() + more) {
    receiving.filters.push_back(
        std::make_shared<const smtpd::filter::Authentication>(settings, counters));
    server.emplace(receiving, 1, nullptr, smtpd::ListenerSettings{"127.0.0.1:0"}, &dns);
    peer.emplace(server->port());
    REQUIRE(peer->reply().starts_with("220"));
    REQUIRE(peer->say("EHLO mx.good.test\r\n").starts_with("250"));
  }

  void begin(const std::string& sender = "ann@good.test",
             const std::vector<std::string>& to = {"user@us.test"}) {
    REQUIRE(peer->say("MAIL FROM:<" + sender + ">\r\n").starts_with("250"));
    for (const auto& each : to)
      REQUIRE(peer->say("RCPT TO:<" + each + ">\r\n").starts_with("250"));
    REQUIRE(peer->say("DATA\r\n").starts_with("354"));
  }
  std::string send(const std::string& content, const std::string& sender = "ann@good.test",
                   const std::vector<std::string>& to = {"user@us.test"}) {
    begin(sender, to);
    return peer->say(content + ".\r\n");
  }
  Kept last() {
    const auto kept = server->custody().kept();
    REQUIRE_FALSE(kept.empty());
    return kept.back();
  }
  // The results of the last message, as they are read; "spf=pass", "dmarc=fail".
  std::vector<std::string> results() {
    const auto trace = last().trace;
    constexpr std::string_view kName = "Authentication-Results:";
    REQUIRE(trace.starts_with(kName));
    const auto end = trace.find("\r\nReceived:");
    REQUIRE(end != std::string::npos);
    mail::HeaderScanner scanner(trace);
    mail::HeaderField field;
    REQUIRE(scanner.next(field));
    const auto read = mailauth::parse_authentication_results(field.value).value();
    CHECK(read.authserv_id == "mx.us.test");
    std::vector<std::string> out;
    for (const auto& each : read.results)
      out.push_back(each.method + "=" + each.result);
    return out;
  }

  AuthenticationCounters counters;
  SlowZones dns;
  std::optional<RunningServer> server;
  std::optional<Peer> peer;
};

using Lines = std::vector<std::string>;

const std::string kPlain =
    "From: Ann <ann@good.test>\r\nSubject: hello\r\nDate: Mon, 23 Nov 2026 13:34:44 +0000\r\n\r\n"
    "Hello.\r\n";

std::string from(const std::string& author) {
  return "From: Ann <" + author + ">\r\nSubject: hello\r\n\r\nHello.\r\n";
}

std::string signed_by(const std::string& domain, const std::string& message) {
  return mailauth::signed_message(message, {{domain, "s", key()}}, {}, SystemClock().now());
}

std::string sealed_by(const std::string& domain, const std::string& message,
                      const std::string& dmarc_for) {
  const mailauth::HeaderIndex header(message);
  mailauth::BodyHashes bodies;
  const auto body = bodies.add(mailauth::Form::relaxed);
  mailauth::feed(bodies, mailauth::body_of(message));
  mailauth::MethodResult result{"dmarc", "pass"};
  result.properties.push_back({"header", "from", dmarc_for});
  return mailauth::seal_arc(header, {}, bodies.digest(body), {domain, "s", key()}, domain, {result},
                            {}, SystemClock().now())
             .value() +
         message;
}

}  // namespace

TEST_CASE("sound mail gets one field with all results, above our Received", "[authentication]") {
  Checked checked;
  CHECK(checked.send(signed_by("good.test", kPlain)).starts_with("250"));
  CHECK(checked.results() == Lines{"spf=pass", "spf=pass", "dkim=pass", "dmarc=pass"});
  const auto trace = checked.last().trace;
  CHECK(trace.find("smtp.mailfrom=ann@good.test") != std::string::npos);
  CHECK(trace.find("smtp.helo=mx.good.test") != std::string::npos);
  CHECK(trace.find("header.d=good.test") != std::string::npos);
  CHECK(trace.find("header.from=good.test") != std::string::npos);
  const auto event = checked.server->log().wait_for("checked").at(0);
  CHECK(event.value("dmarc") == "pass");
  CHECK(event.value("disposition") == "none");
  CHECK(checked.counters.dmarc_passed == 1);
}

TEST_CASE("fields that bear our name are removed, whatever they look like", "[authentication]") {
  Checked checked;
  const auto forged =
      GENERATE("Authentication-Results: mx.us.test; dmarc=pass header.from=good.test\r\n",
               "AUTHENTICATION-RESULTS:\r\n MX.us.TEST 1;\r\n\tspf=pass\r\n",
               "Authentication-Results : (c) mx.us.test (d) ; none\r\n",
               "Authentication-Results: \"mx.us.test\"; dkim=pass\r\n",
               "Authentication-Results: mx.us.test. ; dkim=pass\r\n",
               "Authentication-Results: other.test 7; dkim=pass\r\n");
  const std::string foreign = "Authentication-Results: other.test; dkim=pass\r\n";
  CHECK(checked.send(std::string(forged) + foreign + "X-Postrider-Quarantine: x\r\n" + kPlain)
            .starts_with("250"));
  CHECK(checked.last().content == foreign + kPlain);
}

// N domains without a policy.
std::string many_authors(int count) {
  std::string text;
  for (int i = 0; i < count; ++i)
    text += "a@d" + std::to_string(i) + ".mild.test,\r\n ";
  return text;
}

TEST_CASE("more authors than are looked at count as a failure", "[authentication]") {
  const auto mode = GENERATE(Dmarc::report, Dmarc::quarantine, Dmarc::reject);
  Checked checked(all_checks(mode));
  const auto message = "From: " + many_authors(9) + "b@strict.test\r\nSubject: x\r\n\r\nx\r\n";
  const auto reply = checked.send(message);
  if (mode == Dmarc::reject) {
    CHECK(reply == "550 5.7.1 Rejected: From names more than 8 domains\r\n");
    CHECK(checked.server->custody().kept().empty());
  } else {
    CHECK(reply.starts_with("250"));
    CHECK(checked.results().back() == "dmarc=permerror");
    CHECK((checked.last().trace.find("\r\nX-Postrider-Quarantine:") != std::string::npos) ==
          (mode == Dmarc::quarantine));
  }
  CHECK(checked.server->log().wait_for("checked").at(0).value("dmarc") == "permerror");
  CHECK(checked.send("From: " + many_authors(7) + "b@mild.test\r\n\r\nx\r\n").starts_with("250"));
}

TEST_CASE("an author's own signature is verified, whatever stands above it", "[authentication]") {
  Checked checked;
  auto message = signed_by("good.test", kPlain);
  for (int i = 0; i < 8; ++i)
    message = signed_by("lists.test", message);
  CHECK(checked.send(message, "ann@bad.test").starts_with("250"));
  CHECK(checked.results().back() == "dmarc=pass");
}

TEST_CASE("nothing is refused for a signature that was not verified", "[authentication]") {
  Checked checked;
  auto message = signed_by("good.test", kPlain);
  auto broken = message.substr(0, message.find(kPlain));
  broken.insert(broken.find(" b=") + 3, "AAAA");
  for (int i = 0; i < 8; ++i)
    message.insert(0, broken);
  CHECK(checked.send(message, "ann@bad.test").starts_with("250"));
  CHECK(checked.results().back() == "dmarc=fail");
  CHECK(checked.last().trace.find("\r\nX-Postrider-Quarantine: DMARC (good.test)") !=
        std::string::npos);
  // Others' signatures excuse nothing.
  auto foreign = kPlain;
  for (int i = 0; i < 12; ++i)
    foreign = signed_by("lists.test", foreign);
  CHECK(checked.send(foreign, "ann@bad.test").starts_with("550"));
}

TEST_CASE("a failure of DMARC is treated as its domain and we wish", "[authentication]") {
  const auto mode = GENERATE(Dmarc::report, Dmarc::quarantine, Dmarc::reject);
  Checked checked(all_checks(mode));
  const auto is_marked = [&] {
    return checked.last().trace.find("\r\nX-Postrider-Quarantine: DMARC (") != std::string::npos;
  };
  const auto refused = checked.send(from("ann@strict.test"));
  if (mode == Dmarc::reject) {
    CHECK(refused == "550 5.7.1 Rejected by the DMARC policy of strict.test\r\n");
    CHECK(checked.counters.refused == 1);
    CHECK(checked.server->custody().kept().empty());
  } else {
    CHECK(refused.starts_with("250"));
    CHECK(checked.results().back() == "dmarc=fail");
    CHECK(is_marked() == (mode == Dmarc::quarantine));
  }
  CHECK(checked.send(from("ann@sub.strict.test")).starts_with("250"));
  CHECK(checked.results().back() == "dmarc=fail");
  CHECK(is_marked() == (mode != Dmarc::report));
  CHECK(checked.send(from("ann@mild.test")).starts_with("250"));
  CHECK(checked.results().back() == "dmarc=fail");
  CHECK_FALSE(is_marked());
  CHECK(checked.send(from("ann@unknown.test")).starts_with("250"));
  CHECK(checked.results().back() == "dmarc=none");
}

TEST_CASE("SPF alone refuses nothing", "[authentication]") {
  Checked checked;
  CHECK(checked.send(from("ann@mild.test"), "ann@bad.test").starts_with("250"));
  CHECK(checked.results().front() == "spf=fail");
}

TEST_CASE("exceptions are only reported on", "[authentication]") {
  auto settings = all_checks();
  settings.exceptions.push_back(
      table(GENERATE("127.0.0.1=ok", "strict.test=ok", ".test=ok", "sealer:lists.test=ok")));
  Checked checked(settings);
  CHECK(checked.send(sealed_by("lists.test", from("ann@strict.test"), "strict.test"))
            .starts_with("250"));
  CHECK(checked.results().back() == "dmarc=fail");
  CHECK(checked.last().trace.find("X-Postrider-Quarantine") == std::string::npos);
  CHECK(checked.counters.excepted == 1);
}

TEST_CASE("a forwarder's word counts only for what passed before it", "[authentication]") {
  auto settings = all_checks();
  settings.exceptions.push_back(table("sealer:lists.test=ok"));
  Checked checked(settings);
  const auto message = from("ann@strict.test");
  // For another author, by another sealer, and by ours but changed since.
  CHECK(checked.send(sealed_by("lists.test", message, "other.test")).starts_with("550"));
  CHECK(checked.send(sealed_by("good.test", message, "strict.test")).starts_with("550"));
  CHECK(checked.send(sealed_by("lists.test", message, "strict.test") + "more\r\n")
            .starts_with("550"));
}

TEST_CASE("a table of exceptions that does not answer refuses nothing for good",
          "[authentication]") {
  class NoTable : public tables::Table {
    Result<std::optional<tables::Entry>> find(std::string_view) const override {
      return Error(Errc::storage, "look up");
    }
  };
  auto settings = all_checks();
  settings.exceptions.push_back(std::make_shared<const NoTable>());
  unsigned told = 0;
  settings.reports = [&](const mailauth::PublishedPolicy&, mailauth::ReportRow) { ++told; };
  Checked checked(settings,
                  "_dmarc.asks.test TXT \"v=DMARC1; p=reject; rua=mailto:r@asks.test\"\n");
  CHECK(checked.send(from("ann@asks.test")).starts_with("451 4.7.1"));
  CHECK(told == 0);  // it comes again
  CHECK(checked.send(from("ann@mild.test")).starts_with("250"));
}

TEST_CASE("trouble with the DNS refuses nothing", "[authentication]") {
  Checked checked;
  const auto what = GENERATE("_dmarc.strict.test", "good.test", "s._domainkey.strict.test");
  checked.dns.servfail(what);
  CHECK(checked.send(signed_by("strict.test", from("ann@strict.test")))
            .starts_with(std::string(what) == "good.test" ? "550" : "250"));
  if (std::string(what) != "good.test")
    CHECK(checked.results().back() == "dmarc=temperror");
}

TEST_CASE("mail for postmaster alone is never refused by policy", "[authentication]") {
  Checked checked;
  CHECK(checked.send(from("ann@strict.test"), "ann@good.test", {"PostMaster@us.test"})
            .starts_with("250"));
  CHECK(checked.last().trace.find("X-Postrider-Quarantine") != std::string::npos);
  CHECK(
      checked.send(from("ann@strict.test"), "ann@good.test", {"postmaster@us.test", "user@us.test"})
          .starts_with("550"));
}

namespace {

// What was told of messages for reports: "asks.test: reject local_policy".
struct Told {
  std::function<void(const mailauth::PublishedPolicy&, mailauth::ReportRow)> sink() {
    return [this](const mailauth::PublishedPolicy& policy, mailauth::ReportRow row) {
      const std::lock_guard lock(mutex);
      lines.push_back(policy.domain + ": " + row.disposition +
                      (row.reason.empty() ? "" : " " + row.reason));
    };
  }
  Lines taken() {
    const std::lock_guard lock(mutex);
    return std::exchange(lines, {});
  }
  std::mutex mutex;
  Lines lines;
};

const std::string kAsking =
    "_dmarc.asks.test TXT \"v=DMARC1; p=reject; rua=mailto:r@asks.test\"\nasks.test EXISTS\n";

}  // namespace

TEST_CASE("what DMARC found is told once for each domain that asks for it", "[authentication]") {
  Told told;
  auto settings = all_checks();
  settings.reports = told.sink();
  settings.reports_from = "User@us.test";
  Checked checked(settings, kAsking);
  const std::vector<std::string> both = {"postmaster@us.test", "user@us.test"};
  CHECK(checked.send(from("ann@asks.test"), "ann@good.test", both).starts_with("550"));
  CHECK(told.taken() == Lines{"asks.test: reject"});
  CHECK(checked.send(from("ann@asks.test"), "ann@good.test", {"postmaster@us.test"})
            .starts_with("250"));
  CHECK(told.taken() == Lines{"asks.test: quarantine local_policy"});
  CHECK(checked.send(from("ann@strict.test"), "ann@good.test", both).starts_with("550"));
  CHECK(checked.send(kPlain, "ann@good.test", both).starts_with("250"));
  CHECK(told.taken().empty());
  // Answers to reports.
  CHECK(checked.send(from("ann@asks.test")).starts_with("550"));
  CHECK(told.taken().empty());
  checked.dns.servfail("s._domainkey.asks.test");
  CHECK(checked.send(signed_by("asks.test", from("ann@asks.test")), "ann@good.test", both)
            .starts_with("250"));
  CHECK(told.taken() == Lines{"asks.test: none other"});
}

TEST_CASE(
    "what a report is and proves to be is not told of, or two that report to each other never end",
    "[authentication]") {
  Told told;
  auto settings = all_checks();
  settings.reports = told.sink();
  Checked checked(settings, kAsking + "s._domainkey.asks.test TXT \"v=DKIM1; k=ed25519; p=" +
                                key().public_data() + "\"\n");
  const auto with_subject = [](const std::string& subject) {
    return "From: <dmarc@asks.test>\r\nSubject: " + subject + "\r\n\r\nHello.\r\n";
  };
  const std::string subject =
      "Report Domain: us.test\r\n\tSubmitter: asks.test\r\n\tReport-ID: <1@asks.test>";
  CHECK(checked.send(signed_by("asks.test", with_subject(subject))).starts_with("250"));
  CHECK(told.taken().empty());
  for (const auto& other :
       {std::string("hello"), "Re: " + subject, std::string("Report Domain: x")}) {
    CHECK(checked.send(signed_by("asks.test", with_subject(other))).starts_with("250"));
    CHECK(told.taken() == Lines{"asks.test: pass"});
  }
  CHECK(checked.send(with_subject(subject)).starts_with("550"));  // somebody else's
  CHECK(told.taken() == Lines{"asks.test: reject"});
}

TEST_CASE("exceptions are told with their reason", "[authentication]") {
  Told told;
  auto settings = all_checks();
  settings.reports = told.sink();
  const bool is_sealer = GENERATE(false, true);
  settings.exceptions.push_back(table(is_sealer ? "sealer:lists.test=ok" : "asks.test=ok"));
  Checked checked(settings, kAsking);
  CHECK(
      checked.send(sealed_by("lists.test", from("ann@asks.test"), "asks.test")).starts_with("250"));
  CHECK(told.taken() ==
        Lines{is_sealer ? "asks.test: none trusted_forwarder" : "asks.test: none local_policy"});
}

TEST_CASE("our own clients are not checked", "[authentication]") {
  Checked checked(all_checks(), {}, trusting_settings());
  const auto message =
      "Authentication-Results: mx.us.test; dkim=pass\r\n" + from("ann@strict.test");
  CHECK(checked.send(message).starts_with("250"));
  CHECK(checked.last().content == message);
  CHECK(checked.last().trace.starts_with("Received:"));
  CHECK(checked.dns.asked().empty());
}

TEST_CASE("the null sender is checked by its EHLO", "[authentication]") {
  Checked checked;
  CHECK(checked.send(from("ann@mx.good.test"), "").starts_with("250"));
  CHECK(checked.results() == Lines{"spf=pass", "dkim=none", "dmarc=pass"});
}

TEST_CASE("who has no author has no verdict of DMARC", "[authentication]") {
  Checked checked;
  CHECK(checked.send("Subject: hello\r\n\r\nHello.\r\n").starts_with("250"));
  CHECK(checked.results().back() == "dmarc=permerror");
}

TEST_CASE("what need not be asked is not waited for", "[authentication]") {
  AuthenticationSettings settings;
  settings.dkim = true;
  settings.authserv_id = "mx.us.test";
  Checked checked(settings);
  checked.dns.holds = true;
  CHECK(checked.send(kPlain).starts_with("250"));
  CHECK(checked.results() == Lines{"dkim=none"});
  CHECK(checked.server->server().counters().asked == 0);
}

TEST_CASE("SPF is asked for while the client goes on, and strangers who only try are not",
          "[authentication]") {
  Checked checked;
  checked.dns.holds = true;
  CHECK(checked.peer->say("MAIL FROM:<ann@good.test>\r\n").starts_with("250"));
  CHECK(checked.peer->say("RCPT TO:<nobody@us.test>\r\n").starts_with("550"));
  CHECK(checked.server->server().counters().asked == 0);
  CHECK(checked.peer->say("RCPT TO:<user@us.test>\r\n").starts_with("250"));
  CHECK(eventually([&] { return checked.dns.held() == 2; }));
  CHECK(checked.peer->say("RSET\r\n").starts_with("250"));
  checked.server->loop().post([&] { checked.dns.let_go(); });
  CHECK(checked.send(signed_by("good.test", kPlain)).starts_with("250"));
  CHECK(checked.results().back() == "dmarc=pass");
}

TEST_CASE("a client that leaves behind the dot leaves nothing", "[authentication]") {
  Checked checked;
  checked.dns.holds = true;
  checked.begin();
  checked.peer->send(signed_by("good.test", kPlain) + ".\r\n");
  REQUIRE(eventually([&] { return checked.dns.held() == 3; }));
  checked.peer->reset();
  CHECK(checked.server->log().wait_for("disconnected").at(0).value("reason") == "lost");
  CHECK(checked.server->custody().kept().empty());
  // What was asked may still be answered.
  checked.server->loop().post([&] { checked.dns.let_go(); });
  CHECK(eventually([&] { return checked.server->server().counters().asking == 0; }));
  CHECK(checked.server->custody().kept().empty());
}

TEST_CASE("what has no answer in time is temperror", "[authentication]") {
  auto settings = all_checks();
  settings.time_limit = std::chrono::seconds(1);
  Checked checked(settings);
  checked.dns.holds = true;
  CHECK(checked.send(signed_by("good.test", kPlain)).starts_with("250"));
  CHECK(checked.results() ==
        Lines{"spf=temperror", "spf=temperror", "dkim=temperror", "dmarc=temperror"});
  checked.server->loop().post([&] { checked.dns.let_go(); });
  CHECK(eventually([&] { return checked.server->server().counters().asking == 0; }));
}

TEST_CASE("a session keeps the rules that it began with", "[authentication]") {
  Checked checked;
  checked.dns.holds = true;
  checked.begin();
  checked.peer->send(from("ann@strict.test") + ".\r\n");
  REQUIRE(eventually([&] { return checked.dns.held() == 2; }));
  checked.server->configure(strict_settings());
  checked.server->loop().post([&] { checked.dns.let_go(); });
  CHECK(checked.peer->reply().starts_with("550 5.7.1"));
}

TEST_CASE("records that ask without end, and floods of signatures, are bounded",
          "[authentication]") {
  std::string chain;
  for (int i = 0; i < 1000; ++i)
    chain += "i" + std::to_string(i) + ".test TXT \"v=spf1 include:i" + std::to_string(i + 1) +
             ".test -all\"\n";
  Checked checked(all_checks(), chain);
  const auto plain = from("ann@mild.test");
  std::string message = plain;
  for (int i = 0; i < 50; ++i) {
    const auto one = signed_by("d" + std::to_string(i) + ".test", plain);
    message.insert(0, one, 0, one.size() - plain.size());
  }
  CHECK(checked.send(message, "ann@i0.test").starts_with("250"));
  CHECK(checked.results().front() == "spf=permerror");
  // SPF 11 and 1 for EHLO, 8 signatures, DMARC.
  CHECK(checked.server->server().counters().asked < 40);
}

TEST_CASE("open questions are bounded over all runs", "[authentication]") {
  Loop loop(0);
  NullLog log;
  SlowZones dns;
  dns.holds = true;
  Questioner questioner(loop, dns, log, {2, 3, 1});
  const auto ask_two = [](std::string name) -> mailauth::Asking<int> {
    std::vector<mailauth::Question> questions(2, {name, mailauth::Type::txt});
    const auto answers = co_await mailauth::ask_all(std::move(questions));
    int failed = 0;
    for (const auto& answer : answers)
      failed += answer.is_failure() ? 1 : 0;
    co_return failed;
  };
  std::vector<std::shared_ptr<Questioner::RunOf<int>>> runs;
  loop.post([&] {
    for (int i = 0; i < 7; ++i)
      runs.push_back(
          questioner.start(ask_two("n" + std::to_string(i) + ".test"), std::chrono::minutes(2)));
    // Two are asked, three wait in line, and what is beyond fails at once.
    CHECK(questioner.counts().open == 2);
    CHECK(questioner.counts().waiting == 3);
    CHECK(runs[5]->done());
    CHECK(runs[6]->done());
    CHECK(runs[6]->result() == 2);
    CHECK_FALSE(runs[4]->done());
    runs[4].reset();  // what nobody waits for is not asked
  });
  loop.post([&] { dns.let_go(); });
  loop.finish();
  loop.run();
  for (std::size_t i = 0; i < 4; ++i) {
    REQUIRE(runs[i]->done());
    CHECK(runs[i]->result() == 0);
  }
  CHECK(questioner.counts().open == 0);
  CHECK(questioner.counts().waiting == 0);
  CHECK(questioner.counts().asked == 8);
}
