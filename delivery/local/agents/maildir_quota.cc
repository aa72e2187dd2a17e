#include "delivery/local/agents/maildir_quota.h"

#include "base/text.h"

#include <array>
#include <cerrno>
#include <dirent.h>
#include <fcntl.h>
#include <memory>
#include <string>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

namespace postrider::delivery {

namespace {

constexpr const char* kFile = "maildirsize";
constexpr std::size_t kMostFile = 5120;     // the specification's: count again beyond
constexpr std::int64_t kFullFor = 15 * 60;  // seconds after which "full" is counted again
constexpr std::size_t kMostFolders = 10000;

struct CloseFolder {
  void operator()(DIR* folder) const { ::closedir(folder); }
};
using Folder = std::unique_ptr<DIR, CloseFolder>;

Folder open_folder(int at, const char* name) {
  const int fd = ::openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  DIR* folder = fd < 0 ? nullptr : ::fdopendir(fd);
  if (folder == nullptr && fd >= 0)
    ::close(fd);
  return Folder(folder);
}

std::optional<std::int64_t> parse_signed(std::string_view text) {
  const bool negative = text.starts_with('-');
  const auto value = parse_unsigned(negative ? text.substr(1) : text);
  if (!value || *value > (std::uint64_t{1} << 60U))
    return std::nullopt;
  return negative ? -static_cast<std::int64_t>(*value) : static_cast<std::int64_t>(*value);
}

// "T" among the flags: deleted, and so not counted.
bool is_trashed(std::string_view name) {
  const auto flags = name.rfind(":2,");
  return flags != name.npos && name.find('T', flags) != name.npos;
}

void count_messages(int at, const char* name, MaildirSize& sum) {
  const auto folder = open_folder(at, name);
  if (!folder)
    return;
  while (const dirent* entry = ::readdir(folder.get())) {
    const std::string_view file = entry->d_name;
    if (file.starts_with('.') || is_trashed(file))
      continue;
    auto size = size_in_name(file);
    struct stat about {};
    if (!size && ::fstatat(::dirfd(folder.get()), entry->d_name, &about, AT_SYMLINK_NOFOLLOW) == 0)
      size = static_cast<std::uint64_t>(about.st_size);
    if (!size)
      continue;
    sum.octets += static_cast<std::int64_t>(*size);
    ++sum.messages;
  }
}

// All folders but the trash.
MaildirSize count_all(const FileDescriptor& maildir) {
  MaildirSize sum;
  count_messages(maildir.get(), "new", sum);
  count_messages(maildir.get(), "cur", sum);
  const auto top = open_folder(maildir.get(), ".");
  std::vector<std::string> names;
  while (const dirent* entry = top ? ::readdir(top.get()) : nullptr) {
    const std::string_view name = entry->d_name;
    if (name.size() > 1 && name.front() == '.' && name != ".." && name != ".Trash" &&
        names.size() < kMostFolders)
      names.emplace_back(name);
  }
  for (const auto& name : names) {
    count_messages(maildir.get(), (name + "/new").c_str(), sum);
    count_messages(maildir.get(), (name + "/cur").c_str(), sum);
  }
  return sum;
}

bool fits(const MaildirSize& size, std::uint64_t octets) {
  const auto& quota = size.quota;
  const auto more = size.octets + static_cast<std::int64_t>(octets);
  return (quota.octets == 0 || more <= static_cast<std::int64_t>(quota.octets)) &&
         (quota.messages == 0 || size.messages + 1 <= static_cast<std::int64_t>(quota.messages));
}

Result<void> rewrite(const FileDescriptor& maildir, std::string_view limits,
                     const MaildirSize& size) {
  const auto name = "tmp/" + std::string(kFile) + "." + std::to_string(::getpid());
  auto file = open_file_at(maildir, name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0644);
  if (!file)
    return file.error();
  const auto text = std::string(limits) + "\n" + std::to_string(size.octets) + " " +
                    std::to_string(size.messages) + "\n";
  if (auto written = write_all(*file, text); !written)
    return written.error();
  if (::renameat(maildir.get(), name.c_str(), maildir.get(), kFile) != 0)
    return system_error("rename maildirsize");
  return {};
}

}  // namespace

std::optional<MaildirQuota> parse_quota(std::string_view line) {
  MaildirQuota quota;
  for (const auto part : split(line, ',')) {
    if (part.empty())
      return std::nullopt;
    const auto value = parse_unsigned(part.substr(0, part.size() - 1));
    if (!value || *value > (std::uint64_t{1} << 60U))
      return std::nullopt;
    if (part.back() == 'S')
      quota.octets = *value;
    else if (part.back() == 'C')
      quota.messages = *value;
  }
  return quota;
}

std::optional<MaildirSize> parse_maildirsize(std::string_view text) {
  const auto lines = split(text, '\n');
  const auto quota = parse_quota(lines.front());
  if (!quota)
    return std::nullopt;
  MaildirSize size;
  size.quota = *quota;
  for (std::size_t i = 1; i < lines.size(); ++i) {
    std::vector<std::int64_t> numbers;
    for (const auto word : split(lines[i], ' ')) {
      if (word.empty())
        continue;
      const auto number = parse_signed(word);
      if (!number)
        return std::nullopt;
      numbers.push_back(*number);
    }
    if (numbers.size() == 2) {
      size.octets += numbers[0];
      size.messages += numbers[1];
    } else if (!numbers.empty()) {
      return std::nullopt;
    }
  }
  return size;
}

std::optional<std::uint64_t> size_in_name(std::string_view name) {
  const auto at = name.find(",S=");
  if (at == name.npos)
    return std::nullopt;
  const auto value = name.substr(at + 3);
  return parse_unsigned(value.substr(0, value.find_first_not_of("0123456789")));
}

Result<Room> room_in(const FileDescriptor& maildir, std::uint64_t octets) {
  auto file = open_file_at(maildir, kFile, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  if (!file && file.error().code() == boost::system::errc::no_such_file_or_directory)
    return Room::enough;
  if (!file)
    return file.error();
  struct stat about {};
  std::array<char, kMostFile + 1> room{};
  const auto got = ::fstat(file->get(), &about) == 0 && S_ISREG(about.st_mode)
                       ? ::read(file->get(), room.data(), room.size())
                       : -1;
  if (got < 0)
    return system_error("read maildirsize");
  const std::string_view text(room.data(), static_cast<std::size_t>(got));
  const auto limits = text.substr(0, text.find('\n'));
  const auto quota = parse_quota(limits);
  if (!quota || (quota->octets == 0 && quota->messages == 0))
    return Room::enough;
  if (quota->octets > 0 && octets > quota->octets)
    return Room::never;
  auto size = parse_maildirsize(text);
  const bool is_long = text.size() >= kMostFile;
  const bool is_old = ::time(nullptr) - about.st_mtime > kFullFor;
  if (size && !is_long && (fits(*size, octets) || !is_old))
    return fits(*size, octets) ? Room::enough : Room::full;
  auto counted = count_all(maildir);
  counted.quota = *quota;
  if (auto written = rewrite(maildir, limits, counted); !written)
    return written.error();
  return fits(counted, octets) ? Room::enough : Room::full;
}

namespace {

void note(const FileDescriptor& maildir, const std::string& line) {
  auto file = open_file_at(maildir, kFile, O_WRONLY | O_APPEND | O_NOFOLLOW | O_NONBLOCK);
  // Without the file there is no quota; a line that could not be written is counted later.
  if (file)
    (void)write_all(*file, line);
}

}  // namespace

void note_delivered(const FileDescriptor& maildir, std::uint64_t octets) {
  note(maildir, std::to_string(octets) + " 1\n");
}

void note_removed(const FileDescriptor& maildir, std::uint64_t octets) {
  note(maildir, "-" + std::to_string(octets) + " -1\n");
}

}  // namespace postrider::delivery
