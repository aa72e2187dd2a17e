#include "delivery/evidence.h"

#include <catch2/catch.hpp>

#include <string>
#include <vector>

using namespace postrider;
using namespace postrider::delivery;
using Scope = Evidence::Scope;

namespace {

const SteadyTime kNow{std::chrono::hours(1000)};

struct Event {
  char what = 'r';  // refused; t: taken
  std::string sender;
  std::string mailbox = {};  // empty: at MAIL
  std::chrono::minutes after{0};
};

// What the last of them was.
Scope weigh(const std::vector<Event>& events) {
  Evidence evidence;
  auto scope = Scope::one;
  auto now = kNow;
  for (const auto& event : events) {
    now += event.after;
    if (event.what == 'r')
      scope = evidence.on_refused(event.sender, event.mailbox, now);
    else
      evidence.on_taken(event.sender, event.mailbox, now);
  }
  return scope;
}

}  // namespace

TEST_CASE("evidence: whose word a refusal is", "[delivery][evidence]") {
  using std::chrono::minutes;
  struct Case {
    std::string name;
    std::vector<Event> events;
    Scope want;
  };
  const std::vector<Case> cases = {
      {"one refusal", {{'r', "a@x"}}, Scope::one},
      {"one sender, many times",
       {{'r', "a@x"}, {'r', "a@x"}, {'r', "A@X"}, {'r', "a@x"}},
       Scope::one},
      {"one sender to many mailboxes",
       {{'r', "a@x", "1@y"}, {'r', "a@x", "2@y"}, {'r', "a@x", "3@y"}, {'r', "a@x", "4@y"}},
       Scope::one},
      {"one mailbox, many senders",
       {{'r', "a@x", "1@y"}, {'r', "b@x", "1@y"}, {'r', "c@x", "1@Y"}, {'r', "d@x", "1@y"}},
       Scope::one},
      {"two senders", {{'r', "a@x"}, {'r', "b@x"}, {'r', "a@x"}, {'r', "b@x"}}, Scope::one},
      {"three senders", {{'r', "a@x"}, {'r', "b@x"}, {'r', "c@x"}}, Scope::site},
      {"three senders to three mailboxes",
       {{'r', "a@x", "1@y"}, {'r', "b@x", "2@y"}, {'r', "c@x", "3@y"}},
       Scope::site},
      {"some at MAIL, some at RCPT",
       {{'r', "a@x"}, {'r', "b@x", "2@y"}, {'r', "c@x"}},
       Scope::site},
      {"notices are one sender", {{'r', ""}, {'r', "a@x"}, {'r', ""}}, Scope::one},
      {"an extension makes no second sender",
       {{'r', "a+1@x"}, {'r', "a+2@x"}, {'r', "a+3@x"}, {'r', "a@x"}},
       Scope::one},
      {"nor does an address that names its recipient",
       {{'r', "l-1=y@x"}, {'r', "l-2=y@x"}, {'r', "l-3=y@x"}, {'r', "l-4=y@x"}},
       Scope::one},
      {"others are taken meanwhile",
       {{'r', "a@x"},
        {'t', "d@x", "1@y"},
        {'r', "b@x"},
        {'t', "e@x", "2@y"},
        {'t', "f@x", "3@y"},
        {'t', "g@x", "4@y"},
        {'r', "c@x"}},
       Scope::one},
      {"the same ones now and then",
       {{'r', "a@x"}, {'r', "b@x"}, {'t', "a@x", "1@y"}, {'r', "c@x"}, {'r', "a@x"}},
       Scope::site},
      {"one who is taken at last",
       {{'r', "a@x"}, {'r', "b@x"}, {'t', "a@x", "1@y"}, {'r', "c@x"}},
       Scope::one},
      {"long ago", {{'r', "a@x"}, {'r', "b@x"}, {'r', "c@x", {}, minutes(61)}}, Scope::one},
      {"once known it stays so until something is taken",
       {{'r', "a@x"}, {'r', "b@x"}, {'r', "c@x"}, {'r', "a@x", {}, minutes(240)}},
       Scope::site},
      {"behind that it is enough to correct a rate",
       {{'r', "a@x"},
        {'r', "b@x"},
        {'r', "c@x"},
        {'t', "a@x", "1@y"},
        {'t', "b@x", "2@y"},
        {'t', "c@x", "3@y"},
        {'r', "b@x", {}, minutes(10)}},
       Scope::more},
      {"but of one who does nothing else not twice",
       {{'r', "a@x"},
        {'r', "b@x"},
        {'r', "c@x"},
        {'t', "a@x", "1@y"},
        {'t', "b@x", "2@y"},
        {'t', "c@x", "3@y"},
        {'r', "b@x"},
        {'r', "b@x"}},
       Scope::one},
      {"nor of a mailbox",
       {{'r', "a@x"},
        {'r', "b@x"},
        {'r', "c@x"},
        {'t', "a@x", "1@y"},
        {'t', "b@x", "2@y"},
        {'t', "c@x", "3@y"},
        {'r', "b@x", "9@y"},
        {'r', "c@x", "9@y"}},
       Scope::one},
      {"nor more than an hour later",
       {{'r', "a@x"},
        {'r', "b@x"},
        {'r', "c@x"},
        {'t', "a@x", "1@y"},
        {'t', "b@x", "2@y"},
        {'t', "c@x", "3@y"},
        {'r', "b@x", {}, minutes(61)}},
       Scope::one},
  };
  for (const auto& each : cases)
    DYNAMIC_SECTION(each.name) {
      CHECK(weigh(each.events) == each.want);
    }
}

TEST_CASE("evidence: a stream of senders who are taken makes it forget nothing of those refused",
          "[delivery][evidence]") {
  Evidence evidence;
  for (int i = 0; i < 10000; ++i)
    evidence.on_taken("t" + std::to_string(i) + "@x", "m" + std::to_string(i) + "@y", kNow);
  CHECK(evidence.on_refused("a@x", "1@y", kNow) == Scope::one);
  CHECK(evidence.on_refused("b@x", "2@y", kNow) == Scope::one);
  CHECK(evidence.on_refused("c@x", "3@y", kNow) == Scope::site);
  for (int i = 0; i < 10000; ++i)
    CHECK(evidence.on_refused("r" + std::to_string(i) + "@x", {}, kNow) == Scope::site);
}
