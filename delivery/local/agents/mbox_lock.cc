#include "delivery/local/agents/mbox_lock.h"

#include "base/text.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <ctime>
#include <fcntl.h>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>

namespace postrider::delivery {

namespace {

constexpr std::time_t kStaleAfter = 300;  // seconds, as liblockfile has it
// Without a word of its owner, as a power cut leaves it. Whoever is alive holds the file's own lock
// too, which comes first.
constexpr std::time_t kEmptyStaleAfter = 5;
constexpr Duration kFirstWait{5};
constexpr Duration kLongestWait{100};

// Growing waits up to the end of the patience.
class Patience {
 public:
  explicit Patience(Duration patience) : end_(std::chrono::steady_clock::now() + patience) {}
  bool wait() {
    if (std::chrono::steady_clock::now() >= end_)
      return false;
    std::this_thread::sleep_for(wait_);
    wait_ = std::min(wait_ * 2, kLongestWait);
    return true;
  }

 private:
  std::chrono::steady_clock::time_point end_;
  Duration wait_ = kFirstWait;
};

bool is_gone(std::int64_t pid) {
  return pid > 0 && ::kill(static_cast<pid_t>(pid), 0) != 0 && errno == ESRCH;
}

FileMark mark_of(const struct stat& about) {
  return {about.st_ino, about.st_mtim.tv_sec * std::int64_t{1'000'000'000} + about.st_mtim.tv_nsec};
}

// When the machine was started, in seconds.
std::time_t boot_time() {
  timespec now{}, up{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  ::clock_gettime(CLOCK_BOOTTIME, &up);
  return now.tv_sec - up.tv_sec;
}

bool is_stale(int folder, const std::string& lock, const std::string& hostname, FileMark& mark) {
  const FileDescriptor file(
      ::openat(folder, lock.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  struct stat about {};
  if (!file.is_open() || ::fstat(file.get(), &about) != 0 || !S_ISREG(about.st_mode))
    return false;
  mark = mark_of(about);
  const auto age = ::time(nullptr) - about.st_mtime;
  if (age > kStaleAfter)
    return true;
  std::array<char, 320> text{};
  const auto got = ::read(file.get(), text.data(), text.size());
  if (got < 0)
    return false;
  if (got == 0 || text.front() == '\0')
    return age > kEmptyStaleAfter;
  const auto owner = parse_lock_owner(std::string_view(text.data(), static_cast<std::size_t>(got)));
  return owner.hostname == hostname && (is_gone(owner.pid) || about.st_mtime < boot_time());
}

// Moved aside first, so that a fresh lock that took its place meanwhile can be given back.
void take_over(int folder, const std::string& lock, const FileMark& stale) {
  const auto aside = lock + "." + std::to_string(::getpid());
  if (::renameat(folder, lock.c_str(), folder, aside.c_str()) != 0)
    return;
  struct stat about {};
  if (::fstatat(folder, aside.c_str(), &about, AT_SYMLINK_NOFOLLOW) == 0 && mark_of(about) != stale)
    (void)::linkat(folder, aside.c_str(), folder, lock.c_str(), 0);
  ::unlinkat(folder, aside.c_str(), 0);
}

}  // namespace

LockOwner parse_lock_owner(std::string_view text) {
  LockOwner owner;
  text = text.substr(0, text.find('\n'));
  const auto space = text.find(' ');
  const auto pid = parse_unsigned(text.substr(0, space));
  if (!pid || *pid > 0x7fffffff)
    return owner;
  owner.pid = static_cast<std::int64_t>(*pid);
  if (space != text.npos)
    owner.hostname = std::string(trim(text.substr(space)));
  return owner;
}

DotLock::DotLock(DotLock&& other) noexcept
    : folder_(other.folder_), name_(std::exchange(other.name_, {})), mark_(other.mark_) {}

// Not another's, who has taken ours for stale.
DotLock::~DotLock() {
  struct stat about {};
  if (!name_.empty() && ::fstatat(folder_, name_.c_str(), &about, AT_SYMLINK_NOFOLLOW) == 0 &&
      mark_of(about) == mark_)
    ::unlinkat(folder_, name_.c_str(), 0);
}

Result<DotLock> DotLock::acquire(const FileDescriptor& folder, const std::string& name,
                                 const std::string& hostname, Duration patience) {
  const auto lock = name + ".lock";
  Patience waiting(patience);
  for (;;) {
    const FileDescriptor file(::openat(folder.get(), lock.c_str(),
                                       O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644));
    if (file.is_open()) {
      const auto owner = std::to_string(::getpid()) + " " + hostname + "\n";
      const auto written = write_all(file, owner);
      struct stat about {};
      const bool is_known = ::fstat(file.get(), &about) == 0;
      if (written && is_known)
        return DotLock(folder.get(), lock, mark_of(about));
      ::unlinkat(folder.get(), lock.c_str(), 0);
      return written ? system_error("stat " + escaped(lock))
                     : written.error().during("write " + escaped(lock));
    }
    if (errno == EACCES || errno == EPERM || errno == EROFS)
      return DotLock(folder.get(), {}, {});
    if (errno != EEXIST)
      return system_error("create " + escaped(lock));
    FileMark mark;
    if (is_stale(folder.get(), lock, hostname, mark))
      take_over(folder.get(), lock, mark);
    else if (!waiting.wait())
      return system_error(ETIMEDOUT, "wait for " + escaped(lock));
  }
}

Result<void> lock_file(const FileDescriptor& file, Duration patience) {
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  Patience waiting(patience);
  while (::fcntl(file.get(), F_OFD_SETLK, &lock) != 0) {
    if (errno != EAGAIN && errno != EACCES && errno != EINTR)
      return system_error("lock");
    if (!waiting.wait())
      return system_error(ETIMEDOUT, "wait for the lock");
  }
  return {};
}

}  // namespace postrider::delivery
