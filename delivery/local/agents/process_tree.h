// The processes that one process started, and what those started, whatever they did to get away:
// sessions of their own, parents that ended. Nothing here needs more rights than the user's.
#pragma once

#include "base/file.h"
#include "base/time.h"

#include <functional>
#include <sys/types.h>
#include <vector>

namespace postrider::delivery {

// Of all its threads; empty where /proc does not say.
std::vector<pid_t> children_of(pid_t pid);

// Kills them with all that descends from them. All are stopped first, until no new ones appear:
// whoever forks without end gets no place for another by the death of one.
void end_trees(const std::vector<pid_t>& roots);

// A child that was not reaped before it was opened: no other process can take its place.
struct OpenedProcess {
  pid_t pid = 0;
  FileDescriptor process;  // pidfd
};
// Those that there are, as far as descriptors reach.
std::vector<OpenedProcess> open_processes(const std::vector<pid_t>& pids);
// As above, by a process that may signal more than this user's: what descends from the roots is
// let alone unless it is that user's.
void end_trees(const std::vector<OpenedProcess>& roots, uid_t user);

// Ends and reaps all children of this process, which has one thread and is their subreaper
// (PR_SET_CHILD_SUBREAPER). They have `patience` to end by themselves. end: instead of end_trees().
// False: some were left after some seconds.
bool end_children(Duration patience, const std::function<void()>& end = {});

}  // namespace postrider::delivery
