// A control group (cgroups(7), version 2) of one command's own, which holds all that it starts,
// and ends it as a whole. Made by whoever may (daemon/privsep/command_groups.h); usable then by the
// process that has become the command's user.
#pragma once

#include "base/file.h"

#include <string>

namespace postrider::delivery {

struct CommandGroup {
  std::string folder;
  FileDescriptor processes;  // cgroup.procs: who writes "0" there joins
  FileDescriptor kill;       // cgroup.kill; closed: the kernel has none
  bool holds_tasks = false;  // pids.max is in force
  // Kills all that is in there.
  void end() const;
  // What it wanted more of than it may have, as a sentence's end; empty: nothing.
  std::string wanted() const;
};

// How a command runs besides its own limits.
struct CommandSetting {
  int stop = -1;  // a descriptor; once it is readable the command is ended, to be tried again
  const CommandGroup* group = nullptr;
  // This process is there for this command only, and its children are what the command started.
  bool is_alone = false;
};

}  // namespace postrider::delivery
