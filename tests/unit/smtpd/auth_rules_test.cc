#include "base/base64.h"
#include "base/digest.h"
#include "base/file_at_rest.h"
#include "base/text.h"
#include "smtpd/auth/challenges.h"
#include "smtpd/auth/login_limiter.h"
#include "smtpd/auth/passwords.h"
#include "smtpd/auth/sender_map.h"
#include "smtpd/auth/sending_quota.h"
#include "smtpd/auth/tables.h"
#include "smtpd/auth/user_file.h"
#include "tests/unit/base/temporary_folder.h"

#include <catch2/catch.hpp>

#include <ctime>
#include <filesystem>
#include <fstream>
#include <set>

using namespace postrider;
using namespace postrider::smtpd::auth;
using std::chrono::hours;
using std::chrono::minutes;
using Verdict = LoginLimiter::Verdict;

namespace {

IpAddress ip(std::string_view text) {
  return *IpAddress::parse(text);
}

const SteadyTime kStart = SteadyTime() + hours(1000);
const TimePoint kNow = TimePoint(hours(490000));

void log_in(LoginLimiter& guard, const IpAddress& client, std::uint64_t secret = 0) {
  auto made = guard.begin(client, "anna", secret, kStart);
  CHECK(made == Verdict::may_try);
  guard.succeeded(made, "anna", kStart);
}

}  // namespace

TEST_CASE("X11 tries are limited by client address", "[smtpd][auth]") {
  LoginLimiter guard({5, 1000, hours(1)});
  int let = 0;
  for (int i = 0; i < 100; ++i)
    let += guard.begin(ip("192.0.2.1"), "user" + std::to_string(i), 0, kStart) == Verdict::may_try;
  CHECK(let == 5);
  CHECK(guard.begin(ip("192.0.2.2"), "user", 0, kStart) == Verdict::may_try);
  // One in twelve minutes comes back.
  CHECK(guard.begin(ip("192.0.2.1"), "user", 0, kStart + minutes(11)) == Verdict::client_exhausted);
  CHECK(guard.begin(ip("192.0.2.1"), "user", 0, kStart + minutes(24)) == Verdict::may_try);
  // One customer's /64 is one client.
  for (int i = 0; i < 5; ++i)
    (void)guard.begin(ip("2001:db8::" + std::to_string(i)), "user", 0, kStart);
  CHECK(guard.begin(ip("2001:db8::ffff"), "user", 0, kStart) == Verdict::client_exhausted);
  CHECK(guard.begin(ip("2001:db8:0:1::1"), "user", 0, kStart) == Verdict::may_try);
}

TEST_CASE("X11 tries are limited by account, but never for its owner", "[smtpd][auth]") {
  LoginLimiter guard({5, 10, hours(1)});
  const auto home = ip("198.51.100.7");
  log_in(guard, home);
  int let = 0;
  for (int i = 0; i < 200; ++i)
    let += guard.begin(ip("203.0.113." + std::to_string(i)), "anna", 0, kStart) == Verdict::may_try;
  CHECK(let == 10);
  for (int i = 0; i < 50; ++i) {
    log_in(guard, home);
  }
  // An attacker behind the same address does not lock her out either.
  for (int i = 0; i < 50; ++i)
    (void)guard.begin(home, "bert", 0, kStart);
  CHECK(guard.begin(home, "bert", 0, kStart) == Verdict::client_exhausted);
  CHECK(guard.begin(home, "anna", 0, kStart) == Verdict::may_try);
}

TEST_CASE("X11 an address has few answers that nobody could tell", "[smtpd][auth]") {
  LoginLimiter guard({5, 1000, hours(1)});
  const auto home = ip("198.51.100.7");
  log_in(guard, home, 1);
  const auto tries_let = [&](const IpAddress& client, const std::string& user) {
    int let = 0;
    for (std::uint64_t secret = 100; secret < 300; ++secret) {
      auto made = guard.begin(client, user, secret, kStart);
      if (!(made == Verdict::may_try))
        break;
      ++let;
      guard.not_judged(made, kStart);
    }
    return let;
  };
  // As often for nothing as it says, and then at its own cost.
  CHECK(tries_let(ip("192.0.2.1"), "bert") == 5 * LoginLimiter::kMoreNotJudged + 5);
  CHECK(tries_let(ip("192.0.2.2"), "bert") == 5 * LoginLimiter::kMoreNotJudged + 5);
  CHECK(tries_let(home, "anna") == 5 * LoginLimiter::kMoreAtHome + 5);
  CHECK(guard.begin(ip("192.0.2.3"), "bert", 0, kStart) == Verdict::may_try);
  CHECK(guard.begin(home, "anna", 1, kStart) == Verdict::may_try);  // hers, once all is well again
}

TEST_CASE("a forgotten telephone with the old password does not lock its owner out",
          "[smtpd][auth]") {
  LoginLimiter guard({3, 10, hours(1)});
  const auto home = ip("198.51.100.7");
  log_in(guard, home);
  for (int i = 0; i < 100; ++i)
    CHECK(guard.begin(home, "anna", 77, kStart) == Verdict::may_try);
  CHECK(guard.begin(home, "anna", 78, kStart) == Verdict::may_try);
  for (std::uint64_t tag = 100; tag < 110; ++tag)  // guessing is not that
    (void)guard.begin(home, "anna", tag, kStart);
  CHECK(guard.begin(home, "anna", 111, kStart) == Verdict::client_exhausted);
}

TEST_CASE("an owner behind the attacker's address still gets in from there", "[smtpd][auth]") {
  constexpr std::uint64_t kRight = 4711;
  LoginLimiter guard({5, 10, hours(1)});
  const auto home = ip("198.51.100.7");
  log_in(guard, home, kRight);
  int judged = 0, refused = 0;
  for (std::uint64_t guess = 1; guess <= 30; ++guess)
    (guard.begin(home, "anna", guess, kStart) == Verdict::may_try ? judged : refused)++;
  CHECK(judged == 5);
  CHECK(refused == 25);
  SECTION("with the password that was right there last") {
    log_in(guard, home, kRight);
  }
  SECTION("by SCRAM, which shows no password") {
    log_in(guard, home);
    for (std::uint64_t guess = 100; guess <= 110; ++guess)
      (void)guard.begin(home, "anna", guess, kStart);
    CHECK(guard.begin(home, "anna", kRight, kStart) == Verdict::may_try);  // still remembered
  }
  SECTION("but guesses are bounded all the same, whatever they are answered") {
    int more = 0;
    for (int i = 0; i < 1000; ++i)
      more += guard.begin(home, "anna", 0, kStart) == Verdict::may_try;
    CHECK(more == 5 * int(LoginLimiter::kMoreAtHome) - 25);
    CHECK(guard.begin(home, "anna", kRight, kStart) == Verdict::client_exhausted);
    CHECK(guard.begin(home, "anna", kRight, kStart + hours(1)) == Verdict::may_try);
  }
  SECTION("and elsewhere the password opens nothing more") {
    const auto other = ip("203.0.113.1");
    for (std::uint64_t guess = 1; guess <= 5; ++guess)
      (void)guard.begin(other, "anna", guess, kStart);
    CHECK(guard.begin(other, "anna", kRight, kStart) == Verdict::client_exhausted);
  }
}

TEST_CASE("a try that is broken off is paid by a strange address, and by no account",
          "[smtpd][auth]") {
  LoginLimiter guard({3, 5, hours(1)});
  const auto home = ip("198.51.100.7");
  log_in(guard, home);
  for (int stranger = 1; stranger <= 10; ++stranger) {
    const auto from = ip("203.0.113." + std::to_string(stranger));
    for (int i = 0; i < 3; ++i) {
      auto made = guard.begin(from, i % 2 == 0 ? "anna" : "ghost", 0, kStart);
      REQUIRE(made == Verdict::may_try);
      guard.broken_off(made, kStart);
      guard.broken_off(made, kStart);  // once
    }
    auto refused = guard.begin(from, "ghost", 0, kStart);
    CHECK(refused == Verdict::client_exhausted);
    guard.broken_off(refused, kStart);
    CHECK(guard.begin(from, "ghost", 0, kStart) == Verdict::client_exhausted);
  }
  CHECK(guard.begin(ip("203.0.113.99"), "anna", 0, kStart) == Verdict::may_try);
  for (int i = 0; i < 100; ++i) {
    auto made = guard.begin(home, "anna", 0, kStart);
    REQUIRE(made == Verdict::may_try);
    guard.broken_off(made, kStart);
  }
}

namespace {

std::string server_first(std::size_t nonce, std::string_view salt, int iterations) {
  return "r=abc" + std::string(nonce, 'x') + ",s=" + encode_base64(salt) +
         ",i=" + std::to_string(iterations);
}

Challenges with_secret() {
  Challenges challenges;
  challenges.set_secret("kept");
  return challenges;
}

const std::string kFirst = "n,,n=whoever,r=abc";

// What somebody sees of it: sizes, iterations, and the salt.
struct Seen {
  std::size_t nonce, salt_size;
  std::string iterations, salt;
};
Seen look(const Challenges& challenges, const std::string& name) {
  const auto text = challenges.make_up(name, kFirst);
  const auto fields = split(text, ',');
  REQUIRE(fields.size() == 3);
  REQUIRE(fields[0].starts_with("r=abc"));
  const auto salt = decode_base64(fields[1].substr(2));
  REQUIRE(salt);
  return {fields[0].size() - 5, salt->size(), std::string(fields[2]), *salt};
}

}  // namespace

TEST_CASE("made-up challenges look like those of another server", "[smtpd][auth]") {
  auto challenges = with_secret();
  SECTION("before any has been seen, like Dovecot's") {
    CHECK(look(challenges, "ghost").nonce == 64);
    CHECK(look(challenges, "ghost").salt_size == 16);
    CHECK(look(challenges, "ghost").iterations == "i=4096");
    CHECK(look(challenges, "ghost").salt == look(challenges, "ghost").salt);
    CHECK(look(challenges, "ghost").salt != look(challenges, "spook").salt);
    CHECK(challenges.make_up("ghost", kFirst) != challenges.make_up("ghost", kFirst));  // the nonce
  }
  SECTION("with the characters of Dovecot's nonces") {
    std::string drawn;
    for (int i = 0; i < 200; ++i) {
      const auto made = challenges.make_up("ghost", kFirst);
      drawn += made.substr(0, made.find(",s="));
    }
    for (char c = '!'; c <= '~'; ++c) {
      INFO(c);
      CHECK((drawn.find(c) == drawn.npos) == (c == ','));
    }
  }
  SECTION("each form as often as accounts have it, and a name's stays") {
    for (int i = 0; i < 100; ++i)
      challenges.learn("user" + std::to_string(i), kFirst,
                       server_first(40, std::string(i < 25 ? 70 : 24, 's'), i < 25 ? 9000 : 8192),
                       Duration(1));
    int rare = 0;
    for (int i = 0; i < 400; ++i) {
      const auto name = "ghost" + std::to_string(i);
      const auto seen = look(challenges, name);
      CHECK(seen.nonce == 40);
      CHECK(seen.salt_size == (seen.iterations == "i=9000" ? 70 : 24));
      CHECK(seen.salt == look(challenges, name).salt);
      rare += seen.iterations == "i=9000";
    }
    CHECK(rare > 40);
    CHECK(rare < 190);
    auto later = with_secret();
    later.restore(challenges.save());
    for (int i = 0; i < 50; ++i) {
      const auto name = "ghost" + std::to_string(i);
      CHECK(look(later, name).iterations == look(challenges, name).iterations);
      CHECK(look(later, name).salt == look(challenges, name).salt);
    }
  }
  SECTION("with another salt each time, where users get that") {
    CHECK(
        challenges.learn("anna", kFirst, server_first(64, "0123456789abcdef", 4096), Duration(1)));
    CHECK(
        challenges.learn("anna", kFirst, server_first(64, "fedcba9876543210", 4096), Duration(1)));
    CHECK_FALSE(
        challenges.learn("anna", kFirst, server_first(64, "0000000000000000", 4096), Duration(1)));
    CHECK(look(challenges, "ghost").salt != look(challenges, "ghost").salt);
    auto later = with_secret();
    later.restore(challenges.save());
    CHECK(look(later, "ghost").salt != look(later, "ghost").salt);
  }
  SECTION("and none where no server would send one") {
    for (const char* first : {"", "n,,n=a", "n,,r=abc", "n,,n=a,x=abc", "n,,m=x,n=a,r=abc"})
      CHECK(challenges.make_up("ghost", first).empty());
  }
}

TEST_CASE("made-up salts follow the spelling of names as users' do", "[smtpd][auth]") {
  // How a server sees a name; the salt of a user is made of that.
  enum class Format { whole, before_at, with_realm };
  const auto format = GENERATE(Format::whole, Format::before_at, Format::with_realm);
  const auto account = [format](std::string name) {
    name = ascii_lower(name);
    if (format == Format::before_at)
      name.resize(std::min(name.find('@'), name.size()));
    if (format == Format::with_realm && name.find('@') == name.npos)
      name += "@a.example";
    return name;
  };
  const std::set<std::string> users = {account("anna@a.example"), account("bert"),
                                       account("cleo@b.example")};
  const auto challenge = [&](const std::string& name) {
    return users.contains(account(name))
               ? server_first(64, sha256(account(name)).substr(0, 16), 4096)
               : std::string();
  };
  auto challenges = with_secret();
  // The way of service_exchange.cc.
  SteadyTime now{};
  for (const char* name : {"bert", "cleo@b.example", "Anna@a.example", "anna@a.example", "bert"}) {
    challenges.learn(name, kFirst, challenge(name), Duration(1));
    const auto spelling = challenges.other_spelling(name, now);
    if (!spelling.empty())
      challenges.learn_spelling(name, spelling, challenge(spelling));
  }
  const auto check = [&](const Challenges& made_by) {
    const std::vector<std::string> after = {"", "@a.example", "@b.example", "@A.example", "@"};
    for (const std::string& one : after)
      for (const std::string& other : after) {
        INFO(one << " " << other);
        const auto salt = look(made_by, "ghost" + one).salt;
        CHECK((salt == look(made_by, "Ghost" + other).salt) ==
              (account("ghost" + one) == account("ghost" + other)));
        CHECK(salt != look(made_by, "spook" + other).salt);
      }
    // A name that only looks like it is another to the server.
    CHECK(look(made_by, "ghost").salt != look(made_by, "\xef\xbd\x87host").salt);
  };
  check(challenges);
  auto later = with_secret();
  later.restore(challenges.save());
  check(later);
}

TEST_CASE("how a server writes names is learned from names that nobody has", "[smtpd][auth]") {
  struct Server {
    std::string realm, from, to;
    char format;  // u, Lu as 'l', n, Ln as 'm', "%Ln@x.example" as 'x'
    std::string write(std::string name) const {
      if (!realm.empty() && name.find('@') == name.npos)
        name += "@" + realm;
      for (auto& c : name)
        if (const auto at = from.find(c); at != from.npos)
          c = to[at];
      if (name.find('!') != name.npos)
        return name;  // is refused as it is
      const auto local = name.substr(0, name.find('@'));
      switch (format) {
        case 'u':
          return name;
        case 'l':
          return ascii_lower(name);
        case 'n':
          return local;
        case 'm':
          return ascii_lower(local);
        default:
          return ascii_lower(local) + "@x.example";
      }
    }
  };
  const auto server =
      GENERATE(Server{"", "", "", 'l'}, Server{"", "", "", 'u'}, Server{"", "", "", 'n'},
               Server{"", "", "", 'm'}, Server{"", "", "", 'x'}, Server{"R.example", "", "", 'l'},
               Server{"R.example", "#/", "@_", 'u'}, Server{"", "#/+", "@_-", 'l'},
               Server{"R.example", "#", "@", 'm'}, Server{"", "%", "@", 'x'});
  INFO(server.format << " " << server.realm << " " << server.from);
  const std::vector<std::string> names = {"anna",  "Anna",  "Anna@B.example", "a#b",   "A#b@c",
                                          "a/B+c", "a%b.c", "a-b_c",          "a@b@c", "Fritz,=b"};
  NameForm form;
  for (const auto& name : names)
    for (const auto& question : form.questions(name, "0123456789abcdef"))
      form.learn(question, server.write(question));
  NameForm later;
  later.restore(form.save());
  for (const auto& name : names) {
    INFO(name);
    CHECK(form.questions(name, "0123456789abcdef").empty());
    CHECK(form.write(name) == server.write(name));
    CHECK(later.write(name) == server.write(name));
  }
  CHECK(form.keeps_case() == (server.format == 'u' || server.format == 'n'));
}

TEST_CASE("a server that says nothing of names is taken for Dovecot as it comes", "[smtpd][auth]") {
  NameForm form;
  CHECK(form.write("Anna@B.example") == "anna@b.example");
  for (const auto& question : form.questions("a#b", "0123456789abcdef"))
    form.learn(question, question.find('#') != question.npos ? "\1\2" : "somebody");
  CHECK(form.questions("a#b", "0123456789abcdef").empty());
  CHECK(form.write("Anna@B.example") == "anna@b.example");
  CHECK(form.write("A#b") == "a#b");
  form.restore("form plain\nform plain ***\nform characters YUI=\nform whole x y\n");
  CHECK(form.write("Anna") == "anna");
}

TEST_CASE("a form that has changed is learned once more, seldom", "[smtpd][auth]") {
  auto challenges = with_secret();
  const auto learn = [&](bool keeps_case) {
    for (const auto& question : challenges.questions("anna"))
      challenges.learn_form(question, keeps_case ? question : ascii_lower(question));
  };
  learn(false);
  CHECK(look(challenges, "Ghost").salt == look(challenges, "ghost").salt);
  SteadyTime now{};
  CHECK_FALSE(challenges.check_form("Ghost", "ghost", now));
  CHECK_FALSE(challenges.check_form("Ghost", "", now));
  CHECK(challenges.check_form("Ghost", "Ghost", now));
  CHECK_FALSE(challenges.questions("anna").empty());
  learn(true);
  CHECK(look(challenges, "Ghost").salt != look(challenges, "ghost").salt);
  CHECK_FALSE(challenges.check_form("Ghost", "ghost", now));
  // What looks names up may pass over their case all the same.
  const auto text = server_first(64, "0123456789abcdef", 4096);
  challenges.learn("Anna", kFirst, text, Duration(1));
  CHECK(challenges.other_spelling("Anna", now).ends_with(".invalid"));
  const auto other = challenges.other_spelling("Anna", now);
  CHECK(other == "aNNA");
  CHECK(challenges.learn_spelling("Anna", other, text));
  CHECK(look(challenges, "Ghost").salt == look(challenges, "ghost").salt);
  auto later = with_secret();
  later.restore(challenges.save());
  CHECK(look(later, "Ghost").salt == look(challenges, "ghost").salt);
}

TEST_CASE("the server is asked about spellings now and then only", "[smtpd][auth]") {
  auto challenges = with_secret();
  const auto text = server_first(64, "0123456789abcdef", 4096);
  SteadyTime now{};
  challenges.learn("anna@a.example", kFirst, text, Duration(1));
  const auto first = challenges.other_spelling("anna@a.example", now);
  CHECK(first.starts_with("anna@"));
  CHECK(first.ends_with(".invalid"));
  for (const char* name : {"anna@a.example", "bert"})
    CHECK(challenges.other_spelling(name, now).empty());
  // Another salt, that of somebody else or a fresh one, says nothing, and it is asked again.
  challenges.learn_spelling("anna@a.example", first, server_first(64, "fedcba9876543210", 4096));
  CHECK(challenges.other_spelling("anna@a.example", now + hours(1)).ends_with(".invalid"));
  CHECK(challenges.learn_spelling("anna@a.example", first, ""));
  CHECK_FALSE(challenges.learn_spelling("anna@a.example", first, ""));
  now += hours(1);
  CHECK(challenges.other_spelling("bert", now).empty());
  CHECK(challenges.other_spelling("anna@a.example", now) == "anna");
  CHECK(challenges.other_spelling("cleo@A.example", now).empty());  // that domain is not it
  CHECK(challenges.other_spelling("cleo@b.example", now) == "cleo");
  CHECK(challenges.other_spelling("anna@a.example", now + hours(24)).ends_with(".invalid"));
  for (const char* name : {"", "@a.example", "a,b", "a=b"})
    CHECK(challenges.other_spelling(name, now + hours(1000)).empty());
}

TEST_CASE("what another server says wrongly teaches nothing", "[smtpd][auth]") {
  auto challenges = with_secret();
  for (const auto& text :
       {std::string(), std::string("r=abc"), std::string("r=abcdef,s=***,i=4096"),
        std::string("r=abcdef,s=,i=4096"), std::string("r=abcdef,s=c2FsdA==,i=many"),
        std::string("r=a,s=c2FsdA==,i=4096"), server_first(5, std::string(300, 's'), 4096),
        server_first(500, "salt", 4096), server_first(64, "salt", 4096) + ",x=y"})
    CHECK_FALSE(challenges.learn("anna", kFirst, text, Duration(1)));
  challenges.restore(
      "took\ntook x\n1 2\n1 99999 64 4096 same\n1 16 99999 4096 same\nx 16 64 1 -\n"
      "1 16 64 4096 same x\n1 16 64 4096 same 1 1\n\n");
  CHECK(look(challenges, "ghost").iterations == "i=4096");
  CHECK(challenges.save().empty());
}

TEST_CASE("challenges are held longer than those of a slow server take", "[smtpd][auth]") {
  auto challenges = with_secret();
  const auto learn = [&](const std::string& account, int took) {
    challenges.learn(account, kFirst, server_first(64, "0123456789abcdef", 4096), Duration(took));
  };
  CHECK(challenges.hold() == Challenges::kShortest);
  for (int i = 0; i < 12; ++i)
    learn("user" + std::to_string(i), 300);
  CHECK(challenges.hold() == Duration(2000));
  auto later = with_secret();
  later.restore(challenges.save());
  CHECK(later.hold() == Duration(2000));
  for (int i = 0; i < 12; ++i)
    learn("user" + std::to_string(i), 30000);
  CHECK(challenges.hold() == Challenges::kLongest);
  for (int i = 0; i < 12; ++i)
    learn("user" + std::to_string(i), 1);
  CHECK(challenges.hold() == Challenges::kShortest);
}

TEST_CASE("names that a server finds slowly do not show in how long challenges are held",
          "[smtpd][auth]") {
  for (const int others : {0, 4, 9, 100}) {
    INFO(others);
    auto challenges = with_secret();
    const auto text = server_first(64, "0123456789abcdef", 4096);
    for (int i = 0; i < others; ++i)
      challenges.learn("user" + std::to_string(i), kFirst, text, Duration(3));
    for (int i = 0; i < 200; ++i)
      challenges.learn("slow" + std::to_string(i % 3), kFirst, text, Duration(3000));
    CHECK(challenges.hold() == Challenges::kShortest);
  }
}

TEST_CASE("a time that goes back fills no bucket", "[smtpd][auth]") {
  LoginLimiter guard({2, 10, hours(1)});
  auto made = guard.begin(ip("192.0.2.1"), "anna", 0, kStart);
  guard.undo(made, kStart - hours(1));
  for (int i = 0; i < 2; ++i)
    CHECK(guard.begin(ip("192.0.2.1"), "anna", 0, kStart - hours(1)) == Verdict::may_try);
}

TEST_CASE("a try that succeeds, or could not be judged, is given back", "[smtpd][auth]") {
  LoginLimiter guard({2, 2, hours(1)});
  for (int i = 0; i < 20; ++i) {
    auto made = guard.begin(ip("192.0.2.1"), "anna", 0, kStart);
    REQUIRE(made == Verdict::may_try);
    guard.undo(made, kStart);
  }
}

TEST_CASE("what is given back is what was charged, and once", "[smtpd][auth]") {
  constexpr int kLimit = 5;
  LoginLimiter guard({kLimit, 10, hours(1)});
  const auto home = ip("198.51.100.7");
  log_in(guard, home, 4711);
  for (std::uint64_t guess = 1; guess <= kLimit; ++guess)
    CHECK(guard.begin(home, "anna", guess, kStart) == Verdict::may_try);
  SECTION("exchanges that are broken off beyond the limit make no room for guesses") {
    int judged = 0;
    for (std::uint64_t guess = 100; guess < 200; ++guess) {
      auto broken_off = guard.begin(home, "anna", 0, kStart);
      guard.undo(broken_off, kStart);
      judged += guard.begin(home, "anna", guess, kStart) == Verdict::may_try;
    }
    CHECK(judged == 0);
  }
  SECTION("a second time nothing is given back") {
    auto broken_off = guard.begin(home, "anna", 0, kStart);
    for (int i = 0; i < 20; ++i)
      guard.undo(broken_off, kStart);
    CHECK(guard.begin(home, "anna", 77, kStart) == Verdict::client_exhausted);
  }
  SECTION("a password tried again was not charged") {
    for (int i = 0; i < 20; ++i) {
      auto again = guard.begin(home, "anna", kLimit, kStart);
      CHECK(again == Verdict::may_try);
      guard.undo(again, kStart);
    }
    CHECK(guard.begin(home, "anna", 77, kStart) == Verdict::client_exhausted);
  }
  SECTION("what was refused is not given back") {
    auto refused = guard.begin(home, "anna", 77, kStart);
    for (int i = 0; i < 20; ++i)
      guard.undo(refused, kStart);
    CHECK(guard.begin(home, "anna", 78, kStart) == Verdict::client_exhausted);
  }
}

TEST_CASE("a flood of names does not empty a full bucket", "[smtpd][auth][slow]") {
  LoginLimiter guard({1000000, 3, hours(1)});
  for (int i = 0; i < 4; ++i)
    (void)guard.begin(ip("192.0.2.1"), "anna", 0, kStart);
  for (int i = 0; i < 200000; ++i)
    (void)guard.begin(ip("192.0.2.1"), "name" + std::to_string(i), 0, kStart);
  CHECK(guard.begin(ip("192.0.2.1"), "anna", 0, kStart) == Verdict::account_exhausted);
}

TEST_CASE("known places survive a restart", "[smtpd][auth]") {
  LoginLimiter before({1, 1, hours(1)});
  log_in(before, ip("192.0.2.1"), 4711);
  LoginLimiter after({1, 1, hours(1)});
  after.restore(before.places());
  after.restore("broken\n\n anna\n");
  (void)after.begin(ip("192.0.2.9"), "anna", 0, kStart);
  CHECK(after.begin(ip("192.0.2.8"), "anna", 0, kStart) == Verdict::account_exhausted);
  // Which password was right is not kept: any is let through, as often as there is more room.
  for (std::uint64_t guess = 1; guess <= LoginLimiter::kMoreAtHome; ++guess)
    CHECK(after.begin(ip("192.0.2.1"), "anna", guess, kStart) == Verdict::may_try);
  CHECK(after.begin(ip("192.0.2.1"), "anna", 4711, kStart) == Verdict::may_try);
  CHECK(after.begin(ip("192.0.2.1"), "anna", 4711 + 1, kStart) == Verdict::client_exhausted);
}

TEST_CASE("a user's messages and recipients are limited by the hour and the day", "[smtpd][auth]") {
  SendingQuota::Rules rules;
  rules.hour = {3, 5, 0};
  rules.day = {4, 0, 6};
  SendingQuota quota(rules);
  for (int i = 0; i < 3; ++i)
    CHECK(quota.add_message("anna", kNow).limit.empty());
  auto verdict = quota.add_message("anna", kNow);
  CHECK(verdict.limit == "messages an hour");
  CHECK(verdict.most == 3);
  CHECK(verdict.is_fresh);
  CHECK_FALSE(quota.add_message("anna", kNow).is_fresh);  // one alarm an hour
  CHECK(quota.limited(kNow).size() == 1);
  CHECK(quota.limited(kNow).front().user == "anna");
  CHECK(quota.limited(kNow + hours(2)).empty());
  CHECK(quota.add_message("bert", kNow).limit.empty());
  CHECK(quota.add_message("anna", kNow + hours(1)).limit.empty());
  CHECK(quota.add_message("anna", kNow + hours(3)).limit == "messages a day");
  CHECK(quota.add_message("anna", kNow + hours(25)).limit.empty());
}

TEST_CASE("strangers are limited more than acquaintances", "[smtpd][auth]") {
  SendingQuota::Rules rules;
  rules.day = {0, 100, 6};
  SendingQuota quota(rules);
  for (std::uint64_t who = 1; who <= 6; ++who)
    CHECK(quota.add_recipient("anna", who, kNow).limit.empty());
  CHECK(quota.add_recipient("anna", 7, kNow).limit == "new recipients a day");
  for (std::uint64_t who = 1; who <= 6; ++who)
    CHECK(quota.add_recipient("anna", who, kNow).limit.empty());
  CHECK(quota.add_recipient("anna", 7, kNow + hours(25)).limit.empty());
}

TEST_CASE("a message counts with all its recipients, or not at all", "[smtpd][auth]") {
  SendingQuota::Rules rules;
  rules.hour = {3, 10, 0};
  SendingQuota quota(rules);
  CHECK(quota.add("uid 1", 8, kNow).limit.empty());
  const auto refused = quota.add("uid 1", 3, kNow);
  CHECK(refused.limit == "recipients an hour");
  CHECK(refused.is_fresh);
  CHECK(quota.add("uid 1", 2, kNow).limit.empty());  // the one that was refused counts for nothing
  CHECK(quota.add("uid 1", 0, kNow).limit.empty());
  CHECK(quota.add("uid 1", 0, kNow).limit == "messages an hour");
  CHECK(quota.add("uid 2", 10, kNow).limit.empty());
  CHECK(quota.add("uid 2", 0xffffffff, kNow).limit == "recipients an hour");
  CHECK(quota.add("uid 2", 10, kNow + hours(1)).limit.empty());
}

TEST_CASE("limits survive a restart, and what is not a file of ours does not matter",
          "[smtpd][auth]") {
  SendingQuota::Rules rules;
  rules.hour = {0, 3, 2};
  SendingQuota before(rules);
  (void)before.add_recipient("anna", 1, kNow);
  (void)before.add_recipient("anna", 2, kNow);
  const auto saved = before.save();
  SendingQuota after(rules);
  after.restore(saved);
  CHECK(after.add_recipient("anna", 3, kNow).limit == "new recipients an hour");
  CHECK(after.add_recipient("anna", 1, kNow).limit.empty());
  CHECK(after.add_recipient("anna", 1, kNow).limit == "recipients an hour");
  for (std::size_t cut = 0; cut < saved.size(); ++cut) {
    SendingQuota broken(rules);
    broken.restore(std::string_view(saved).substr(0, cut));
    broken.restore(saved.substr(0, cut) + std::string(300, '\xff'));
    (void)broken.add_recipient("anna", 1, kNow);
  }
}

TEST_CASE("A18 a sender address belongs to its user", "[smtpd][auth]") {
  const auto map = SenderMap::parse(
      "# comment\n\ninfo@example.org  anna@example.org, bert\r\n@example.net\tcarl@example.org\n"
      "* robot\nnews@example.org *\n",
      {"example.org", "us.test"});
  REQUIRE(map.has_value());
  struct Case {
    std::string user, sender;
    bool want;
  };
  const Case cases[] = {
      {"anna@example.org", "anna@example.org", true},
      {"anna@example.org", "Anna@Example.ORG", true},
      {"anna@example.org", "anna+list@example.org", true},
      {"anna@example.org", "bert@example.org", false},
      {"anna@example.org", "anna@us.test", false},
      {"anna@example.org", "", true},
      {"anna@example.org", "info@example.org", true},
      {"anna@example.org", "info+x@example.org", false},
      {"anna@example.org", "x@example.net", false},
      {"anna@example.org", "news@example.org", true},
      {"bert", "bert@example.org", true},
      {"bert", "bert+x@us.test", true},
      {"bert", "bert@example.com", false},
      {"bert", "info@example.org", true},
      {"bert", "bert", false},
      {"carl@example.org", "anyone@example.net", true},
      {"carl@example.org", "anyone@sub.example.net", false},
      {"robot", "any@where.test", true},
      {"a+b@example.org", "a+b@example.org", true},
      {"a+b@example.org", "a@example.org", false},
  };
  for (const auto& c : cases)
    DYNAMIC_SECTION(c.user << " as <" << c.sender << ">") {
      CHECK(map->allows(c.user, c.sender) == c.want);
    }
  for (const char* bad : {"info@example.org", "info anna", "info@example.org ,", "x@y an na"})
    CHECK_FALSE(SenderMap::parse(bad, {}).has_value());
}

TEST_CASE("a domain is the same as A-label and as U-label", "[smtpd][auth]") {
  const auto map = SenderMap::parse(
      "info@b\xc3\xbc"
      "cher.example anna@us.test\n"
      "@stra\xc3\x9f"
      "e.example anna@us.test\n"
      "desk@us.test dora@xn--bcher-kva.example, emil@b\xc3\xbc"
      "cher.example\n",
      {"xn--bcher-kva.example"});
  REQUIRE(map.has_value());
  const std::string a = "xn--bcher-kva.example",
                    u = "b\xc3\xbc"
                        "cher.example",
                    capital =
                        "B\xc3\x9c"
                        "CHER.example";
  for (const auto& of_user : {a, u})
    for (const auto& of_sender : {a, u, capital, std::string("XN--BCHER-KVA.EXAMPLE")})
      DYNAMIC_SECTION("dora@" << of_user << " as dora@" << of_sender) {
        CHECK(map->allows("dora@" + of_user, "dora@" + of_sender));
        CHECK(map->allows("dora@" + of_user, "dora+tag@" + of_sender));
        CHECK(map->allows("dora", "dora@" + of_sender));
        CHECK_FALSE(map->allows("dora@" + of_user, "emil@" + of_sender));
        CHECK_FALSE(map->allows("dora@" + of_user, "dora@sub." + of_sender));
        CHECK(map->allows("anna@us.test", "info@" + of_sender));
        CHECK_FALSE(map->allows("bert@us.test", "info@" + of_sender));
        CHECK(map->allows("dora@" + of_user, "desk@us.test"));
        CHECK(map->allows("emil@" + of_user, "desk@us.test"));
      }
  // A name that only becomes the domain by a mapping is another.
  for (const char* other :
       {"dora@us.t\xe2\x82\x91st", "dora@\xef\xbd\x95s.test", "dora@us.test\xc2\xad"})
    CHECK_FALSE(map->allows(other, "dora@us.test"));
  CHECK(map->allows("anna@us.test", "any@xn--strae-oqa.example"));
  CHECK_FALSE(map->allows("anna@us.test", "any@strasse.example"));
}

TEST_CASE("an absent user is compared with what users have and crypt can compute",
          "[smtpd][auth]") {
  const auto one = hash_password("x").value();
  const auto made_up = [](const std::string& text) {
    return UserFile::parse(text)->made_up_hash(4711);
  };
  CHECK(made_up("a:" + one + "\nb:!\nc:*\nd:!\n") == one);
  CHECK(made_up("a:" + one + "\nb:!" + one + "\nc:!!\nd:x\ne:\nf:*LK*\ng:{PLAIN}geheim:\n") == one);
  CHECK(made_up("a:!\nb:*\n").empty());
  CHECK(made_up("a:{SHA512-CRYPT}" + std::string("$6$salt$") + std::string(86, 'x') + "\n") != "");
}

TEST_CASE("absent users have each kind of hash and count as often as present ones",
          "[smtpd][auth]") {
  const auto modern = hash_password("x").value();
  const std::string old = "$6$salt$" + std::string(86, 'x');
  std::string text;
  for (int i = 0; i < 10; ++i)
    text += format_user("user" + std::to_string(i),
                        {i < 3 ? old : modern, make_scram_keys("x", i < 2 ? 4096U : 8192U)}) +
            "\n";
  const auto file = UserFile::parse(text);
  int olds = 0, few = 0;
  for (std::uint64_t draw = 0; draw < 1000; ++draw) {
    olds += file->made_up_hash(draw) == old;
    few += file->made_up_iterations(draw) == 4096;
  }
  CHECK(olds == 300);
  CHECK(few == 200);
  CHECK(UserFile::parse("a:!\n")->made_up_iterations(1) == UserFile::kIterations);

  const TemporaryFolder folder;
  std::ofstream(folder / "users") << text;
  Passwords passwords(folder / "users", "a secret");
  int of_names = 0;
  for (int i = 0; i < 200; ++i) {
    const auto name = "absent" + std::to_string(i);
    of_names += passwords.scram_keys(name)->iterations == 4096;
    CHECK(passwords.scram_keys(name)->iterations == passwords.scram_keys(name)->iterations);
  }
  CHECK(of_names > 15);
  CHECK(of_names < 80);
}

TEST_CASE("a locked user gets in by nothing, and looks as if absent", "[smtpd][auth]") {
  const TemporaryFolder folder;
  const auto path = folder / "users";
  const auto keys = make_scram_keys("secret", 4096);
  const auto hash = hash_password("secret").value();
  std::string text;
  for (const auto& [user, its] : std::initializer_list<std::pair<std::string, std::string>>{
           {"anna", hash}, {"locked", "!" + hash}, {"off", "!"}, {"star", "*"}, {"none", ""}})
    text += format_user(user, UserEntry{its, keys}) + "\n";
  std::ofstream(path) << text;
  Passwords passwords(path, "a secret");
  CHECK(passwords.check("anna", "secret").value());
  CHECK_FALSE(passwords.check("anna", "Secret").value());
  for (const char* user : {"locked", "off", "star", "none", "absent"})
    for (const std::string tried : {"secret", "", "!", "*", hash.c_str()})
      CHECK_FALSE(passwords.check(user, tried).value());
  const auto is_theirs = [&](const char* user) {
    return passwords.scram_keys(user)->stored_key == keys.stored_key;
  };
  CHECK(is_theirs("anna"));
  CHECK(is_theirs("star"));
  CHECK(is_theirs("none"));
  for (const char* user : {"locked", "off", "absent"}) {
    CHECK_FALSE(is_theirs(user));
    CHECK(passwords.scram_keys(user)->iterations == 4096);
    CHECK(passwords.scram_keys(user)->salt == passwords.scram_keys(user)->salt);
  }
}

// What this thread computes, whatever else the machine does.
double processor_seconds() {
  timespec used{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
  return static_cast<double>(used.tv_sec) + static_cast<double>(used.tv_nsec) / 1e9;
}

TEST_CASE("whoever is asked for, a wrong password takes as much work", "[smtpd][auth]") {
  const TemporaryFolder folder;
  const auto path = folder / "users";
  const auto hash = hash_password("secret").value();
  std::string text;
  for (const auto& [user, its] : std::initializer_list<std::pair<std::string, std::string>>{
           {"anna", hash}, {"locked", "!" + hash}, {"off", "!"}, {"star", "*"}, {"none", ""}})
    text += format_user(user, UserEntry{its, {}}) + "\n";
  std::ofstream(path) << text;
  Passwords passwords(path, "a secret");
  const auto work_of = [&](const char* user) {
    const auto before = processor_seconds();
    for (int i = 0; i < 5; ++i)
      CHECK_FALSE(passwords.check(user, "wrong").value());
    return processor_seconds() - before;
  };
  const auto present = work_of("anna");
  for (const char* user : {"locked", "off", "star", "none", "absent"}) {
    INFO(user);
    const auto work = work_of(user);
    CHECK(work > present / 2);  // one comparison, not none and not two
    CHECK(work < present * 1.6);
  }
}

TEST_CASE("a password file that is being written in place locks nobody out", "[smtpd][auth]") {
  const TemporaryFolder folder;
  const auto path = folder / "users";
  const auto line = "anna:" + hash_password("secret").value();
  const auto write = [&](const std::string& text) { std::ofstream(path) << text; };
  const auto grow_old = [&] {
    std::filesystem::last_write_time(
        path, std::filesystem::last_write_time(path) - std::chrono::seconds(15));
  };
  write("# mine\n" + line + "\n");
  Passwords passwords(path, "a secret");
  REQUIRE(passwords.check("anna", "secret").value());
  write("");
  CHECK(passwords.check("anna", "secret").value());
  grow_old();
  CHECK_FALSE(passwords.check("anna", "secret").value());
  write(line + "\n");
  CHECK(passwords.check("anna", "secret").value());
  write("# mine\nan");
  CHECK(passwords.check("anna", "secret").value());
  grow_old();
  CHECK_FALSE(passwords.check("anna", "secret").has_value());  // it cannot be told
  write("bert:x\n");                                           // is whole: anna is out at once
  CHECK_FALSE(passwords.check("anna", "secret").value());
}

TEST_CASE("a password file that is being written at the start says nothing of anybody",
          "[smtpd][auth]") {
  const TemporaryFolder folder;
  const auto path = folder / "users";
  const auto line = "anna:" + hash_password("secret").value();
  const auto write = [&](const std::string& text) { std::ofstream(path) << text; };
  Passwords passwords(path, "a secret");
  write("bert:x\n" + line);
  CHECK_FALSE(passwords.check("anna", "secret").has_value());
  CHECK_FALSE(passwords.scram_keys("anna").has_value());
  SECTION("then it is whole") {
    write("bert:x\n" + line + "\n");
    CHECK(passwords.check("anna", "secret").value());
  }
  SECTION("it stays so") {
    std::filesystem::last_write_time(
        path, std::filesystem::last_write_time(path) - std::chrono::seconds(15));
    CHECK(passwords.check("anna", "secret").value());
  }
}

TEST_CASE("lists of senders and certificates are not read while they are being written",
          "[smtpd][auth]") {
  const TemporaryFolder folder;
  const auto senders = folder / "senders", certificates = folder / "certificates";
  AuthSettings settings;
  settings.senders = senders;
  settings.certificates = certificates;
  const auto write = [](const std::string& path, const std::string& text) {
    std::ofstream(path) << text;
  };
  const auto problems = [&] {
    std::string text;
    for (const auto& problem : check_files(settings))
      text +=
          (is_perhaps_unfinished(problem.error) ? "unfinished " : "wrong ") + problem.option + ";";
    return text;
  };
  const auto fingerprint = std::string(64, 'a');
  write(senders, "info@us.example anna");
  write(certificates, fingerprint + " an");
  CHECK(problems() == "unfinished auth.senders;unfinished auth.certificates;");
  write(senders, "info@us.example anna\n");
  CHECK(problems() == "unfinished auth.certificates;");
  std::filesystem::last_write_time(
      certificates, std::filesystem::last_write_time(certificates) - std::chrono::seconds(15));
  CHECK(problems().empty());
}

TEST_CASE("the password file is read strictly and written back as it was", "[smtpd][auth]") {
  const auto key = encode_base64(std::string(32, 'k'));
  const auto keys = "SCRAM-SHA-256,4096," + encode_base64("salt") + "," + key + "," + key;
  const auto text = "# users\nanna@example.org:$y$j9T$s$h:" + keys + "\r\nbert:$2b$05$x\n";
  const auto file = UserFile::parse(text);
  REQUIRE(file.has_value());
  CHECK(file->size() == 2);
  REQUIRE(file->find("anna@example.org"));
  CHECK(file->find("anna@example.org")->scram->iterations == 4096);
  CHECK_FALSE(file->find("bert")->scram);
  CHECK(file->find("carl") == nullptr);
  CHECK(file->made_up_iterations(7) == 4096);
  const std::vector<std::string> broken = {std::string("anna"),
                                           std::string("an na:x"),
                                           std::string(":x"),
                                           std::string("a:x\nA:y"),
                                           "a:x:SCRAM-SHA-256,0,c2FsdA==," + key + "," + key,
                                           "a:x:SCRAM-SHA-256,1,," + key + "," + key,
                                           std::string("a:x:SCRAM-SHA-1,1"),
                                           "a:x:y:z",
                                           "a:" + std::string(3000, 'x')};
  for (const auto& bad : broken)
    CHECK_FALSE(UserFile::parse(bad).has_value());
  UserEntry entry = *file->find("anna@example.org");
  entry.hash = "new";
  CHECK(with_user(text, "anna@example.org", &entry) ==
        "# users\nanna@example.org:new:" + keys + "\nbert:$2b$05$x\n");
  CHECK(with_user("a:x", "b", &entry) == "a:x\nb:new:" + keys + "\n");
  CHECK(with_user(text, "bert", nullptr)->find("bert") == std::string::npos);
  CHECK_FALSE(with_user(text, "nobody", nullptr));
}
