// Landlock, by its system calls: the C library has no functions for them.
#include "base/file.h"
#include "daemon/privsep/sandbox.h"

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <fcntl.h>
#include <linux/landlock.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace postrider::daemon {

namespace {

// Newer than the headers of Debian 12.
constexpr std::uint64_t kTruncate = 1U << 14U;  // version 3
constexpr std::uint64_t kDevices = 1U << 15U;   // version 5: ioctl(2) on devices
constexpr std::uint64_t kScopeAbstract = 1U << 0U;
constexpr std::uint64_t kScopeSignal = 1U << 1U;
struct Ruleset {
  std::uint64_t files = 0;
  std::uint64_t network = 0;
  std::uint64_t scoped = 0;  // version 6
};

constexpr std::uint64_t kReading = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
// Never links, devices or pipes: what they would lead to, others follow.
constexpr std::uint64_t kNeverMade = LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_MAKE_SYM |
                                     LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_BLOCK |
                                     LANDLOCK_ACCESS_FS_MAKE_FIFO | kDevices;
// A log file in a folder that is not ours: a new one after a rotation, nothing removed or read.
constexpr std::uint64_t kAppending =
    LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG | kTruncate;
constexpr std::uint64_t kOfFiles =
    LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | kTruncate;

// All that this version can deny.
std::uint64_t deniable(int version) {
  std::uint64_t all = LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE | kReading |
                      LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |
                      LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_DIR |
                      LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_SOCK |
                      LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK |
                      LANDLOCK_ACCESS_FS_MAKE_SYM;
  if (version >= 2)
    all |= LANDLOCK_ACCESS_FS_REFER;
  if (version >= 3)
    all |= kTruncate;
  if (version >= 5)
    all |= kDevices;
  return all;
}

std::string because(const char* step) {
  return std::string(step) + ": " + std::strerror(errno);
}

bool allow(const FileDescriptor& rules, const std::string& path, std::uint64_t rights) {
  const FileDescriptor place(::open(path.c_str(), O_PATH | O_CLOEXEC));
  struct stat about {};
  if (!place.is_open() || ::fstat(place.get(), &about) != 0)
    return errno == ENOENT || errno == ENOTDIR || errno == EACCES;
  landlock_path_beneath_attr rule{};
  rule.allowed_access = S_ISDIR(about.st_mode) ? rights : rights & kOfFiles;
  rule.parent_fd = place.get();
  return ::syscall(SYS_landlock_add_rule, rules.get(), LANDLOCK_RULE_PATH_BENEATH, &rule, 0) == 0;
}

}  // namespace

int landlock_version() {
  const auto version =
      ::syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION);
  return version > 0 ? static_cast<int>(version) : 0;
}

std::string restrict_files(const SandboxPaths& paths) {
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
    return because("forbid new privileges");
  const int version = landlock_version();
  if (version == 0)
    return "this kernel has no Landlock";
  Ruleset wanted;
  wanted.files = deniable(version);
  wanted.scoped = version >= 6 ? kScopeSignal | kScopeAbstract : 0;
  const auto size = version >= 6 ? sizeof wanted : sizeof wanted.files;
  const FileDescriptor rules(
      static_cast<int>(::syscall(SYS_landlock_create_ruleset, &wanted, size, 0)));
  if (!rules.is_open())
    return because("make Landlock rules");
  for (const auto& path : paths.read)
    if (!allow(rules, path, kReading))
      return because("add a Landlock rule");
  for (const auto& path : paths.write)
    if (!allow(rules, path, wanted.files & ~kNeverMade))
      return because("add a Landlock rule");
  for (const auto& path : paths.append)
    if (!allow(rules, path, wanted.files & kAppending))
      return because("add a Landlock rule");
  if (::syscall(SYS_landlock_restrict_self, rules.get(), 0) != 0)
    return because("enter the Landlock rules");
  return {};
}

std::string restrict_signals() {
  if (landlock_version() < 6)
    return "this kernel's Landlock knows no signals";
  Ruleset wanted;
  wanted.scoped = kScopeSignal;
  const FileDescriptor rules(
      static_cast<int>(::syscall(SYS_landlock_create_ruleset, &wanted, sizeof wanted, 0)));
  if (!rules.is_open() || ::syscall(SYS_landlock_restrict_self, rules.get(), 0) != 0)
    return because("keep signals in");
  return {};
}

}  // namespace postrider::daemon
