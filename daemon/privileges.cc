#include "daemon/privileges.h"

#include "base/assert.h"
#include "base/file.h"

#include <cerrno>
#include <grp.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

namespace postrider::daemon {

namespace {
constexpr mode_t kParentMode = 0755;
}

Result<Account> find_account(const std::string& name) {
  std::vector<char> room(16384);
  passwd entry{};
  passwd* found = nullptr;
  const int failure = getpwnam_r(name.c_str(), &entry, room.data(), room.size(), &found);
  if (failure != 0)
    return system_error(failure, "look up user " + name);
  if (found == nullptr)
    return Error(make_error_code(Errc::not_found), "look up user " + name);
  return Account{name, found->pw_uid, found->pw_gid};
}

Result<ActingAs> ActingAs::become(const Account& account) {
  if (geteuid() != 0 || account.uid == 0)
    return ActingAs(false);
  if (initgroups(account.name.c_str(), account.gid) != 0)
    return system_error("take on the groups of " + account.name);
  if (setegid(account.gid) != 0)
    return system_error("act as the group of " + account.name);
  if (seteuid(account.uid) != 0) {
    auto error = system_error("act as " + account.name);
    POSTRIDER_ASSERT(setegid(0) == 0);
    return error;
  }
  return ActingAs(true);
}

ActingAs::~ActingAs() {
  if (!active_)
    return;
  POSTRIDER_ASSERT(seteuid(0) == 0);
  POSTRIDER_ASSERT(setegid(0) == 0);
}

Result<void> become_for_good(const Account& account) {
  if (geteuid() != 0)
    return {};
  if (initgroups(account.name.c_str(), account.gid) != 0)
    return system_error("take on the groups of " + account.name);
  if (setresgid(account.gid, account.gid, account.gid) != 0)
    return system_error("take on the group of " + account.name);
  if (setresuid(account.uid, account.uid, account.uid) != 0)
    return system_error("take on user " + account.name);
  if (account.uid != 0)
    POSTRIDER_ASSERT(setuid(0) != 0 && seteuid(0) != 0);
  // The change of user forbids core dumps; our own failures should leave one where limits allow.
  (void)prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
  return {};
}

Result<void> provide_folder(const std::string& path, const Account& account, mode_t mode) {
  struct stat status {};
  if (stat(path.c_str(), &status) == 0)
    return {};
  const auto parent = path.substr(0, path.rfind('/'));
  if (!parent.empty())
    if (auto made = provide_folder(parent, Account{"root", 0, 0}, kParentMode); !made)
      return made;
  if (mkdir(path.c_str(), mode) != 0)
    return errno == EEXIST ? Result<void>() : system_error("make folder " + path);
  if (chmod(path.c_str(), mode) != 0)  // whatever the umask is
    return system_error("set the mode of " + path);
  if (geteuid() == 0 && lchown(path.c_str(), account.uid, account.gid) != 0)
    return system_error("give folder " + path + " to " + account.name);
  return {};
}

std::uint64_t raise_file_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
    return 0;
  if (limit.rlim_cur < limit.rlim_max) {
    rlimit raised = limit;
    raised.rlim_cur = raised.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &raised) == 0)
      limit = raised;
  }
  return limit.rlim_cur;
}

}  // namespace postrider::daemon
