// Who ends what a user's deliveries left: for each user one short process of the parent's at a
// time, tried again, with pauses that grow to some seconds, as long as there is something to end.
// One that does not end is itself ended and replaced. Nobody's waits for another's. Only the
// books: the parent forks.
#pragma once

#include "base/time.h"
#include "daemon/privsep/privileges.h"

#include <map>
#include <sys/types.h>
#include <vector>

namespace postrider::daemon {

class Enders {
 public:
  static constexpr std::size_t kMostAtOnce = 32;
  static constexpr Duration kFirstPause{250};
  static constexpr Duration kLongestPause{2000};
  static constexpr Duration kPatience{10'000};

  // wanted: all users that have something to be ended now. Gives those whose process is to be
  // started, who has waited longest first; a user who has nothing any more is forgotten.
  std::vector<Account> due(const std::map<uid_t, Account>& wanted, SteadyTime now);
  // Of a user that was due.
  void started(uid_t uid, pid_t pid, SteadyTime now);
  void not_started(uid_t uid, SteadyTime now);
  // Whether that was one.
  bool has_ended(pid_t pid, SteadyTime now);
  // Those that run for too long: to be killed.
  std::vector<pid_t> overdue(SteadyTime now) const;
  bool has(pid_t pid) const;
  std::size_t running() const;
  bool is_empty() const { return users_.empty(); }

 private:
  struct User {
    Account account;
    pid_t pid = 0;         // 0: none runs
    SteadyTime started{};  // of that
    SteadyTime due{};      // else
    Duration pause = kFirstPause;
    bool is_wanted = true;
  };
  void rest(User& user, SteadyTime now);

  std::map<uid_t, User> users_;
};

}  // namespace postrider::daemon
