#include "base/file.h"

#include "base/regular_file.h"
#include "base/user_mounts.h"

#include <cerrno>
#include <fcntl.h>
#include <filesystem>
#include <sys/stat.h>
#include <unistd.h>

namespace postrider {

FileDescriptor& FileDescriptor::operator=(FileDescriptor&& other) noexcept {
  if (this != &other) {
    reset();
    fd_ = std::exchange(other.fd_, -1);
  }
  return *this;
}

void FileDescriptor::reset() {
  if (fd_ >= 0)
    ::close(std::exchange(fd_, -1));
}

Result<FileDescriptor> open_file(const std::string& path, int flags, unsigned mode) {
  FileDescriptor file(::open(path.c_str(), flags | O_CLOEXEC, mode));
  if (!file.is_open())
    return system_error("open " + path);
  return file;
}

Result<FileDescriptor> open_file_at(const FileDescriptor& folder, const std::string& name,
                                    int flags, unsigned mode) {
  FileDescriptor file(::openat(folder.get(), name.c_str(), flags | O_CLOEXEC, mode));
  if (!file.is_open())
    return system_error("open " + name);
  return file;
}

Result<void> write_all(const FileDescriptor& file, std::string_view bytes) {
  while (!bytes.empty()) {
    const auto written = ::write(file.get(), bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR)
      continue;
    if (written < 0)
      return system_error("write");
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
  return {};
}

Result<std::string> read_file(const std::string& path, std::size_t most) {
  const auto file = open_to_read(path);
  if (!file)
    return file.error();
  if (auto fit = require_regular(*file, path); !fit)
    return fit.error().during("read");
  return read_file(*file, path, most);
}

Result<std::string> read_file(const FileDescriptor& file, const std::string& name,
                              std::size_t most) {
  std::string text;
  char chunk[16384];
  for (;;) {
    const auto got = ::read(file.get(), chunk, sizeof chunk);
    if (got < 0 && errno == EINTR)
      continue;
    if (got < 0)
      return system_error("read " + name);
    if (got == 0)
      return text;
    if (text.size() + static_cast<std::size_t>(got) > most)
      return Error(Errc::too_long, "read " + name);
    text.append(chunk, static_cast<std::size_t>(got));
  }
}

Result<void> sync_file(const FileDescriptor& file) {
  if (::fsync(file.get()) != 0)
    return system_error("fsync");
  return {};
}

Result<void> sync_folder(const std::string& path) {
  auto folder = open_file(path, O_RDONLY | O_DIRECTORY);
  if (!folder)
    return folder.error();
  if (auto synced = sync_file(*folder); !synced)
    return synced.error().during("folder " + path);
  return {};
}

namespace {

// A folder that may be written but not read cannot be synced by itself: its names land with the
// next sync of what is in it.
Result<void> sync_name(const std::filesystem::path& path) {
  const auto folder = path.parent_path();
  auto synced = sync_folder(folder.empty() ? "." : folder.string());
  if (!synced && synced.error().code() == boost::system::errc::permission_denied)
    return {};
  return synced;
}

}  // namespace

Result<void> make_folder(const std::string& path, unsigned mode) {
  const std::filesystem::path whole(path);
  std::filesystem::path partial;
  for (const auto& part : whole) {
    partial /= part;
    if (partial.empty() || partial == "/")
      continue;
    if (::mkdir(partial.c_str(), mode) != 0) {
      if (errno != EEXIST)
        return system_error("make folder " + partial.string());
      continue;
    }
    if (auto synced = sync_name(partial); !synced)
      return synced.error().during("make folder " + partial.string());
  }
  std::error_code ignored;
  if (!std::filesystem::is_directory(whole, ignored))
    return system_error(ENOTDIR, "make folder " + path);
  return {};
}

Result<void> replace_file(const std::string& path, std::string_view bytes, unsigned mode) {
  const std::string temporary = path + ".new." + std::to_string(::getpid());
  auto file = open_file(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, mode);
  if (!file)
    return file.error();
  auto written = write_all(*file, bytes);
  if (written)
    written = sync_file(*file);
  if (written && ::rename(temporary.c_str(), path.c_str()) != 0)
    written = system_error("rename");
  if (!written) {
    ::unlink(temporary.c_str());
    return written.error().during("replace " + path);
  }
  const auto folder = std::filesystem::path(path).parent_path();
  return sync_folder(folder.empty() ? "." : folder.string());
}

}  // namespace postrider
