// What the daemon itself may still reach once it serves: derived from the configuration.
#pragma once

#include "daemon/config/config.h"
#include "daemon/config/options.h"
#include "daemon/privsep/sandbox.h"

#include <cstddef>
#include <string>
#include <vector>

namespace postrider::daemon {

// What a configuration names to be read, or at least looked for.
struct NamedPath {
  const Option* option = nullptr;
  std::size_t index = 0;  // of its section
  std::string path;
};
std::vector<NamedPath> named_paths(const Config& config);

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
