// The senders of mail that is sent on to other systems, and the way back.
#include "delivery/local/addresses/forwarded_sender.h"

#include "messages.h"
#include "rig.h"

#include "delivery/job/job_outcome.h"
#include "delivery/local/addresses/preview.h"
#include "delivery/local/local_delivery.h"
#include "delivery/local/local_directory.h"
#include "delivery/local/onward.h"
#include "delivery/notices.h"
#include "mail/address.h"

#include <catch2/catch.hpp>

using namespace postrider;
using namespace postrider::delivery;
using Answer = mail::Directory::Answer;
using Seen = SenderRewriter::Seen;

namespace {

constexpr auto kDay = std::chrono::hours(24);

mailauth::SrsRules srs_rules(const std::string& domain, std::vector<std::string> keys = {"a key"}) {
  mailauth::SrsRules rules;
  rules.domain = domain;
  rules.keys = std::move(keys);
  return rules;
}

TablePtr table(const std::string& entries) {
  return *tables::open_table(*tables::parse_spec("inline:{" + entries + "}"), {});
}

// A machine that forwards; of us.test are its users.
struct Machine {
  HandClock clock;
  AddressRules rules;
  std::shared_ptr<const LocalAddresses> book;
  std::shared_ptr<const LocalDirectory> users;
  WatchedCustody custody{"/nonexistent"};

  explicit Machine(const std::string& aliases = {}, const std::string& virtuals = {},
                   const std::string& domain = "us.test") {
    rules.domains = {"us.test"};
    rules.hostname = "host.us.test";
    rules.forward = "";
    rules.catch_all = "daemon@us.test";
    if (!aliases.empty())
      rules.aliases = {table(aliases)};
    if (!virtuals.empty())
      rules.virtuals = {table(virtuals)};
    use(srs_rules(domain));
  }
  void use(const mailauth::SrsRules& keys) {
    rules.rewriter = std::make_shared<const SenderRewriter>(keys, clock);
    open();
  }
  void open() {
    book = std::make_shared<const LocalAddresses>(rules);
    users = std::make_shared<const LocalDirectory>(book, "maildir:/nonexistent/{user}/", clock);
  }
  std::string made(const std::string& sender) const { return *rules.rewriter->forward(sender); }

  LocalResult deliver(std::shared_ptr<mail::Message> message) {
    LocalDelivery delivery;
    delivery.message = std::move(message);
    delivery.mailbox = "maildir:/nonexistent/{user}/";
    delivery.hostname = "host.us.test";
    delivery.book = book;
    delivery.users = users;
    delivery.custody = &custody;
    delivery.minimum_uid = 1;
    delivery.now = clock.now();
    return deliver_locally(delivery);
  }
  // "sender>recipient recipient; ..." of what goes on, or the outcome's text.
  std::string sent_on(const std::string& to, const std::string& sender,
                      const std::string& protocol = "ESMTP") {
    auto message = make_message({to}, "Subject: x\r\n\r\n", sender);
    message->origin.protocol = protocol;
    const auto result = deliver(std::move(message));
    std::string out;
    for (const auto& one : result.onward) {
      out += (out.empty() ? "" : "; ") + one.message->envelope.sender + ">";
      for (const auto& recipient : one.message->envelope.recipients)
        out += " " + recipient.address;
    }
    return out.empty() ? to_string(result.outcome.status) + " " + result.outcome.text : out;
  }
  Answer at_rcpt(const std::string& address) const {
    const auto at = address.rfind('@');
    return users->lookup(mail::unquoted_local_part(address.substr(0, at)), address.substr(at + 1));
  }
};

}  // namespace

TEST_CASE("what is sent on to another system has a sender of ours", "[delivery][srs]") {
  Machine us("{ team = daemon, x@far.test, y@other.test }, out=x@far.test, back=z@virtual.test",
             "virtual.test=any, z@virtual.test=z@far.test");
  const auto ann = us.made("ann@a.test");
  REQUIRE(ann.starts_with("SRS0="));
  REQUIRE(ann.ends_with("=a.test=ann@us.test"));
  CHECK(us.sent_on("out@us.test", "ann@a.test") == ann + "> x@far.test");
  CHECK(us.sent_on("team@us.test", "ann@a.test") ==
        "ann@a.test> daemon@us.test; " + ann + "> x@far.test y@other.test");
  CHECK(us.sent_on("z@virtual.test", "ann@a.test") == ann + "> z@far.test");
  CHECK(us.sent_on("back@us.test", "ann@a.test") == ann + "> z@far.test");
}

TEST_CASE("a sender that may be used from here stays", "[delivery][srs]") {
  Machine us("out=x@far.test, list=x@far.test, owner-list=daemon", "virtual.test=any");
  CHECK(us.sent_on("out@us.test", "") == "> x@far.test");
  CHECK(us.sent_on("list@us.test", "ann@a.test") == "owner-list@us.test> x@far.test");
  for (const auto* sender : {"bob@us.test", "bob@US.test", "bob@virtual.test", "root@host.us.test"})
    CHECK(us.sent_on("out@us.test", sender) == sender + std::string("> x@far.test"));
  for (const auto* protocol : {"local", "ESMTPA", "ESMTPSA", "UTF8SMTPSA"})
    CHECK(us.sent_on("out@us.test", "ann@a.test", protocol) == "ann@a.test> x@far.test");
  for (const auto* protocol : {"SMTP", "ESMTPS", "UTF8SMTP"})
    CHECK(us.sent_on("out@us.test", "ann@a.test", protocol).starts_with("SRS0="));
  us.rules.rewriter = nullptr;
  us.open();
  CHECK(us.sent_on("out@us.test", "ann@a.test") == "ann@a.test> x@far.test");
}

TEST_CASE("a sender that cannot be rewritten stays, and the log says so", "[delivery][srs]") {
  Machine us("out=x@far.test");
  const auto sender = std::string(64, 'a') + "@" + std::string(60, 'b') + "." +
                      std::string(60, 'c') + "." + std::string(60, 'd') + ".test";
  auto message = make_message({"out@us.test"}, "Subject: x\r\n\r\n", sender);
  const auto result = us.deliver(message);
  REQUIRE(result.onward.size() == 1);
  CHECK(result.onward.front().message->envelope.sender == sender);
  REQUIRE(result.problems.size() == 1);
  CHECK(result.problems.front().find("stays as it is") != std::string::npos);
}

TEST_CASE("two forwarders in a row, and a failure's way back through both", "[delivery][srs]") {
  Machine first("out=x@second.test"), second("x=y@third.test"), third("y=z@fourth.test");
  for (auto* one : {&second, &third})
    one->rules.domains = {one == &second ? "second.test" : "third.test"};
  second.use(srs_rules("second.test", {"another key"}));
  third.use(srs_rules("third.test", {"a third key"}));
  const auto sender_of = [](const std::string& text) { return text.substr(0, text.find('>')); };
  const auto one = sender_of(first.sent_on("out@us.test", "ann@a.test"));
  const auto two = sender_of(second.sent_on("x@second.test", one));
  CHECK(two.starts_with("SRS1="));
  CHECK(two.find("=us.test==") != std::string::npos);
  const auto three = sender_of(third.sent_on("y@third.test", two));
  CHECK(three.starts_with("SRS1="));
  CHECK(three.size() == two.size() - std::string("second").size() + std::string("third").size());
  CHECK(third.sent_on(three, "") == "> " + one);  // SRS1 leads to the first, past the second
  CHECK(second.sent_on(two, "") == "> " + one);
  CHECK(first.sent_on(one, "") == "> ann@a.test");
  CHECK(first.sent_on(one, "someone@third.test") ==
        first.made("someone@third.test") + "> ann@a.test");
}

TEST_CASE("DSN parameters go on and come back as they are", "[delivery][srs]") {
  Machine us("out=x@far.test");
  auto message = make_message({"out@us.test"}, "Subject: x\r\n\r\n", "ann@a.test");
  message->envelope.envelope_id = "QQ314159";
  message->envelope.ret = mail::Return::headers;
  message->envelope.recipients.front().original_recipient = "rfc822;first@us.test";
  message->envelope.recipients.front().notify.bits = mail::Notify::kFailure | mail::Notify::kDelay;
  const auto result = us.deliver(message);
  REQUIRE(result.onward.size() == 1);
  const auto& envelope = result.onward.front().message->envelope;
  CHECK(envelope.sender == us.made("ann@a.test"));
  CHECK(envelope.envelope_id == "QQ314159");
  CHECK(envelope.ret == mail::Return::headers);
  CHECK(envelope.recipients.front().original_recipient == "rfc822;first@us.test");
  CHECK(envelope.recipients.front().notify.bits == (mail::Notify::kFailure | mail::Notify::kDelay));
}

TEST_CASE("I18: what nobody here made is nobody's address, not even the catch-all's",
          "[delivery][srs][attacks]") {
  Machine us("out=x@far.test, srs0-team=daemon");
  const auto good = us.made("ann@a.test");
  CHECK(us.at_rcpt(good) == Answer::known);
  CHECK(us.at_rcpt(ascii_lower(good)) == Answer::known);
  auto other = good, domain = good;
  other.replace(other.find("ann@"), 4, "bob@");
  domain.replace(domain.find("a.test"), 6, "b.test");
  for (const auto& forged :
       {other, domain, std::string("SRS0=AAAA=AA=a.test=ann@us.test"),
        std::string("SRS1=AAAA=far.test==AAAA=AA=a.test=ann@us.test"),
        std::string("SRS0==AA=a.test=ann@us.test"), std::string("SRS0+AAAA=AA=a.test=@us.test")}) {
    CAPTURE(forged);
    const bool is_name = forged.find("SRS0==") == 0;  // not written as one: the catch-all's
    CHECK(us.at_rcpt(forged) == (is_name ? Answer::known : Answer::unknown));
    if (!is_name)
      CHECK(us.sent_on(forged, "").starts_with("5.1.1"));
  }
  CHECK(us.at_rcpt("nobody-of-that-name@us.test") == Answer::known);  // there is a catch-all
  CHECK(us.at_rcpt("srs0-team@us.test") == Answer::known);
  us.rules.catch_all.clear();
  us.open();
  CHECK(us.at_rcpt("SRS0=x@us.test") == Answer::unknown);
  auto elsewhere = good;
  elsewhere.replace(elsewhere.rfind('@'), std::string::npos, "@far.test");
  CHECK_FALSE(us.users->is_local_domain("far.test"));
  CHECK(us.sent_on(good, "") == "> ann@a.test");
}

TEST_CASE("I18: an address is taken for 21 days, and what was taken may wait",
          "[delivery][srs][attacks]") {
  Machine us;
  const auto address = us.made("ann@a.test");
  us.clock.advance(kDay * 21);
  CHECK(us.at_rcpt(address) == Answer::known);
  us.clock.advance(kDay * 2);
  CHECK(us.at_rcpt(address) == Answer::unknown);
  OwnPerformer performer;
  const auto said = preview(*us.book, *us.users, performer, "", 1, address);
  CHECK(said.conclusion.find("is refused: ") == 0);
  CHECK(said.conclusion.find("too old") != std::string::npos);
  CHECK(us.sent_on(address, "") == "> ann@a.test");
  us.clock.advance(kDay * 80);
  CHECK(us.sent_on(address, "").starts_with("5.1.1"));
}

TEST_CASE("a key that is no longer the first still verifies", "[delivery][srs]") {
  Machine us;
  const auto old = us.made("ann@a.test");
  us.use(srs_rules("us.test", {"a new key", "a key"}));
  CHECK(us.made("ann@a.test") != old);
  CHECK(us.at_rcpt(old) == Answer::known);
  us.use(srs_rules("us.test", {"a new key"}));
  CHECK(us.at_rcpt(old) == Answer::unknown);
}

TEST_CASE("a domain for rewritten senders alone holds nothing else", "[delivery][srs]") {
  Machine us("ann=daemon", "", "srs.us.test");
  CHECK(us.users->is_local_domain("srs.us.test"));
  CHECK(us.at_rcpt(us.made("ann@a.test")) == Answer::known);
  CHECK(us.at_rcpt("ann@srs.us.test") == Answer::unknown);
  CHECK(us.at_rcpt("postmaster@srs.us.test") == Answer::known);
  CHECK(us.sent_on(us.made("ann@a.test"), "") == "> ann@a.test");
}

TEST_CASE("a bounce that loops ends", "[delivery][srs]") {
  Machine us("out=x@far.test");
  const auto address = us.made("ann@a.test");
  auto message = make_message({address}, "Subject: x\r\n\r\n", "");
  message->content.trace = "Delivered-To: " + address + "\r\n" + message->content.trace;
  const auto result = us.deliver(message);
  CHECK(result.outcome.verdict == mail::Verdict::bounce);
  CHECK(result.outcome.status == mail::EnhancedCode{5, 4, 6});
}

TEST_CASE("a notice about forwarded mail goes straight to its first sender", "[delivery][srs]") {
  Machine us;
  for (const auto& [sender, to] : std::vector<std::pair<std::string, std::string>>{
           {us.made("ann@a.test"), "ann@a.test"},
           {"SRS0=AAAA=AA=a.test=ann@us.test", "SRS0=AAAA=AA=a.test=ann@us.test"},
           {"SRS0=AAAA=AA=a.test=ann@far.test", "SRS0=AAAA=AA=a.test=ann@far.test"},
           {"ann@a.test", "ann@a.test"}}) {
    queue::Lease lease;
    lease.message = make_message({"x@far.test"}, "Subject: x\r\n\r\n", sender);
    queue::Record record;
    record.results.push_back(
        {0, decide(mail::Verdict::bounce, mail::Stage::rcpt, {5, 1, 1}, "no such user"), {}});
    DeliverySettings settings;
    settings.own.hostname = "host.us.test";
    settings.local.book = us.book;
    NullLog log;
    SystemRandom random;
    DoubleBounces double_bounces;
    add_notices(lease, *lease.message->content.bytes, record,
                {settings, us.custody, log, random, us.clock.now(), double_bounces});
    REQUIRE(record.notices.size() == 1);
    const auto& notice = *record.notices.front().message;
    CHECK(notice.envelope.sender.empty());
    REQUIRE(notice.envelope.recipients.size() == 1);
    CHECK(notice.envelope.recipients.front().address == to);
  }
}
