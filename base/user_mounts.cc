#include "base/user_mounts.h"

#include "base/text.h"

#include <climits>

#include <algorithm>
#include <array>
#include <cerrno>
#include <fcntl.h>
#include <linux/magic.h>
#include <sstream>
#include <sys/vfs.h>
#include <unistd.h>

namespace postrider {

namespace {

constexpr int kMostLinks = 40;
constexpr std::size_t kMostMounts = 16U << 20U;  // octets of their list
constexpr unsigned kMountId = 0x1000;            // STATX_MNT_ID

// "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue" (proc(5))
bool is_users(const std::string& line) {
  const auto mark = line.find(" - ");
  if (mark == line.npos)
    return false;
  std::istringstream words(line.substr(mark + 3));
  std::string kind, source, options;
  words >> kind >> source >> options;
  if (!kind.starts_with("fuse"))
    return false;
  for (const auto option : split(options, ','))
    if (option.starts_with("user_id=")) {
      const auto user = parse_unsigned(option.substr(option.find('=') + 1));
      return !user || (*user != 0 && *user != ::geteuid());
    }
  return false;
}

bool is_of_proc(const FileDescriptor& place) {
  struct statfs about {};
  return ::fstatfs(place.get(), &about) == 0 && about.f_type == PROC_SUPER_MAGIC;
}

Result<std::string> target_of(const FileDescriptor& link) {
  std::array<char, PATH_MAX> room{};
  const auto size = ::readlinkat(link.get(), "", room.data(), room.size());
  if (size < 0)
    return system_error("readlink");
  return std::string(room.data(), static_cast<std::size_t>(size));
}

// From folder to folder, so that the mount of each is seen before it is asked.
class Way {
 public:
  Way(const std::string& path, LastLink last) : path_(path), rest_(path), last_(last) {}

  Result<FileDescriptor> walk() {
    if (auto began = begin(); !began)
      return began.error();
    for (auto name = next(); !name.empty(); name = next())
      if (auto gone = go(name); !gone)
        return gone.error();
    return std::move(folder_);
  }

 private:
  Result<void> begin() {
    auto start = open_file(rest_.starts_with('/') ? "/" : ".", O_PATH);
    if (!start)
      return start.error();
    folder_ = *std::move(start);
    mount_ = mount_of(folder_);
    return {};
  }

  Result<void> go(const std::string& name) {
    auto place = open(name);
    if (!place.is_open())
      return system_error("open " + path_);
    if (auto asked = check_mount(place); !asked)
      return asked;
    struct stat about {};
    if (::fstat(place.get(), &about) != 0)
      return system_error("stat " + path_);
    const bool is_kept = last_ == LastLink::keep && rest_.empty();
    if (!S_ISLNK(about.st_mode) || is_kept)
      return enter(std::move(place));
    if (++links_ > kMostLinks)
      return system_error(ELOOP, "open " + path_);
    return is_of_proc(place) ? jump(name) : follow(place);
  }

  Result<void> check_mount(const FileDescriptor& place) const {
    const auto mount = mount_of(place);
    if (mount != mount_ && is_users_mount(mount))
      return Error(Errc::refused, escaped(path_) + ": lies on a file system of a user's");
    return {};
  }

  Result<void> enter(FileDescriptor place) {
    folder_ = std::move(place);
    mount_ = mount_of(folder_);
    return {};
  }

  // A link to what a process has open, such as /dev/stdin: its text is not a path.
  Result<void> jump(const std::string& name) {
    FileDescriptor place(::openat(folder_.get(), name.c_str(), O_PATH | O_CLOEXEC));
    if (!place.is_open())
      return system_error("open " + path_);
    if (auto asked = check_mount(place); !asked)
      return asked;
    return enter(std::move(place));
  }

  std::string next() {
    const auto start = std::min(rest_.find_first_not_of('/'), rest_.size());
    const auto end = std::min(rest_.find('/', start), rest_.size());
    auto name = rest_.substr(start, end - start);
    rest_.erase(0, end);
    return name;
  }

  // A folder to be mounted when it is looked at is so for O_DIRECTORY alone.
  FileDescriptor open(const std::string& name) const {
    constexpr int kPlace = O_PATH | O_NOFOLLOW | O_CLOEXEC;
    if (rest_.find_first_not_of('/') != rest_.npos) {
      FileDescriptor place(::openat(folder_.get(), name.c_str(), kPlace | O_DIRECTORY));
      if (place.is_open() || errno != ENOTDIR)
        return place;
    }
    return FileDescriptor(::openat(folder_.get(), name.c_str(), kPlace));
  }

  Result<void> follow(const FileDescriptor& link) {
    auto target = target_of(link);
    if (!target)
      return target.error();
    rest_ = *target + rest_;
    return target->starts_with('/') ? begin() : Result<void>();
  }

  const std::string& path_;
  std::string rest_;
  const LastLink last_;
  FileDescriptor folder_;
  std::uint64_t mount_ = 0;
  int links_ = 0;
};

}  // namespace

// The file system is not asked, even if what is known of the place is old.
std::uint64_t mount_of(const FileDescriptor& place) {
  struct statx about {};
  const bool is_known =
      ::statx(place.get(), "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, kMountId, &about) == 0 &&
      (about.stx_mask & kMountId) != 0;
  return is_known ? about.stx_mnt_id : 0;
}

bool is_users_mount(std::uint64_t mount) {
  if (mount == 0)
    return false;
  const auto file = open_file("/proc/self/mountinfo", O_RDONLY);
  const auto mounts = file ? read_file(*file, "mountinfo", kMostMounts) : file.error();
  if (!mounts)
    return false;
  const auto own = std::to_string(mount) + " ";
  for (const auto line : split(*mounts, '\n'))
    if (line.starts_with(own))
      return is_users(std::string(line));
  return false;
}

Result<FileDescriptor> find_place(const std::string& path, LastLink last) {
  if (path.empty())
    return system_error(ENOENT, "open " + path);
  return Way(path, last).walk();
}

Result<FileDescriptor> reopen(const FileDescriptor& place, int flags) {
  return open_file("/proc/self/fd/" + std::to_string(place.get()), flags);
}

Result<FileDescriptor> open_to_read(const std::string& path, LastLink last) {
  const auto place = find_place(path, last);
  if (!place)
    return place.error();
  auto file = reopen(*place, O_RDONLY | O_NONBLOCK | O_NOCTTY);
  if (!file)
    return Error(file.error().code(), "open " + path);
  return file;
}

std::string why_unopened(const Error& error) {
  return error.code() == Errc::refused ? "lies on a file system that a user has mounted"
                                       : error.code().message();
}

bool look_at(const std::string& path, struct stat& about) {
  const auto place = find_place(path);
  if (place)
    return ::fstat(place->get(), &about) == 0;
  errno = place.error().code() == Errc::refused ? EACCES : place.error().code().value();
  return false;
}

// In two steps: with its mount, the kernel may ask a file system what else it wants to know.
bool look_within(const FileDescriptor& folder, std::uint64_t mount, const std::string& name,
                 struct stat& about) {
  const FileDescriptor place(::openat(folder.get(), name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  if (!place.is_open())
    return false;
  if (mount_of(place) != mount) {
    errno = EXDEV;
    return false;
  }
  return ::fstat(place.get(), &about) == 0;
}

namespace {

template <class IsOther>
Result<FileDescriptor> open_unless(IsOther is_other, const FileDescriptor& folder,
                                   const std::string& name, int flags) {
  auto place = open_file_at(folder, name, O_PATH | O_NOFOLLOW);
  if (!place)
    return place;
  struct stat about {};
  if (is_other(mount_of(*place)))
    return Error(Errc::refused, "open " + name + ": something is mounted there");
  if (::fstat(place->get(), &about) != 0)
    return system_error("stat " + name);
  if (S_ISLNK(about.st_mode))
    return system_error(ELOOP, "open " + name);
  return (flags & O_PATH) != 0 ? std::move(place) : reopen(*place, flags);
}

}  // namespace

Result<FileDescriptor> open_within(const FileDescriptor& folder, const std::string& name,
                                   int flags) {
  const auto own = mount_of(folder);
  return open_unless([own](std::uint64_t mount) { return mount != own; }, folder, name, flags);
}

Result<FileDescriptor> open_beside(const FileDescriptor& folder, const std::string& name,
                                   int flags) {
  const auto own = mount_of(folder);
  return open_unless([own](std::uint64_t mount) { return mount != own && is_users_mount(mount); },
                     folder, name, flags);
}

}  // namespace postrider
