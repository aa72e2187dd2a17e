// For what a test cannot undo: losing rights, becoming another user.
#pragma once

#include <functional>
#include <sys/wait.h>
#include <unistd.h>

// Runs work in a process of its own, which ends with what it returns: that exit code, or 1000 and
// the number of the signal that ended it.
inline int apart(const std::function<int()>& work) {
  const pid_t child = ::fork();
  if (child == 0)
    ::_exit(work());
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}
