// What the daemon itself may still reach once it serves: derived from the configuration.
#pragma once

#include "daemon/config/config.h"
#include "daemon/privsep/sandbox.h"

#include <string>
#include <vector>

namespace postrider::daemon {

// To read: the system's files (/etc, /usr, /run, ...), and the folders of all files that the
// configuration names. To write: the spool, the folders of the sockets and of the log.
SandboxPaths sandbox_paths(const Config& config, const std::string& config_file);
// Files that a new configuration names and the old one's sandbox does not hold: they need a
// restart.
std::vector<std::string> out_of_reach(const SandboxPaths& sandbox, const SandboxPaths& wanted);

// How well it is held, for the log and `postrider status`.
struct Confinement {
  bool calls_held = false, files_held = false;
  std::string calls;  // "seccomp", or why it does not hold
  std::string files;  // "Landlock, version 3", or why it does not hold
  std::string users;  // as whom local mail is delivered
};

}  // namespace postrider::daemon
