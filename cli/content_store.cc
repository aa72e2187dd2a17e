#include "cli/content_store.h"

#include <cerrno>
#include <cstdlib>
#include <fcntl.h>
#include <unistd.h>

namespace postrider::cli {

namespace {

constexpr std::size_t kInMemory = 1U << 20U;
constexpr std::size_t kPiece = 64U << 10U;

Result<FileDescriptor> nameless_file() {
  const char* given = std::getenv("TMPDIR");
  const std::string folder = given != nullptr && *given == '/' ? given : "/tmp";
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

}  // namespace

Result<void> ContentStore::move_to_file() {
  if (!file_.is_open()) {
    auto file = nameless_file();
    if (!file)
      return file.error();
    file_ = std::move(*file);
  }
  auto written = write_all(file_, memory_);
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
