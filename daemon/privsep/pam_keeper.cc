#include "daemon/privsep/pam_keeper.h"

#include "daemon/privsep/capabilities.h"
#include "smtpd/auth/pam_helper.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <grp.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
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

std::string listed(const std::vector<std::string>& names) {
  std::string out;
  for (const auto& name : names)
    out += (out.empty() ? "" : ",") + name;
  return out;
}

// Open to the daemon's group, of which web.user is a member; whoever of them connects, the helper
// looks at the kernel's word for who it is. What lay there was ours: nobody else may write there.
Result<FileDescriptor> open_door(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    return Error(Errc::too_long, "listen on " + path);
  std::memcpy(address.sun_path, path.data(), path.size());
  FileDescriptor door(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!door.is_open())
    return system_error("socket");
  struct stat about {};
  if (::lstat(path.c_str(), &about) == 0 && S_ISSOCK(about.st_mode))
    ::unlink(path.c_str());
  constexpr mode_t kOthersNot = 0117;
  constexpr int kBacklog = 64;
  const auto before = ::umask(kOthersNot);
  const int bound = ::bind(door.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  ::umask(before);
  if (bound != 0 || ::listen(door.get(), kBacklog) != 0)
    return system_error("listen on " + path);
  return door;
}

[[noreturn]] void become_helper(const ParentRules& rules, int socket, pid_t parent,
                                const std::vector<std::string>& given) {
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
  // A socket that listens does not tell that the daemon has ended; the parent's end does.
  if (::prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0) != 0 || ::getppid() != parent)
    ::_exit(71);
  std::string name = "postrider-pam", path = "PATH=/usr/bin:/bin";
  auto texts = given;
  std::vector<char*> arguments{name.data()};
  for (auto& text : texts)
    arguments.push_back(text.data());
  arguments.push_back(nullptr);
  std::array<char*, 2> environment{path.data(), nullptr};
  ::execve(program.c_str(), arguments.data(), environment.data());
  ::_exit(71);
}

}  // namespace

Result<uid_t> page_user(const ParentRules& rules) {
  if (!rules.may_become_users)
    return ::geteuid();
  const auto& name = rules.config->web.user;
  if (name.empty())
    return uid_t{0};
  const auto account = find_account(name);
  if (!account)
    return account.error();
  return account->uid;
}

// Without a configuration, as before.
std::vector<std::string> PamKeeper::arguments_of(const ParentRules& rules) const {
  if (!rules.config)
    return arguments_;
  if (!is_of_page_)
    return rules.config->auth.pam.empty() ? std::vector<std::string>()
                                          : std::vector<std::string>{rules.config->auth.pam};
  const auto& web = rules.config->web;
  if (web.pam.empty())
    return {};
  const auto user = page_user(rules);
  if (!user) {
    std::fprintf(stderr, "postrider: web.pam: nobody can log in: there is no user %s (web.user)\n",
                 web.user.c_str());
    return {};
  }
  return {web.pam, std::to_string(*user), listed(web.pam_read), listed(web.pam_change)};
}

void PamKeeper::serve(const ParentRules& rules) {
  auto arguments = arguments_of(rules);
  if (arguments == arguments_)
    return;
  arguments_ = std::move(arguments);
  if (is_of_page_ && arguments_.empty() && rules.config) {
    ::unlink(rules.config->control.web_login().c_str());
    socket_.reset();
  }
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
  if (arguments_.empty())
    return;
  started_ = now;
  if (is_of_page_ && !socket_.is_open()) {
    auto door = open_door(rules.config->control.web_login());
    if (!door) {
      std::fprintf(stderr, "postrider: web.pam: nobody can log in: %s\n",
                   door.error().describe().c_str());
      due_ = now + kLongestPause;
      return;
    }
    socket_ = *std::move(door);
  }
  const pid_t own = ::getpid();
  pid_ = ::fork();
  if (pid_ == 0)
    become_helper(rules, socket_.get(), own, arguments_);
  if (pid_ < 0)
    due_ = now + kLongestPause;
}

}  // namespace postrider::daemon
