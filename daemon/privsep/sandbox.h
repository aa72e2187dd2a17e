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
  // Folders: to write to files and to make new ones, not to read or remove any.
  std::vector<std::string> append = {};
};

// Opening a file elsewhere, and executing any, fails with EACCES; paths that do not exist are left
// out. No links, devices or pipes are made anywhere. Where the kernel can: no signals to processes
// outside, and no abstract sockets of theirs. For this thread and those it starts. Sets "no new
// privileges".
std::string restrict_files(const SandboxPaths& paths);

// Where the kernel can (Landlock 6): no signals to processes that this thread does not start from
// now on, those of the same user included. "No new privileges" must be set.
std::string restrict_signals();

// The daemon: a list of the system calls that it needs; all others fail with EPERM, among them
// those that start programs, trace processes, change users, mount and load. For all threads.
std::string restrict_calls();

// No core dump, and no look into our memory or descriptors for others of the same user; or both.
void hide_memory(bool hidden);

// postrider-pam: as the daemon, but its modules may start programs. No tracing, no other kinds of
// sockets, no signals to others than its own children. For this thread.
std::string restrict_helper_calls();

// Short forms for processes that do one thing: no programs, sockets or other processes' memory.
// asks_servers: but connections to others.
std::string forbid_programs(bool asks_servers = false);
// No user id 0, by whatever call; for the parent, which has the right.
Result<void> forbid_root();

// 0: the kernel has no Landlock.
int landlock_version();

}  // namespace postrider::daemon
