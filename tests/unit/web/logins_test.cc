#include "web/logins.h"

#include "tests/unit/web/turned_clock.h"

#include <catch2/catch.hpp>

#include <algorithm>
#include <string>
#include <vector>

using namespace postrider;
using namespace postrider::web;

namespace {

class KeptLog : public Log {
 public:
  bool enabled(Level) const override { return true; }
  void write(LogEvent event) override {
    std::string line;
    format_text(event, line);
    lines.push_back(line);
  }
  std::size_t count(const std::string& name) const {
    std::size_t found = 0;
    for (const auto& line : lines)
      found += line.find(name) != line.npos ? 1 : 0;
    return found;
  }
  std::vector<std::string> lines;
};

const Sessions::User kAnn{"ann", Role::read}, kBob{"bob", Role::change};

}  // namespace

TEST_CASE("sessions: both secrets, and no other's, are one", "[web][login]") {
  Sessions sessions;
  const SteadyTime now{std::chrono::hours(1)};
  const auto ann = sessions.open(kAnn, now), bob = sessions.open(kBob, now);
  REQUIRE(sessions.find(ann, now));
  CHECK(sessions.find(ann, now)->name == "ann");
  CHECK(sessions.find(bob, now)->role == Role::change);
  CHECK_FALSE(sessions.find({ann.cookie, bob.key}, now));
  CHECK_FALSE(sessions.find({bob.cookie, ann.key}, now));
  CHECK_FALSE(sessions.find({ann.cookie, ""}, now));
  CHECK_FALSE(sessions.find({"", ann.key}, now));
  CHECK_FALSE(sessions.find({}, now));
  CHECK_FALSE(sessions.close({ann.cookie, bob.key}, now));
  CHECK(sessions.close(ann, now)->name == "ann");
  CHECK_FALSE(sessions.find(ann, now));
  CHECK_FALSE(sessions.close(ann, now));
  CHECK(sessions.find(bob, now));
}

TEST_CASE("sessions: they end when they are not used, and when they are old", "[web][login]") {
  Sessions sessions;
  SteadyTime now{std::chrono::hours(1)};
  const auto idle = sessions.open(kAnn, now), used = sessions.open(kAnn, now);
  now += Sessions::kIdle - Duration(1);
  CHECK(sessions.find(used, now));
  now += Duration(1);
  CHECK_FALSE(sessions.find(idle, now));
  for (int i = 0; i < 15; ++i) {  // until it is eight hours old
    CHECK(sessions.find(used, now));
    now += Sessions::kIdle - Duration(1);
  }
  CHECK(sessions.find(used, now));
  now += Duration(15);
  CHECK_FALSE(sessions.find(used, now));
  CHECK(sessions.count() == 0);
}

TEST_CASE("sessions: of a user and in all there is a bound, and the least used gives way",
          "[web][login]") {
  Sessions sessions;
  SteadyTime now{std::chrono::hours(1)};
  const auto anns = sessions.open(kAnn, now);
  const auto first = sessions.open(kBob, now += Duration(1));
  const auto second = sessions.open(kBob, now += Duration(1));
  CHECK(sessions.find(first, now += Duration(1)));
  for (std::size_t i = 2; i <= Sessions::kMostOfUser; ++i)
    sessions.open(kBob, now += Duration(1));
  CHECK(sessions.find(first, now));
  CHECK_FALSE(sessions.find(second, now));
  CHECK(sessions.find(anns, now += Duration(1)));
  CHECK(sessions.count() == Sessions::kMostOfUser + 1);
  for (std::size_t i = 0; i < Sessions::kMost; ++i)
    sessions.open({"user" + std::to_string(i), Role::read}, now += Duration(1));
  CHECK(sessions.count() == Sessions::kMost);
  CHECK_FALSE(sessions.find(anns, now));
}

TEST_CASE("logins: guesses of an address and of an account end, whether it exists or not",
          "[web][login]") {
  TurnedClock clock;
  KeptLog log;
  unsigned judged = 0;
  Logins logins(
      [&](const auto& user, const auto& password, const auto&) -> Result<Role> {
        ++judged;
        return user == "ann" && password == "right" ? Role::change : Role::none;
      },
      clock, log);
  SECTION("of an address, for an hour") {
    for (int i = 0; i < 30; ++i)
      logins.enter("user" + std::to_string(i), "x", "192.0.2.1");
    CHECK(judged == 10);
    CHECK(logins.enter("ann", "right", "192.0.2.1").end == Logins::End::too_many);
    CHECK(logins.enter("ann", "right", "192.0.2.2").end == Logins::End::opened);
    judged = 0;
    clock.advance(std::chrono::minutes(30));  // half of them are given back
    for (int i = 0; i < 30; ++i)
      logins.enter("user" + std::to_string(i), "x", "192.0.2.1");
    CHECK(judged == 5);
    clock.advance(std::chrono::hours(1));
    CHECK(logins.enter("ann", "right", "192.0.2.1").end == Logins::End::opened);
  }
  SECTION("of an IPv6 client by its network") {
    for (int i = 0; i < 30; ++i)
      logins.enter("user" + std::to_string(i), "x", "2001:db8::" + std::to_string(i + 1));
    CHECK(judged == 10);
  }
  SECTION("of an account from everywhere, but its user's own place stays open") {
    const auto* const name = GENERATE("ann", "nobody");
    logins.enter("ann", "right", "198.51.100.1");
    judged = 0;
    for (int i = 0; i < 60; ++i)
      logins.enter(name, "x", "192.0.2." + std::to_string(i + 1));
    CHECK(judged == 30);
    CHECK(logins.enter("ann", "right", "198.51.100.1").end == Logins::End::opened);
  }
  SECTION("all of which is logged, and a limit once a minute") {
    for (int i = 0; i < 30; ++i)
      logins.enter("ann", "x", "192.0.2.1");
    CHECK(log.count("web_login_refused") == 10);
    CHECK(log.count("web_logins_limited") == 1);
    clock.advance(std::chrono::minutes(1));
    for (int i = 0; i < 3; ++i)
      logins.enter("ann", "x", "192.0.2.1");
    CHECK(log.count("web_logins_limited") == 2);
  }
}

TEST_CASE("logins: what cannot be judged is free for a while, and is not a login", "[web][login]") {
  TurnedClock clock;
  KeptLog log;
  Logins logins([](const auto&, const auto&,
                   const auto&) -> Result<Role> { return Error(Errc::stopped, "ask"); },
                clock, log);
  constexpr int kFree = 30, kTries = 10;
  for (int i = 0; i < kFree + kTries; ++i)
    CHECK(logins.enter("ann", "x", "192.0.2.1").end == Logins::End::unknown);
  CHECK(log.count("web_login_not_judged") == kFree + kTries);
  CHECK(logins.enter("ann", "x", "192.0.2.1").end == Logins::End::too_many);
  CHECK(logins.enter("ann", "x", "192.0.2.2").end == Logins::End::unknown);
  Logins none({}, clock, log);
  CHECK_FALSE(none.are_possible());
  CHECK(none.enter("ann", "x", "").end == Logins::End::unknown);
}

TEST_CASE("logins: two are judged at once, and others are told", "[web][login]") {
  TurnedClock clock;
  KeptLog log;
  std::vector<Logins::End> ends;
  Logins* site = nullptr;
  Logins logins(
      [&](const auto&, const auto&, const auto&) -> Result<Role> {
        if (ends.size() < 2) {
          ends.push_back(Logins::End::opened);
          ends.push_back(site->enter("ann", "x", "192.0.2.1").end);
        }
        return Role::read;
      },
      clock, log);
  site = &logins;
  CHECK(logins.enter("ann", "x", "192.0.2.1").end == Logins::End::opened);
  REQUIRE(ends.size() >= 2);
  CHECK(std::count(ends.begin(), ends.end(), Logins::End::busy) == 1);
  CHECK(logins.enter("ann", "x", "192.0.2.1").end == Logins::End::opened);
}
