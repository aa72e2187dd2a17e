#include "base/regular_file.h"

#include <fcntl.h>

namespace postrider {

namespace {

Error not_regular(const std::string& path, mode_t mode) {
  return Error(Errc::unsupported, path + " is " + kind_of_file(mode) + " and not a regular file");
}

}  // namespace

const char* kind_of_file(mode_t mode) {
  switch (mode & S_IFMT) {
    case S_IFREG:
      return "a regular file";
    case S_IFDIR:
      return "a folder";
    case S_IFLNK:
      return "a symbolic link";
    case S_IFIFO:
      return "a pipe";
    case S_IFSOCK:
      return "a socket";
    default:
      return "a device";
  }
}

Result<void> require_regular(const FileDescriptor& file, const std::string& path) {
  struct stat about {};
  if (::fstat(file.get(), &about) != 0)
    return system_error("look at " + path);
  if (!S_ISREG(about.st_mode))
    return not_regular(path, about.st_mode);
  return {};
}

Result<void> require_regular_or_none(const std::string& path) {
  struct stat about {};
  if (::lstat(path.c_str(), &about) == 0 && !S_ISREG(about.st_mode))
    return not_regular(path, about.st_mode);
  return {};
}

Result<FileDescriptor> open_regular_file(const std::string& path, int flags, unsigned mode) {
  auto file = open_file(path, flags | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, mode);
  if (!file) {  // a link, a socket and, to be written, a pipe or a folder cannot be opened so
    const auto fit = require_regular_or_none(path);
    return fit ? file.error() : fit.error();
  }
  if (auto fit = require_regular(*file, path); !fit)
    return fit.error();
  return file;
}

}  // namespace postrider
