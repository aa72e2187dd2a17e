#include "cli/content_store.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <fcntl.h>
#include <unistd.h>
#include <vector>

namespace postrider::cli {

namespace {

constexpr std::size_t kInMemory = 1U << 20U;
constexpr std::size_t kPiece = 64U << 10U;

Result<FileDescriptor> nameless_file(const std::string& folder) {
  auto file = open_file(folder, O_TMPFILE | O_RDWR, 0600);
  if (file)
    return file;
  std::string name = folder + "/sendmail.XXXXXX";  // no O_TMPFILE on this file system
  FileDescriptor named(::mkostemp(name.data(), O_CLOEXEC));
  if (!named.is_open())
    return system_error("make a temporary file in " + folder);
  ::unlink(name.c_str());
  return named;
}

// Where a temporary file may be; the later ones for when the earlier cannot be used, or are full.
std::vector<std::string> temporary_folders() {
  std::vector<std::string> folders;
  if (const char* given = ::secure_getenv("TMPDIR"); given != nullptr && *given == '/')
    folders.emplace_back(given);
  for (const char* usual : {"/tmp", "/var/tmp", "/dev/shm"})
    folders.emplace_back(usual);
  return folders;
}

Result<void> copy(const FileDescriptor& from, std::uint64_t octets, const FileDescriptor& to) {
  std::string room(kPiece, '\0');
  for (std::uint64_t at = 0; at < octets;) {
    const auto got = ::pread(from.get(), room.data(), std::min<std::uint64_t>(kPiece, octets - at),
                             static_cast<off_t>(at));
    if (got < 0 && errno == EINTR)
      continue;
    if (got <= 0)
      return system_error(got < 0 ? errno : EIO, "read the temporary file");
    at += static_cast<std::uint64_t>(got);
    if (auto written =
            write_all(to, std::string_view(room).substr(0, static_cast<std::size_t>(got)));
        !written)
      return written;
  }
  return {};
}

}  // namespace

// What is in a file that turns out to be full moves to the next folder.
Result<void> ContentStore::move_to_file() {
  const auto folders = temporary_folders();
  const auto kept = size_ - memory_.size();
  Result<void> written = Error(Errc::not_found, "find a folder for temporary files");
  if (file_.is_open())
    written = write_all(file_, memory_);
  for (; !written && folder_ < folders.size(); ++folder_) {
    auto file = nameless_file(folders[folder_]);
    written = file ? copy(file_, kept, *file) : file.error();
    if (written)
      written = write_all(*file, memory_);
    if (written)
      file_ = std::move(*file);
  }
  if (written)
    memory_.clear();
  return written;
}

Result<void> ContentStore::append(std::string_view bytes) {
  size_ += bytes.size();
  memory_.append(bytes);
  if (memory_.size() > kInMemory)
    return move_to_file();
  return {};
}

Result<void> ContentStore::read(
    const std::function<Result<void>(std::string_view piece)>& take) const {
  std::string room(file_.is_open() ? kPiece : 0, '\0');
  for (off_t at = 0; file_.is_open();) {
    const auto got = ::pread(file_.get(), room.data(), room.size(), at);
    if (got < 0 && errno == EINTR)
      continue;
    if (got < 0)
      return system_error("read the temporary file");
    if (got == 0)
      break;
    at += got;
    if (auto taken = take(std::string_view(room).substr(0, static_cast<std::size_t>(got))); !taken)
      return taken;
  }
  for (std::size_t at = 0; at < memory_.size(); at += kPiece)
    if (auto taken = take(std::string_view(memory_).substr(at, kPiece)); !taken)
      return taken;
  return {};
}

}  // namespace postrider::cli
