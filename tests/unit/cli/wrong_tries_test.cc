#include "cli/wrong_tries.h"

#include <catch2/catch.hpp>

namespace postrider::cli {
namespace {

TEST_CASE("wrong passwords are limited for an account and in all, by the hour", "[cli][pam]") {
  WrongTries tries;
  std::time_t now = 1'700'000'000;
  const auto may_try = [&](const std::string& user) { return !tries.is_exhausted(user, now); };
  for (unsigned i = 0; i < WrongTries::kMost; ++i) {
    REQUIRE(may_try("ann"));
    tries.count("ann");
  }
  CHECK_FALSE(may_try("ann"));
  CHECK(may_try("bob"));
  // Many names together are no way around it.
  for (unsigned i = WrongTries::kMost; i < WrongTries::kMostAll; ++i) {
    const auto user = "user" + std::to_string(i);
    REQUIRE(may_try(user));
    tries.count(user);
  }
  CHECK_FALSE(may_try("bob"));
  now += WrongTries::kHour - 1;
  CHECK_FALSE(may_try("ann"));
  CHECK_FALSE(may_try("bob"));
  ++now;
  CHECK(may_try("ann"));
  CHECK(may_try("bob"));
  tries.count("bob");
  now -= 2 * WrongTries::kHour;  // a clock that was set back stops nobody for ever
  CHECK(may_try("bob"));
}

TEST_CASE("what PAM could not tell is limited for an account, and closes no other", "[cli][pam]") {
  WrongTries tries;
  const std::time_t now = 1'700'000'000;
  for (unsigned i = 0; i < WrongTries::kMost; ++i) {
    REQUIRE_FALSE(tries.is_exhausted("ann", now));
    tries.count_untold("ann");
  }
  CHECK(tries.is_exhausted("ann", now));
  for (unsigned i = 0; i < WrongTries::kMostAll; ++i)
    tries.count_untold("user" + std::to_string(i));
  CHECK_FALSE(tries.is_exhausted("bob", now));
  CHECK_FALSE(tries.is_exhausted("ann", now + WrongTries::kHour));
}

}  // namespace
}  // namespace postrider::cli
