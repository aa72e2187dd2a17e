// The parent's hold on postrider-pam, the process that asks PAM: starts it, with the rights that
// PAM needs and no others, and starts it again if it dies. The socket to it stays the same, so that
// whoever asks need not know; questions wait in it.
//
// There is one for those who log in to submit mail (auth.pam), at a socket that only the daemon has
// the other end of, and one for those who log in to the page of postrider-web (web.pam), at a
// socket file beside control.socket, at which it answers the user of postrider-web alone: neither
// the daemon nor an administrator sees those passwords, or can try any.
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
#include <vector>

namespace postrider::daemon {

class PamKeeper {
 public:
  explicit PamKeeper(FileDescriptor socket) : socket_(std::move(socket)) {}
  static PamKeeper of_page() { return {}; }

  // Starts it for the service of these rules, ends it for none, another for another.
  void serve(const ParentRules& rules);
  // Whether that was it; then it is due again after a while, longer each time it fails soon.
  bool has_ended(pid_t pid, SteadyTime now);
  pid_t pid() const { return pid_; }  // 0: it does not run
  std::optional<SteadyTime> due() const { return due_; }
  void start(const ParentRules& rules, SteadyTime now);
  void forget_socket() { socket_.reset(); }  // in a child of the parent

 private:
  PamKeeper() : is_of_page_(true) {}
  std::vector<std::string> arguments_of(const ParentRules& rules) const;

  const bool is_of_page_ = false;
  FileDescriptor socket_;
  std::vector<std::string> arguments_;  // the service first; empty: it is not to run
  pid_t pid_ = 0;
  std::optional<SteadyTime> due_;
  SteadyTime started_{};
  Duration pause_{};
};

// Of whom the helper of the page takes questions: web.user, or who we are where the parent cannot
// become anybody. not_found: there is no such user.
Result<uid_t> page_user(const ParentRules& rules);

}  // namespace postrider::daemon
