// Files, as custody needs them: every handle is owned, every sync is checked.
#pragma once

#include "base/result.h"

#include <string>
#include <string_view>
#include <utility>

namespace postrider {

class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept;
  ~FileDescriptor() { reset(); }

  int get() const { return fd_; }
  bool is_open() const { return fd_ >= 0; }
  int release() { return std::exchange(fd_, -1); }
  void reset();

 private:
  int fd_ = -1;
};

// Opens with O_CLOEXEC added. `flags` and `mode` as for open(2).
Result<FileDescriptor> open_file(const std::string& path, int flags, unsigned mode = 0600);
// The same below an open directory.
Result<FileDescriptor> open_file_at(const FileDescriptor& folder, const std::string& name,
                                    int flags, unsigned mode = 0600);
Result<void> write_all(const FileDescriptor& file, std::string_view bytes);  // retries EINTR
// A whole regular file; refuses more than `most` bytes with Errc::too_long.
Result<std::string> read_file(const std::string& path, std::size_t most = 64U << 20U);
// What is left of an open one; `name` is for the error.
Result<std::string> read_file(const FileDescriptor& file, const std::string& name,
                              std::size_t most);
Result<void> sync_file(const FileDescriptor& file);                // fsync
Result<void> sync_folder(const std::string& path);                 // fsync of the directory
Result<void> make_folder(const std::string& path, unsigned mode);  // parents too; existing is fine
// Temporary name, write, sync, rename, sync of the folder: the old or the new text, never half.
Result<void> replace_file(const std::string& path, std::string_view bytes, unsigned mode);

}  // namespace postrider
