#include "daemon/drop_file.h"

#include <algorithm>
#include <cerrno>
#include <dirent.h>
#include <fcntl.h>
#include <memory>
#include <sys/stat.h>
#include <unistd.h>

namespace postrider::daemon {

namespace {

constexpr std::int64_t kNano = 1'000'000'000;
constexpr std::int64_t kUnfinishedFor = 24 * 3600 * kNano;
// Entries looked at in one pass, whatever others put there.
constexpr std::size_t kMostLooked = 100'000;

std::int64_t modified(const struct stat& about) {
  return about.st_mtim.tv_sec * kNano + about.st_mtim.tv_nsec;
}

Error refused(const char* why) {
  return Error(Errc::refused, why);
}

Result<void> check(const struct stat& about, std::uint64_t most_size) {
  if (!S_ISREG(about.st_mode))
    return refused("not a regular file");
  if (about.st_nlink != 1)
    return refused("has several names");
  if (static_cast<std::uint64_t>(about.st_size) > most_size + kMostSubmitHeader)
    return refused("too large");
  return {};
}

// Reads the header line and leaves the descriptor behind it.
Result<std::string> read_header_line(const FileDescriptor& file) {
  std::string line;
  char room[16384];
  for (;;) {
    const auto got = ::pread(file.get(), room, sizeof room, static_cast<off_t>(line.size()));
    if (got < 0 && errno == EINTR)
      continue;
    if (got < 0)
      return system_error("read");
    const auto piece = std::string_view(room, static_cast<std::size_t>(got));
    const auto end = piece.find('\n');
    if (end == std::string_view::npos && (got == 0 || line.size() > kMostSubmitHeader))
      return malformed("header line");
    line.append(piece.substr(0, end));
    if (end == std::string_view::npos)
      continue;
    if (::lseek(file.get(), static_cast<off_t>(line.size() + 1), SEEK_SET) < 0)
      return system_error("seek");
    return line;
  }
}

bool is_ours(std::string_view name) {
  if (name.size() >= 4 && name.substr(name.size() - 4) == ".bad")
    return false;
  return name.starts_with(kDropReady) || name.starts_with(kDropTaken);
}

}  // namespace

Result<std::vector<DropEntry>> scan_drop_folder(const FileDescriptor& folder, std::int64_t now,
                                                std::size_t most,
                                                const std::set<std::uint64_t>& held) {
  FileDescriptor own(::openat(folder.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!own.is_open())
    return system_error("open the drop folder");
  const std::unique_ptr<DIR, int (*)(DIR*)> entries(::fdopendir(own.get()), ::closedir);
  if (!entries)
    return system_error("read the drop folder");
  own.release();
  std::vector<DropEntry> found;
  std::size_t looked = 0;
  while (const dirent* entry = ::readdir(entries.get())) {
    if (++looked > kMostLooked)
      break;
    const std::string name = entry->d_name;
    const bool unfinished = name.starts_with(kDropUnfinished);
    struct stat about {};
    if ((!unfinished && !is_ours(name)) ||
        ::fstatat(folder.get(), name.c_str(), &about, AT_SYMLINK_NOFOLLOW) != 0)
      continue;
    if (unfinished && modified(about) < now - kUnfinishedFor)
      ::unlinkat(folder.get(), name.c_str(), S_ISDIR(about.st_mode) ? AT_REMOVEDIR : 0);
    if (!unfinished && !held.contains(about.st_uid))
      found.push_back({name, modified(about)});
  }
  std::sort(found.begin(), found.end(), [](const DropEntry& a, const DropEntry& b) {
    return a.modified != b.modified ? a.modified < b.modified : a.name < b.name;
  });
  if (found.size() > most)
    found.resize(most);
  return found;
}

Result<DropFile> open_drop_file(const FileDescriptor& folder, const std::string& name,
                                std::uint64_t most_size) {
  auto file = open_file_at(folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
  if (!file) {
    const auto code = file.error().code();
    const bool odd = code == boost::system::errc::too_many_symbolic_link_levels ||
                     code == boost::system::errc::permission_denied ||
                     code == boost::system::errc::no_such_device_or_address;
    return odd ? Error(Errc::refused, "cannot be opened: " + file.error().code().message())
               : file.error();
  }
  struct stat about {};
  if (::fstat(file->get(), &about) != 0)
    return system_error("stat " + name);
  if (auto checked = check(about, most_size); !checked)
    return checked.error();
  auto line = read_header_line(*file);
  if (!line)
    return line.error();
  auto header = decode_submit_header(*line);
  if (!header)
    return header.error();
  if (header->size > most_size)
    return refused("larger than the limit");
  if (line->size() + 1 + header->size != static_cast<std::uint64_t>(about.st_size))
    return malformed("size");
  DropFile opened;
  opened.file = std::move(*file);
  opened.header = std::move(*header);
  opened.uid = about.st_uid;
  return opened;
}

}  // namespace postrider::daemon
