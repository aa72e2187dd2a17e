#include "daemon/tool_folder.h"

#include "base/user_mounts.h"
#include "daemon/privsep/privileges.h"

#include <array>
#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace postrider::daemon {

Result<FileDescriptor> open_folder_to_write(const std::string& path) {
  if (::geteuid() != 0)
    return open_file(path, O_RDONLY | O_DIRECTORY);
  auto folder = open_folder_as_root(path);
  if (!folder)
    return folder;
  struct stat about {};
  if (::fstat(folder->get(), &about) != 0)
    return system_error("look at " + path);
  const bool others_write =
      (about.st_mode & S_IWOTH) != 0 || ((about.st_mode & S_IWGRP) != 0 && about.st_gid != 0);
  if (others_write && (about.st_mode & S_ISVTX) == 0)
    return Error(Errc::refused, "write to " + path + " (others may write to that folder)");
  return folder;
}

namespace {

constexpr int kMostLinks = 16;

// Nobody but root may put another thing in the place of a name in it.
bool is_roots(const FileDescriptor& folder) {
  struct stat about {};
  const mode_t others = S_IWGRP | S_IWOTH;
  return ::fstat(folder.get(), &about) == 0 && about.st_uid == 0 &&
         ((about.st_mode & others) == 0 || (about.st_mode & S_ISVTX) != 0);
}

std::string name_in(const std::string& path) {
  return path.substr(path.rfind('/') + 1);
}

// Where the link leads, if root made it in a folder of root's.
Result<std::string> follow(const FileDescriptor& folder, const std::string& path) {
  const auto name = name_in(path);
  struct stat link {};
  std::array<char, 4096> target{};
  const auto size = ::readlinkat(folder.get(), name.c_str(), target.data(), target.size());
  if (size <= 0 || ::fstatat(folder.get(), name.c_str(), &link, AT_SYMLINK_NOFOLLOW) != 0)
    return system_error("open " + path);
  if (!is_roots(folder) || link.st_uid != 0 || static_cast<std::size_t>(size) == target.size())
    return Error(Errc::refused, "follow the symbolic link " + path);
  const std::string to(target.data(), static_cast<std::size_t>(size));
  return to.starts_with('/') ? to : path.substr(0, path.rfind('/') + 1) + to;
}

Result<void> check_file(const FileDescriptor& folder, const FileDescriptor& file,
                        const std::string& path) {
  struct stat about {};
  if (::fstat(file.get(), &about) != 0)
    return system_error("look at " + path);
  if (!S_ISREG(about.st_mode))
    return Error(Errc::unsupported, "read " + path + " (not a regular file)");
  if (about.st_nlink > 1 && !is_roots(folder))
    return Error(Errc::refused, "read " + path + " (it has another name, in a folder of others)");
  return {};
}

}  // namespace

Result<FileDescriptor> open_file_as_root(const std::string& path) {
  auto at = path;
  for (int links = 0; links <= kMostLinks; ++links) {
    const auto folder =
        open_folder_as_root(at.substr(0, at.rfind('/') + 1), FolderUse::pass_through);
    if (!folder)
      return folder.error();
    auto file = open_beside(*folder, name_in(at), O_RDONLY | O_NONBLOCK | O_NOCTTY);
    if (file) {
      if (auto checked = check_file(*folder, *file, path); !checked)
        return checked.error();
      return file;
    }
    if (file.error().code() != boost::system::errc::too_many_symbolic_link_levels)
      return file;
    auto next = follow(*folder, at);
    if (!next)
      return next.error();
    at = *std::move(next);
  }
  return system_error(ELOOP, "open " + path);
}

}  // namespace postrider::daemon
