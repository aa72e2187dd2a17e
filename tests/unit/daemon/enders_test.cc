#include "daemon/privsep/enders.h"

#include "daemon/privsep/capabilities.h"
#include "daemon/privsep/child_shares.h"
#include "daemon/privsep/parent_process.h"
#include "delivery/local/agents/process_tree.h"
#include "tests/unit/daemon/apart.h"

#include <catch2/catch.hpp>

#include <array>
#include <csignal>
#include <functional>
#include <grp.h>
#include <linux/capability.h>
#include <map>
#include <set>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace postrider;
using namespace postrider::daemon;

namespace {

// Nobody else's: what is sent to all of a user's processes reaches no other test.
const uid_t kOwn = 1'000'000U + 4U * static_cast<uid_t>(::getpid());
const uid_t kAnn = kOwn + 1, kBob = kOwn + 2;

std::map<uid_t, Account> accounts(std::initializer_list<uid_t> uids) {
  std::map<uid_t, Account> found;
  for (const auto uid : uids)
    found.emplace(uid, Account{"u" + std::to_string(uid), uid, uid});
  return found;
}

std::vector<uid_t> uids(const std::vector<Account>& accounts) {
  std::vector<uid_t> found;
  for (const auto& account : accounts)
    found.push_back(account.uid);
  return found;
}

using Uids = std::vector<uid_t>;
using Pids = std::vector<pid_t>;

}  // namespace

TEST_CASE("what is to be ended is tried again until it has gone", "[daemon][enders]") {
  Enders enders;
  SteadyTime now{};
  CHECK(enders.is_empty());
  REQUIRE(uids(enders.due(accounts({kBob}), now)) == Uids{kBob});
  enders.started(kBob, 10, now);
  CHECK(enders.has(10));
  CHECK(enders.due(accounts({kBob}), now).empty());  // one of a user at a time
  CHECK_FALSE(enders.has_ended(11, now));
  auto pause = Enders::kFirstPause;
  for (pid_t pid = 10; pid < 20; ++pid) {
    REQUIRE(enders.has_ended(pid, now));
    CHECK_FALSE(enders.has(pid));
    CHECK(enders.due(accounts({kBob}), now + pause - Duration(1)).empty());
    now += pause;
    REQUIRE(uids(enders.due(accounts({kBob}), now)) == Uids{kBob});
    enders.started(kBob, pid + 1, now);
    pause = std::min(pause * 2, Enders::kLongestPause);
  }
  CHECK(pause == Enders::kLongestPause);
  // It has gone while one runs: that is heard of before it is forgotten.
  CHECK(enders.due({}, now).empty());
  CHECK_FALSE(enders.is_empty());
  REQUIRE(enders.has_ended(20, now));
  CHECK(enders.due({}, now).empty());
  CHECK(enders.is_empty());
  // What comes later begins at once.
  CHECK(uids(enders.due(accounts({kBob}), now)) == Uids{kBob});
}

TEST_CASE("a process that ends another's and does not end is replaced", "[daemon][enders]") {
  Enders enders;
  SteadyTime now{};
  REQUIRE(enders.due(accounts({kBob}), now).size() == 1);
  enders.started(kBob, 10, now);
  // Nobody else waits for it.
  REQUIRE(uids(enders.due(accounts({kAnn, kBob}), now)) == Uids{kAnn});
  enders.started(kAnn, 11, now + Enders::kPatience);
  CHECK(enders.overdue(now + Enders::kPatience).empty());
  now += Enders::kPatience + Duration(1);
  CHECK(enders.overdue(now) == Pids{10});
  CHECK(enders.overdue(now) == Pids{10});  // until it has gone
  REQUIRE(enders.has_ended(10, now));
  CHECK(enders.overdue(now).empty());
  CHECK(uids(enders.due(accounts({kAnn, kBob}), now + Enders::kFirstPause)) == Uids{kBob});
  // A process that could not be started is tried again too.
  enders.not_started(kBob, now);
  CHECK(enders.due(accounts({kAnn, kBob}), now).empty());
  CHECK(uids(enders.due(accounts({kAnn, kBob}), now + Enders::kLongestPause)) == Uids{kBob});
}

TEST_CASE("many users with something to be ended take turns", "[daemon][enders]") {
  Enders enders;
  SteadyTime now{};
  std::map<uid_t, Account> wanted;
  for (uid_t uid = 1000; uid < 1100; ++uid)
    wanted.merge(accounts({uid}));
  std::set<uid_t> served;
  pid_t pid = 1;
  for (int round = 0; round < 4; ++round) {
    const auto first = pid;
    for (const auto& account : enders.due(wanted, now)) {
      served.insert(account.uid);
      enders.started(account.uid, pid++, now);
    }
    CHECK(enders.running() <= Enders::kMostAtOnce);
    for (auto ended = first; ended < pid; ++ended)
      enders.has_ended(ended, now);
    now += Enders::kFirstPause;
  }
  CHECK(served.size() == wanted.size());
}

TEST_CASE("no user takes all places of the parent", "[daemon][enders]") {
  CHECK(may_start({}, {}));
  CHECK_FALSE(may_start({kMostChildren, 0}, {}));
  CHECK(may_start({kMostChildren - 1, 0}, {kMostOfUser - 1, 0}));
  CHECK_FALSE(may_start({kMostOfUser, 0}, {kMostOfUser, 0}));
  // One who has children that do not end.
  std::size_t count = 0;
  while (may_start({count, count}, {count, count}))
    ++count;
  CHECK(count == kMostStuck);
  CHECK(may_start({count, count}, {}));
  // As many users as one likes, each with as many as it gets: others still get theirs.
  std::size_t all = 0, users = 0;
  for (; users < 200; ++users)
    for (std::size_t of_user = 0; may_start({all, all}, {of_user, of_user}); ++of_user)
      ++all;
  CHECK(all < kMostChildren);
  CHECK(may_start({all, all}, {0, 0}));
  CHECK_FALSE(may_start({all, all}, {1, 1}));
}

namespace {

void be(uid_t uid) {
  if (::setgroups(0, nullptr) != 0 || ::setresgid(uid, uid, uid) != 0 ||
      ::setresuid(uid, uid, uid) != 0)
    ::_exit(99);
}

// A process that does this and then waits to be ended; it has begun to wait when this returns.
pid_t started(const std::function<void()>& work) {
  std::array<int, 2> ready{};
  REQUIRE(::pipe(ready.data()) == 0);
  const pid_t pid = ::fork();
  if (pid == 0) {
    work();
    (void)!::write(ready[1], "x", 1);
    for (;;)
      ::pause();
  }
  ::close(ready[1]);
  char octet = 0;
  REQUIRE(::read(ready[0], &octet, 1) == 1);
  ::close(ready[0]);
  return pid;
}

// As the parent is: the daemon's user, with the right to become others.
void be_parent() {
  ::prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0);
  constexpr auto kRights = capability(CAP_SETUID) | capability(CAP_SETGID);
  if (::setresgid(kOwn, kOwn, kOwn) != 0 || ::setresuid(kOwn, kOwn, kOwn) != 0 ||
      !keep_only(kRights, kRights))
    ::_exit(98);
}

ParentRules rules() {
  ParentRules rules;
  rules.own = {"own", kOwn, kOwn};
  rules.may_become_users = true;
  return rules;
}

bool is_killed(pid_t pid) {
  int status = 0;
  return ::waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

}  // namespace

TEST_CASE("as root: who ends a user's processes is out of that user's reach", "[daemon][enders]") {
  if (::geteuid() != 0) {
    WARN("not run: needs root");
    return;
  }
  const auto bobs = started([] { be(kBob); });
  const auto anns = started([] { be(kAnn); });
  const auto ender = started([] {
    be_parent();
    if (!act_against(rules(), {"bob", kBob, kBob}))
      ::_exit(97);
  });
  CHECK(apart([&] {
          be(kBob);
          ::setsid();  // as commands do: SIGCONT goes to the own session
          int reached = 0;
          for (const int number : {0, SIGSTOP, SIGCONT, SIGKILL, SIGHUP})
            reached += ::kill(ender, number) == 0 ? 1 : 0;
          ::kill(-1, SIGSTOP);  // bob's own process stops; this one does not signal itself
          rlimit limit{};
          return reached + (::prlimit(ender, RLIMIT_CPU, nullptr, &limit) == 0 ? 1 : 0);
        }) == 0);
  CHECK(::waitpid(ender, nullptr, WNOHANG | WUNTRACED) == 0);
  // What it may: that user's, stopped ones too, and nobody else's.
  CHECK(apart([&] {
          be_parent();
          if (!act_against(rules(), {"bob", kBob, kBob}))
            return 1;
          if (::kill(anns, SIGKILL) == 0 || ::kill(1, 0) == 0)
            return 2;
          return ::kill(bobs, SIGKILL) == 0 ? 0 : 3;
        }) == 0);
  CHECK(is_killed(bobs));
  // And the parent, who is the daemon's user, ends it.
  CHECK(apart([&] {
          be_parent();
          return ::kill(ender, SIGKILL);
        }) == 0);
  CHECK(is_killed(ender));
  ::kill(anns, SIGKILL);
  CHECK(is_killed(anns));
  CHECK(apart([] {
          be_parent();
          return act_against(rules(), {"root", 0, 0}) ? 1 : 0;
        }) == 0);
}

TEST_CASE("a tree of processes ends, and nothing of other users", "[daemon][enders]") {
  std::array<int, 2> told{};
  REQUIRE(::pipe(told.data()) == 0);
  // A root that is stopped already, with a child and a grandchild in sessions of their own.
  const auto root = started([&] {
    if (::fork() == 0) {
      ::setsid();
      if (::fork() == 0)
        ::setsid();
      const auto pid = ::getpid();
      (void)!::write(told[1], &pid, sizeof pid);
      for (;;)
        ::pause();
    }
  });
  std::array<pid_t, 2> below{};
  for (auto& pid : below)
    REQUIRE(::read(told[0], &pid, sizeof pid) == sizeof pid);
  ::prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
  ::kill(root, SIGSTOP);
  const auto opened = delivery::open_processes({root});
  REQUIRE(opened.size() == 1);
  delivery::end_trees(opened, ::getuid());
  CHECK(is_killed(root));
  for (const auto pid : below)
    CHECK(is_killed(pid));

  // Below the root another user's: let alone.
  const auto other = started([] {});
  delivery::end_trees(delivery::open_processes({other}), kAnn);
  CHECK(is_killed(other));  // a root is who was opened
  const auto above = started([&] {
    if (::fork() == 0) {
      const auto pid = ::getpid();
      (void)!::write(told[1], &pid, sizeof pid);
      for (;;)
        ::pause();
    }
  });
  REQUIRE(::read(told[0], below.data(), sizeof(pid_t)) == sizeof(pid_t));
  delivery::end_trees(delivery::open_processes({above}), ::getuid() + 1);
  CHECK(is_killed(above));
  CHECK(::kill(below[0], 0) == 0);
  ::kill(below[0], SIGKILL);
  CHECK(is_killed(below[0]));
  ::prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0);
  ::close(told[0]);
  ::close(told[1]);
}
