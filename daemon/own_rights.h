// As whom the daemon runs, and what it may still reach: from root with all rights to one user behind
// Landlock and seccomp, step by step in the order below.
#pragma once

#include "daemon/privsep/confinement.h"
#include "daemon/privsep/privileges.h"
#include "daemon/start_problems.h"

#include <optional>
#include <string>
#include <vector>

namespace postrider::daemon {

class ParentClient;

class OwnRights {
 public:
  void find_user(const Loaded& loaded, StartProblems& problems);
  // As root: folders that the user could not make, below /run and /var.
  void provide_folders(const Config& config, StartProblems& problems) const;
  // Before the first thread: Landlock holds for those that are started later.
  void restrict_own_files(const Loaded& loaded);
  // The rights of the user for as long as what it gives lives; nullopt: they are ours already.
  std::optional<Result<ActingAs>> act_as_user() const;
  // From here on there is no way back to root.
  void become_user(StartProblems& problems) const;
  // Once nothing is left to be opened with more rights. Holds for all threads.
  void restrict_own_calls(const Config& config, const ParentClient& parent,
                          StartProblems& problems);

  bool has_other_user() const { return account_.has_value(); }
  const Confinement& confinement() const { return confinement_; }
  void report(Log& log) const;
  // What a new configuration names and the daemon cannot reach before a restart.
  std::vector<std::string> beyond_reach(const Loaded& fresh) const;

 private:
  std::optional<Account> account_;  // whom to become
  SandboxPaths reach_;
  Confinement confinement_;
};

}  // namespace postrider::daemon
