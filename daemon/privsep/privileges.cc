#include "daemon/privsep/privileges.h"

#include "base/assert.h"
#include "base/file.h"
#include "base/text.h"
#include "base/user_mounts.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <deque>
#include <fcntl.h>
#include <grp.h>
#include <optional>
#include <pwd.h>
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

Result<gid_t> find_group(const std::string& name) {
  constexpr std::size_t kMostRoom = 4U << 20U;  // a group has as many members as it likes
  group entry{};
  group* found = nullptr;
  int failure = ERANGE;
  for (std::size_t room = 16384; failure == ERANGE && room <= kMostRoom; room *= 4) {
    std::vector<char> buffer(room);
    failure = getgrnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found);
  }
  if (failure != 0)
    return system_error(failure, "look up group " + name);
  if (found == nullptr)
    return Error(make_error_code(Errc::not_found), "look up group " + name);
  return entry.gr_gid;
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
  return {};
}

Result<void> give_up_root(const std::string& user) {
  if (geteuid() != 0 || user.empty())
    return {};
  const auto account = find_account(user);
  return account ? become_for_good(*account) : account.error();
}

namespace {

using Keepers = std::vector<uid_t>;

bool is_one_of(const Keepers& keepers, uid_t uid) {
  return std::find(keepers.begin(), keepers.end(), uid) != keepers.end();
}

// Others than these cannot put another thing in the place of a name of theirs in it.
bool is_kept_by(const Keepers& keepers, const struct stat& folder) {
  const bool others_write = (folder.st_mode & (S_IWGRP | S_IWOTH)) != 0;
  return is_one_of(keepers, folder.st_uid) &&
         (!others_write || (folder.st_uid == 0 && (folder.st_mode & S_ISVTX) != 0));
}

// A path, component by component, on descriptors. Symbolic links are followed where root (or one of
// the keepers) made them in a folder of theirs; one that another made, or could have, is refused.
class Way {
 public:
  explicit Way(const std::string& path, FolderUse use = FolderUse::change)
      : path_(path), use_(use) {
    push(path);
  }
  // Each folder on it must be kept by these: nobody else could have put it there. Needs no right to
  // read the folders.
  Way(const std::string& path, Keepers keepers)
      : path_(path),
        keepers_(std::move(keepers)),
        must_be_kept_(true),
        use_(FolderUse::pass_through) {
    push(path);
  }

  bool done() const { return (left_.empty() && at_.is_open()) || failed_; }
  // Goes on by one component. False: it is missing, and what at() and name() tell is free.
  bool next() {
    if (!at_.is_open())
      return fail_unless(open(begin_, O_DIRECTORY));
    name_ = std::move(left_.front());
    left_.pop_front();
    if (open(name_, O_DIRECTORY | O_NOFOLLOW))
      return true;
    if (errno == ENOENT)
      return false;
    return errno == ELOOP || errno == ENOTDIR ? follow() : fail_unless(false);
  }
  int at() const { return at_.get(); }
  const std::string& name() const { return name_; }
  bool enter() { return open(name_, O_DIRECTORY | O_NOFOLLOW); }
  std::optional<Error> failure() const { return failed_; }
  FileDescriptor take() { return std::move(at_); }

 private:
  static constexpr int kMostLinks = 16;

  void push(std::string_view path) {
    std::vector<std::string> parts;
    for (const auto part : split(path, '/'))
      if (!part.empty() && part != ".")
        parts.emplace_back(part);
    left_.insert(left_.begin(), parts.begin(), parts.end());
  }
  bool open(const std::string& name, int flags) {
    FileDescriptor opened(
        ::openat(at_.is_open() ? at_.get() : AT_FDCWD, name.c_str(), O_PATH | O_CLOEXEC | flags));
    if (!opened.is_open())
      return false;
    const auto mount = mount_of(opened);
    if (mount != mount_ && is_users_mount(mount))
      failed_ = Error(Errc::refused, "open folder " + path_ + " (a user has mounted it)");
    mount_ = mount;
    if (use_ != FolderUse::pass_through && !failed_) {
      auto again = reopen(opened, O_RDONLY | O_DIRECTORY);
      if (!again) {
        errno = again.error().code().value();
        return false;
      }
      opened = *std::move(again);
    }
    struct stat about {};
    if (!failed_ && must_be_kept_ &&
        (::fstat(opened.get(), &about) != 0 || !is_kept_by(keepers_, about)))
      failed_ = Error(Errc::refused, "open folder " + path_ + " (others could have put it there)");
    at_ = std::move(opened);
    return true;
  }
  bool fail_unless(bool well) {
    if (!well)
      failed_ = system_error("open folder " + path_);
    return true;
  }
  bool follow() {
    struct stat folder {};
    struct stat link {};
    const bool is_link = ::fstat(at_.get(), &folder) == 0 &&
                         ::fstatat(at_.get(), name_.c_str(), &link, AT_SYMLINK_NOFOLLOW) == 0 &&
                         S_ISLNK(link.st_mode);
    std::array<char, 4096> target{};
    const auto size =
        is_link ? ::readlinkat(at_.get(), name_.c_str(), target.data(), target.size()) : -1;
    if (!is_link)
      failed_ = system_error(ENOTDIR, "open folder " + path_);
    else if (!is_kept_by(keepers_, folder) || !is_one_of(keepers_, link.st_uid) ||
             ++links_ > kMostLinks || size <= 0 || static_cast<std::size_t>(size) == target.size())
      failed_ = Error(Errc::refused, "follow the symbolic link " + name_ + " in " + path_);
    if (failed_)
      return true;
    const std::string_view to(target.data(), static_cast<std::size_t>(size));
    if (to.front() == '/') {
      at_.reset();
      begin_ = "/";
    }
    push(to);
    return true;
  }

  const std::string path_;
  const Keepers keepers_{0};
  const bool must_be_kept_ = false;
  const FolderUse use_;
  std::string begin_ = path_.starts_with('/') ? "/" : ".";
  std::deque<std::string> left_;
  FileDescriptor at_;
  std::uint64_t mount_ = 0;  // of at_
  std::string name_;
  std::optional<Error> failed_;
  int links_ = 0;
};

// The folder that was just made there; nobody else's that took its place.
Result<void> settle_folder(const Way& way, const std::string& path, const Account& account,
                           mode_t mode) {
  struct stat about {};
  if (::fstat(way.at(), &about) != 0 || about.st_uid != ::geteuid())
    return Error(Errc::refused, "make folder " + path + " (somebody else made it)");
  if (::geteuid() == 0 && ::fchown(way.at(), account.uid, account.gid) != 0)
    return system_error("give folder " + path + " to " + account.name);
  if (::fchmod(way.at(), mode) != 0)  // whatever the umask is
    return system_error("set the mode of " + path);
  return {};
}

}  // namespace

Result<FileDescriptor> open_folder_as_root(const std::string& path, FolderUse use) {
  Way way(path, use);
  while (!way.done())
    if (!way.next())
      return system_error(ENOENT, "open folder " + path);
  if (way.failure())
    return *way.failure();
  return way.take();
}

Result<FileDescriptor> open_folder_of(const std::string& path, const std::vector<uid_t>& keepers) {
  Way way(path, keepers);
  while (!way.done())
    if (!way.next())
      return system_error(ENOENT, "open folder " + path);
  if (way.failure())
    return *way.failure();
  return way.take();
}

Result<void> provide_folder(const std::string& path, const Account& account, mode_t mode) {
  Way way(path);
  while (!way.done()) {
    if (way.next())
      continue;
    if (::mkdirat(way.at(), way.name().c_str(), 0700) != 0 && errno != EEXIST)
      return system_error("make folder " + path);
    if (!way.enter())
      return system_error("make folder " + path);
    const bool is_last = way.done();
    const auto settled = is_last ? settle_folder(way, path, account, mode)
                                 : settle_folder(way, path, Account{"root", 0, 0}, kParentMode);
    if (!settled)
      return settled;
  }
  if (way.failure())
    return *way.failure();
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
