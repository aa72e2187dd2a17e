#include "tests/support/sync_record.h"

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstdint>
#include <fcntl.h>
#include <filesystem>
#include <map>
#include <mutex>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <utility>

namespace {

using Inode = std::pair<dev_t, ino_t>;

// Numbers of calls, in order; 0: never.
struct History {
  std::uint64_t written = 0, synced = 0;
  std::uint64_t named = 0;    // made, or renamed
  std::uint64_t changed = 0;  // of a folder: a name in it came, went or moved
};

std::mutex mutex;
bool is_recording = false;
std::uint64_t calls = 0;
std::map<Inode, History> histories;
struct Failures {
  unsigned after = 0, times = 0;  // syncs that go well first, and that fail then
};
std::map<Inode, Failures> failures;
std::function<void()> before_failure;

Inode inode_of(const struct stat& about) {
  return {about.st_dev, about.st_ino};
}

// Keeps errno, which belongs to the call that is remembered.
template <typename Work>
void remember(const Work& work) {
  const int saved = errno;
  const std::lock_guard lock(mutex);
  if (is_recording)
    work(++calls);
  errno = saved;
}

void remember_of(int fd, std::uint64_t History::*what) {
  remember([&](std::uint64_t now) {
    struct stat about {};
    if (::fstat(fd, &about) == 0)
      histories[inode_of(about)].*what = now;
  });
}

// Of what had to be synced there still.
void remember_all_of(int fd) {
  remember([&](std::uint64_t now) {
    struct stat about {};
    if (::fstat(fd, &about) != 0)
      return;
    for (auto& [inode, history] : histories)
      if (inode.first == about.st_dev &&
          (history.written > history.synced || history.changed > history.synced))
        history.synced = now;
  });
}

void remember_change(int at, const char* name) {
  remember([&](std::uint64_t now) {
    const std::string path(name);
    const auto slash = path.rfind('/');
    const auto folder = slash == path.npos ? "." : path.substr(0, slash + 1);
    struct stat about {};
    if (::fstatat(at, folder.c_str(), &about, 0) == 0)
      histories[inode_of(about)].changed = now;
  });
}

void remember_name(int at, const char* name) {
  remember_change(at, name);
  remember([&](std::uint64_t now) {
    struct stat about {};
    if (::fstatat(at, name, &about, AT_SYMLINK_NOFOLLOW) == 0)
      histories[inode_of(about)].named = now;
  });
}

int opened(int at, const char* name, int flags, mode_t mode) {
  struct stat about {};
  const bool is_new =
      (flags & O_CREAT) != 0 && ::fstatat(at, name, &about, AT_SYMLINK_NOFOLLOW) != 0;
  const auto fd = static_cast<int>(::syscall(SYS_openat, at, name, flags, mode));
  if (fd >= 0 && is_new)
    remember_name(at, name);
  if (fd >= 0 && (flags & O_TRUNC) != 0)
    remember_of(fd, &History::written);
  return fd;
}

int renamed(int from_at, const char* from, int to_at, const char* to, unsigned flags) {
  const auto done = static_cast<int>(::syscall(SYS_renameat2, from_at, from, to_at, to, flags));
  if (done == 0) {
    remember_change(from_at, from);
    remember_name(to_at, to);
  }
  return done;
}

int made(int at, const char* name, mode_t mode) {
  const auto done = static_cast<int>(::syscall(SYS_mkdirat, at, name, mode));
  if (done == 0)
    remember_name(at, name);
  return done;
}

int removed(int at, const char* name, int flags) {
  const auto done = static_cast<int>(::syscall(SYS_unlinkat, at, name, flags));
  if (done == 0)
    remember_change(at, name);
  return done;
}

ssize_t wrote(int fd, ssize_t octets) {
  if (octets > 0)
    remember_of(fd, &History::written);
  return octets;
}

bool is_to_fail(int fd) {
  const std::lock_guard lock(mutex);
  struct stat about {};
  if (failures.empty() || ::fstat(fd, &about) != 0)
    return false;
  const auto found = failures.find(inode_of(about));
  if (found == failures.end())
    return false;
  auto& [after, times] = found->second;
  auto& left = after > 0 ? after : times;
  const bool fails = after == 0 && times > 0;
  left -= left > 0 ? 1 : 0;
  return fails;
}

bool is_any_to_fail() {
  const std::lock_guard lock(mutex);
  return std::any_of(failures.begin(), failures.end(),
                     [](const auto& one) { return one.second.times > 0; });
}

int synced(int fd, int done) {
  if (done == 0)
    remember_of(fd, &History::synced);
  return done;
}

}  // namespace

extern "C" {
int fsync(int fd) {
  if (is_to_fail(fd)) {
    errno = EIO;
    return -1;
  }
  return synced(fd, static_cast<int>(::syscall(SYS_fsync, fd)));
}
int fdatasync(int fd) {
  return synced(fd, static_cast<int>(::syscall(SYS_fdatasync, fd)));
}
int syncfs(int fd) noexcept {
  if (is_any_to_fail()) {
    if (before_failure)
      before_failure();
    errno = EIO;
    return -1;
  }
  const auto done = static_cast<int>(::syscall(SYS_syncfs, fd));
  if (done == 0)
    remember_all_of(fd);
  return done;
}
ssize_t write(int fd, const void* from, size_t size) {
  return wrote(fd, ::syscall(SYS_write, fd, from, size));
}
ssize_t pwrite(int fd, const void* from, size_t size, off_t offset) {
  return wrote(fd, ::syscall(SYS_pwrite64, fd, from, size, offset));
}
int open(const char* name, int flags, ...) {
  va_list list;
  va_start(list, flags);
  const auto mode = (flags & O_CREAT) != 0 ? va_arg(list, mode_t) : 0;
  va_end(list);
  return opened(AT_FDCWD, name, flags, mode);
}
int openat(int at, const char* name, int flags, ...) {
  va_list list;
  va_start(list, flags);
  const auto mode = (flags & O_CREAT) != 0 ? va_arg(list, mode_t) : 0;
  va_end(list);
  return opened(at, name, flags, mode);
}
int rename(const char* from, const char* to) noexcept {
  return renamed(AT_FDCWD, from, AT_FDCWD, to, 0);
}
int renameat(int from_at, const char* from, int to_at, const char* to) noexcept {
  return renamed(from_at, from, to_at, to, 0);
}
int renameat2(int from_at, const char* from, int to_at, const char* to, unsigned flags) noexcept {
  return renamed(from_at, from, to_at, to, flags);
}
int mkdir(const char* name, mode_t mode) noexcept {
  return made(AT_FDCWD, name, mode);
}
int mkdirat(int at, const char* name, mode_t mode) noexcept {
  return made(at, name, mode);
}
int unlink(const char* name) noexcept {
  return removed(AT_FDCWD, name, 0);
}
int unlinkat(int at, const char* name, int flags) noexcept {
  return removed(at, name, flags);
}
}

namespace postrider {

namespace {

History history_of(const std::string& path) {
  struct stat about {};
  if (::lstat(path.c_str(), &about) != 0)
    return {};
  const auto found = histories.find(inode_of(about));
  return found == histories.end() ? History{} : found->second;
}

std::string lack_of_name(const std::filesystem::path& path) {
  if (!path.has_parent_path() || path.parent_path() == path || history_of(path).named == 0)
    return {};
  const auto folder = history_of(path.parent_path());
  if (folder.synced < history_of(path).named)
    return "the name " + path.string() + " is not synced";
  return lack_of_name(path.parent_path());
}

}  // namespace

SyncRecord::SyncRecord() {
  const std::lock_guard lock(mutex);
  is_recording = true;
  histories.clear();
}

SyncRecord::~SyncRecord() {
  const std::lock_guard lock(mutex);
  is_recording = false;
  failures.clear();
  before_failure = nullptr;
}

void SyncRecord::fail(const std::string& path, unsigned times, unsigned after) {
  const std::lock_guard lock(mutex);
  struct stat about {};
  if (::stat(path.c_str(), &about) == 0)
    failures[inode_of(about)] = {after, times};
}

void SyncRecord::meanwhile(std::function<void()> what) {
  before_failure = std::move(what);
}

std::string SyncRecord::lack(const std::string& path) {
  const std::lock_guard lock(mutex);
  if (!std::filesystem::exists(path))
    return path + " is not there";
  const auto history = history_of(path);
  if (history.written > history.synced)
    return "the content of " + path + " is not synced";
  return lack_of_name(path);
}

std::string SyncRecord::lack_of_renamed(const std::string& path) {
  if (auto found = lack(path); !found.empty())
    return found;
  const std::lock_guard lock(mutex);
  const auto history = history_of(path);
  if (history.synced == 0 || history.named == 0)
    return path + " was not written and renamed";
  return history.synced < history.named ? std::string() : path + " was named before it was synced";
}

}  // namespace postrider
