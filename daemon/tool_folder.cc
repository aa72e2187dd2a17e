#include "daemon/tool_folder.h"

#include "daemon/privsep/privileges.h"

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

}  // namespace postrider::daemon
