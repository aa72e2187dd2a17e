// What the kernel forbids us from now on, whoever we are: files by Landlock, system calls by
// seccomp. Nothing of it can be undone. Each function gives an empty text, or why it could not.
#pragma once

#include "base/result.h"

#include <string>
#include <vector>

namespace postrider::daemon {

struct SandboxPaths {
  std::vector<std::string> read;   // files, or folders with all below them
  std::vector<std::string> write;  // folders: to read, write, make and remove files
};

// Opening a file elsewhere, and executing any, fails with EACCES; paths that do not exist are left
// out. For this thread and those it starts. Sets "no new privileges".
std::string restrict_files(const SandboxPaths& paths);

// The daemon: a list of the system calls that it needs; all others fail with EPERM, among them
// those that start programs, trace processes, change users, mount and load. For all threads.
std::string restrict_calls();

// Short forms for processes that do one thing: no programs, sockets or other processes' memory.
std::string forbid_programs();
// No user id 0, by whatever call; for the parent, which has the right.
Result<void> forbid_root();

// 0: the kernel has no Landlock.
int landlock_version();

}  // namespace postrider::daemon
