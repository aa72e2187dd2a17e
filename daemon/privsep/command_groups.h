// Control groups (cgroups(7), version 2) for the commands of recipients, where the service manager
// has given us ours to divide (Delegate= in the unit):
//
//   postrider.service/            ours; no process may stay here
//     daemon/                     the daemon, its parent, the PAM helper, mailbox deliveries
//     commands/                   at most half of our processes and of the memory
//       1234/                     one command: local.command_processes, local.command_memory
//
// Elsewhere there are none, and commands have the limits of single processes.
#pragma once

#include "base/result.h"
#include "delivery/local/agents/command_group.h"
#include "delivery/local/agents/local_target.h"

#include <string>
#include <sys/types.h>

namespace postrider::daemon {

class CommandGroups {
 public:
  CommandGroups() = default;
  // Moves this process into daemon/ and makes commands/. Before it forks or has threads. own: the
  // daemon's user, never root; folder: own_folder(), of a group that belongs to that user.
  static Result<CommandGroups> divide(const std::string& folder, uid_t own, gid_t group);
  // The folder of this process's group, if it belongs to `own`; empty: it does not, or there is no
  // such thing.
  static std::string own_folder(uid_t own);

  bool exist() const { return !folder_.empty(); }
  // Of a command. With the rights of the daemon's user.
  Result<delivery::CommandGroup> make(const std::string& name,
                                      const delivery::TargetLimits& limits) const;
  // Kills what is in there, and removes it. False: it has not ended yet.
  bool end(const std::string& name) const;

 private:
  std::string folder_;  // commands
};

}  // namespace postrider::daemon
