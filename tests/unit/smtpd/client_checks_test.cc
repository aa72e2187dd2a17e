// Greylisting by a hand clock, and the answers of policy services.
#include "smtpd/filter/greylist.h"
#include "smtpd/filter/policy_protocol.h"

#include <catch2/catch.hpp>

using namespace postrider;
using namespace postrider::smtpd::filter;
using namespace std::chrono_literals;
using Kind = policy::Action::Kind;

namespace {

const TimePoint kStart{Duration(1'700'000'000'000)};

IpAddress address(const char* text) {
  return *IpAddress::parse(text);
}

Greylist::Rules short_rules() {
  Greylist::Rules rules;
  rules.delay = 60s;
  rules.window = 1h;
  rules.lifetime = 24h;
  rules.successes = 2;
  return rules;
}

}  // namespace

TEST_CASE("greylist: who comes again after the delay passes, and is known from then on",
          "[greylist]") {
  Greylist list(short_rules());
  const auto check = [&](const char* client, const char* sender, Duration after) {
    return list.check(address(client), sender, "b@us.test", kStart + after);
  };
  CHECK(check("192.0.2.1", "a@x.test", 0s) == 60s);
  CHECK(check("192.0.2.1", "a@x.test", 59s) == 1s);
  CHECK(check("192.0.2.77", "a@x.test", 60s) == 0s);  // another host of its network
  CHECK(check("192.0.2.1", "a@x.test", 23h) == 0s);
  CHECK(check("192.0.2.1", "a@x.test", 46h) == 0s);
  CHECK(check("192.0.2.1", "a@x.test", 71h) == 60s);  // forgotten
  CHECK(check("192.0.3.1", "a@x.test", 71h) == 60s);
  CHECK(check("2001:db8::1", "a@x.test", 0s) == 60s);
  CHECK(check("2001:db8::2:1", "a@x.test", 61s) == 0s);
}

TEST_CASE("greylist: too late is as if never", "[greylist]") {
  Greylist list(short_rules());
  const auto client = address("192.0.2.1");
  CHECK(list.check(client, "a@x.test", "b@us.test", kStart) == 60s);
  CHECK(list.check(client, "a@x.test", "b@us.test", kStart + 61min) == 60s);
  CHECK(list.check(client, "a@x.test", "b@us.test", kStart + 63min) == 0s);
  // A clock that was set back.
  CHECK(list.check(client, "c@x.test", "b@us.test", kStart + 63min) == 60s);
  CHECK(list.check(client, "c@x.test", "b@us.test", kStart) == 60s);
}

TEST_CASE("greylist: a network that comes again often enough waits no more", "[greylist]") {
  Greylist list(short_rules());
  const auto client = address("192.0.2.1");
  for (const char* sender : {"a@x.test", "c@x.test"}) {
    CHECK(list.check(client, sender, "b@us.test", kStart) == 60s);
    CHECK(list.check(client, sender, "b@us.test", kStart + 60s) == 0s);
  }
  CHECK(list.check(client, "new@x.test", "b@us.test", kStart + 61s) == 0s);
  CHECK(list.check(address("192.0.3.1"), "new@x.test", "b@us.test", kStart + 61s) == 60s);
}

TEST_CASE("greylist: senders that differ with each message are one", "[greylist]") {
  Greylist list(short_rules());
  const auto client = address("192.0.2.1");
  CHECK(list.check(client, "bounce-1234=b=us.test@x.test", "b@us.test", kStart) == 60s);
  CHECK(list.check(client, "bounce-99=b=us.test@X.test", "B@us.test", kStart + 60s) == 0s);
}

TEST_CASE("greylist: its memory is bounded, and no network takes the places of others",
          "[greylist]") {
  auto rules = short_rules();
  rules.entries = 100;
  rules.of_network = 20;
  Greylist list(rules);
  const auto good = address("198.51.100.1");
  CHECK(list.check(good, "a@x.test", "b@us.test", kStart) == 60s);
  for (int i = 0; i < 1000; ++i) {
    const auto recipient = "u" + std::to_string(i) + "@us.test";
    CHECK(list.check(address("192.0.2.1"), "a@x.test", recipient, kStart) == 60s);
  }
  CHECK(list.size() == 21);
  CHECK(list.check(good, "a@x.test", "b@us.test", kStart + 60s) == 0s);
  for (int i = 0; i < 1000; ++i) {
    const auto client = "10." + std::to_string(i / 250) + "." + std::to_string(i % 250) + ".1";
    CHECK(list.check(address(client.c_str()), "a@x.test", "b@us.test", kStart) == 60s);
    CHECK(list.size() <= 100);
  }
  // What is known stays.
  CHECK(list.check(good, "a@x.test", "b@us.test", kStart + 2min) == 0s);
}

TEST_CASE("greylist: it survives a restart, and lines that are none do no harm", "[greylist]") {
  Greylist list(short_rules());
  const auto client = address("192.0.2.1");
  CHECK(list.check(client, "known@x.test", "b@us.test", kStart) == 60s);
  CHECK(list.check(client, "known@x.test", "b@us.test", kStart + 60s) == 0s);
  CHECK(list.check(client, "waits@x.test", "b@us.test", kStart + 60s) == 60s);
  Greylist again(short_rules());
  again.restore("nonsense\nk 1 2\nw zz 1 2 3 -\n" + list.snapshot() + "k \n\n", kStart + 61s);
  CHECK(again.size() == list.size());
  CHECK(again.snapshot() == list.snapshot());
  CHECK(again.check(client, "known@x.test", "b@us.test", kStart + 62s) == 0s);
  CHECK(again.check(client, "waits@x.test", "b@us.test", kStart + 90s) == 30s);
  CHECK(again.check(client, "waits@x.test", "b@us.test", kStart + 120s) == 0s);
}

TEST_CASE("policy: a question is lines, and no value ends one", "[policy]") {
  CHECK(policy::encode_request({{"request", "smtpd_access_policy"}, {"helo_name", "a\nb=c\r"}}) ==
        "request=smtpd_access_policy\nhelo_name=ab=c\n\n");
}

TEST_CASE("policy: an answer comes in any pieces, and is limited", "[policy]") {
  policy::AnswerReader reader;
  CHECK_FALSE(reader.feed("action=")->has_value());
  CHECK_FALSE(reader.feed("DUNNO\n")->has_value());
  CHECK(**reader.feed("\n") == "DUNNO");
  CHECK(**policy::AnswerReader().feed("other=1\naction=OK\nmore=2\n\n") == "OK");
  CHECK_FALSE(policy::AnswerReader().feed("\n").has_value());
  CHECK_FALSE(policy::AnswerReader().feed("other=1\n\n").has_value());
  CHECK_FALSE(policy::AnswerReader().feed("nonsense\naction=OK\n\n").has_value());
  CHECK_FALSE(policy::AnswerReader().feed("action=OK\n\naction=OK\n\n").has_value());
  CHECK_FALSE(policy::AnswerReader().feed(std::string(20'000, 'x')).has_value());
}

TEST_CASE("policy: what each action means", "[policy]") {
  const auto reply = [](std::string_view text, Kind kind = Kind::refuse) {
    const auto action = policy::parse_action(text);
    CHECK(action.kind == kind);
    return action.reply.str();
  };
  CHECK(reply("REJECT") == "554 5.7.1 Access denied");
  CHECK(reply("reject 5.7.9 No\x01") == "554 5.7.9 No\\x01");
  CHECK(reply("DEFER_IF_PERMIT Greylisted", Kind::defer_if_permit) == "450 4.7.1 Greylisted");
  CHECK(reply("defer_if_reject", Kind::defer_if_reject) == "450 4.7.1 Try again later");
  CHECK(reply("defer 4.2.0 Later") == "450 4.2.0 Later");
  CHECK(reply("451") == "451 4.7.1 Access denied");
  CHECK(reply("550 5.1.1 Gone") == "550 5.1.1 Gone");
  CHECK(reply("450 5.1.1 Gone") == "450 4.7.1 5.1.1 Gone");  // a class that is another's
  const struct {
    const char* said;
    Kind kind;
    const char* text;
  } cases[] = {{"", Kind::none, ""},
               {"DUNNO", Kind::none, ""},
               {"OK", Kind::none, ""},
               {"ok", Kind::none, ""},
               {"permit", Kind::none, ""},
               {"1234", Kind::none, ""},
               {"250", Kind::none, ""},
               {"WARN odd", Kind::note, "WARN odd"},
               {"INFO x", Kind::note, "INFO x"},
               {"PREPEND X-Greylist: delayed 5 s", Kind::prepend, "X-Greylist: delayed 5 s"},
               {"HOLD", Kind::hold, ""},
               {"HOLD odd", Kind::hold, "odd"},
               {"DISCARD x", Kind::discard, "x"},
               {"REDIRECT a@b.test", Kind::redirect, "a@b.test"},
               {"redirect <a@b.test>", Kind::redirect, "a@b.test"},
               {"BCC a@b.test", Kind::bcc, "a@b.test"}};
  for (const auto& c : cases) {
    INFO(c.said);
    const auto action = policy::parse_action(c.said);
    CHECK(action.kind == c.kind);
    CHECK(action.text == c.text);
  }
  // What is not performed is never passed over, and says what helps.
  const struct {
    const char* said;
    const char* helps;
  } others[] = {{"250 fine", "postrider.toml(5)"},
                {"354 ok", "postrider.toml(5)"},
                {"600 x", "postrider.toml(5)"},
                {"45 x", "postrider.toml(5)"},
                {"NONSENSE", "postrider.toml(5)"},
                {"STRIP", "postrider.toml(5)"},
                {"reject_unauth_destination", "postrider.toml(5)"},
                {"FILTER smtp:[127.0.0.1]:10025", "milter.address"},
                {"filter", "milter.address"},
                {"PREPEND", "X-Checked: yes"},
                {"PREPEND no field", "X-Checked: yes"},
                {"REDIRECT", "user@example.org"},
                {"REDIRECT ann", "user@example.org"},
                {"REDIRECT a@b.test c@d.test", "user@example.org"},
                {"BCC ", "user@example.org"},
                {"BCC a@", "user@example.org"}};
  for (const auto& c : others) {
    INFO(c.said);
    const auto action = policy::parse_action(c.said);
    CHECK(action.kind == Kind::not_done);
    CHECK(action.text.find(c.helps) != std::string::npos);
  }
}
