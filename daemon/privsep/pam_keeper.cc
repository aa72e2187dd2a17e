#include "daemon/privsep/pam_keeper.h"

#include "daemon/privsep/capabilities.h"
#include "smtpd/auth/pam_helper.h"

#include <algorithm>
#include <array>
#include <csignal>
#include <grp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <vector>

namespace postrider::daemon {

namespace {

constexpr Duration kFirstPause{std::chrono::seconds(1)};
constexpr Duration kLongestPause{std::chrono::minutes(1)};
// Whatever lived that long was well.
constexpr Duration kWell{std::chrono::minutes(1)};

bool lose_rights(const ParentRules& rules) {
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
    return false;
  if (!rules.may_become_users)
    return true;
  std::vector<gid_t> groups = {rules.own.gid};
  if (const group* shadow = ::getgrnam("shadow"); shadow != nullptr && shadow->gr_gid != 0)
    groups.push_back(shadow->gr_gid);
  return ::setgroups(groups.size(), groups.data()) == 0 &&
         ::setresgid(rules.own.gid, rules.own.gid, rules.own.gid) == 0 &&
         ::setresuid(rules.own.uid, rules.own.uid, rules.own.uid) == 0 &&
         keep_only(0, 0).has_value() && effective_capabilities() == 0;
}

[[noreturn]] void become_helper(const ParentRules& rules, int socket, const std::string& service) {
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGPIPE, SIGXFSZ, SIGCHLD})
    ::signal(number, SIG_DFL);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::setpgid(0, 0);  // a Ctrl-C is for the daemon; this ends with it
  const auto program = smtpd::auth::find_pam_program();
  if (program.empty() || ::dup2(socket, smtpd::auth::kPamSocket) < 0 || !lose_rights(rules))
    ::_exit(71);
  constexpr unsigned kBehind = smtpd::auth::kPamSocket + 1;
  ::syscall(SYS_close_range, kBehind, ~0U, 0U);
  std::string name = "postrider-pam", given = service, path = "PATH=/usr/bin:/bin";
  std::array<char*, 3> arguments{name.data(), given.data(), nullptr};
  std::array<char*, 2> environment{path.data(), nullptr};
  ::execve(program.c_str(), arguments.data(), environment.data());
  ::_exit(71);
}

}  // namespace

void PamKeeper::serve(const ParentRules& rules) {
  const auto& service = rules.config ? rules.config->auth.pam : service_;
  if (service == service_)
    return;
  service_ = service;
  if (pid_ > 0)
    ::kill(pid_, SIGTERM);  // the next one begins when this one has ended
  else
    start(rules, std::chrono::steady_clock::now());
}

bool PamKeeper::has_ended(pid_t pid, SteadyTime now) {
  if (pid_ <= 0 || pid != pid_)
    return false;
  pid_ = 0;
  pause_ =
      now - started_ > kWell ? kFirstPause : std::clamp(pause_ * 2, kFirstPause, kLongestPause);
  due_ = now + pause_;
  return true;
}

void PamKeeper::start(const ParentRules& rules, SteadyTime now) {
  due_.reset();
  if (service_.empty())
    return;
  started_ = now;
  pid_ = ::fork();
  if (pid_ == 0)
    become_helper(rules, socket_.get(), service_);
  if (pid_ < 0)
    due_ = now + kLongestPause;
}

}  // namespace postrider::daemon
