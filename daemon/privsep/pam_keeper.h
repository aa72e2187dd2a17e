// The parent's hold on postrider-pam, the process that asks PAM: starts it, with the rights that
// PAM needs and no others, and starts it again if it dies. The socket to it stays the same, so that
// the daemon, which has the other end, need not know; questions wait in it.
//
// Its rights: the daemon's user, of whose groups it has none but "shadow", if there is such a group
// (so that pam_unix, or the setgid unix_chkpwd that it runs, can read /etc/shadow); no capability;
// no new privileges, so no setuid program of a module's works. Without root: who we are.
#pragma once

#include "base/file.h"
#include "base/result.h"
#include "base/time.h"
#include "daemon/privsep/parent_checks.h"

#include <optional>
#include <string>
#include <sys/types.h>

namespace postrider::daemon {

class PamKeeper {
 public:
  explicit PamKeeper(FileDescriptor socket) : socket_(std::move(socket)) {}

  // Starts it for this service, ends it for none, another for another.
  void serve(const ParentRules& rules);
  // Whether that was it; then it is due again after a while, longer each time it fails soon.
  bool has_ended(pid_t pid, SteadyTime now);
  pid_t pid() const { return pid_; }  // 0: it does not run
  std::optional<SteadyTime> due() const { return due_; }
  void start(const ParentRules& rules, SteadyTime now);
  void forget_socket() { socket_.reset(); }  // in a child of the parent

 private:
  FileDescriptor socket_;
  std::string service_;
  pid_t pid_ = 0;
  std::optional<SteadyTime> due_;
  SteadyTime started_{};
  Duration pause_{};
};

}  // namespace postrider::daemon
