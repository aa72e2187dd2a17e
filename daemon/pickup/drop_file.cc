#include "daemon/pickup/drop_file.h"

#include "base/user_mounts.h"

#include <algorithm>
#include <cerrno>
#include <dirent.h>
#include <fcntl.h>
#include <limits>
#include <map>
#include <memory>
#include <sys/stat.h>
#include <unistd.h>

namespace postrider::daemon {

namespace {

constexpr std::int64_t kNano = 1'000'000'000;
constexpr std::int64_t kUnfinishedFor = 24 * 3600 * kNano;
constexpr std::int64_t kRefusedFor = 7 * kUnfinishedFor;
constexpr std::size_t kMostTaken = 100'000;
constexpr std::size_t kMostRemovedNamed = 100;

std::int64_t modified(const struct stat& about) {
  return about.st_mtim.tv_sec * kNano + about.st_mtim.tv_nsec;
}

// Later than any change to the file, and nobody can set it.
std::int64_t changed(const struct stat& about) {
  return about.st_ctim.tv_sec * kNano + about.st_ctim.tv_nsec;
}

Error refused(const char* why) {
  return Error(Errc::refused, why);
}

Result<void> check_kind(const struct stat& about) {
  if (!S_ISREG(about.st_mode))
    return refused("not a regular file");
  if (about.st_nlink != 1)
    return refused("has several names");
  return {};
}

Result<void> check_size(const DropFile& opened, const struct stat& about, std::uint64_t most) {
  if (opened.header.size > most)
    return Error(Errc::too_long, too_large(most));
  if (opened.content + opened.header.size != static_cast<std::uint64_t>(about.st_size))
    return Error(Errc::malformed, "its size is not the one that its first line tells");
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

bool is_refused(std::string_view name) {
  return name.ends_with(kDropRefused);
}

bool is_ours(std::string_view name) {
  return !is_refused(name) && (name.starts_with(kDropReady) || name.starts_with(kDropTaken));
}

// A folder that is not empty stays: what is in it is none of our business, and it hides nothing.
void remove_if_old(const FileDescriptor& folder, std::uint64_t mount, const std::string& name,
                   std::int64_t now, std::vector<std::string>& removed) {
  struct stat about {};
  if (name == "." || name == ".." || !look_within(folder, mount, name, about))
    return;
  if (changed(about) >= now - (is_refused(name) ? kRefusedFor : kUnfinishedFor))
    return;
  const bool is_gone =
      ::unlinkat(folder.get(), name.c_str(), S_ISDIR(about.st_mode) ? AT_REMOVEDIR : 0) == 0;
  if (is_gone && is_refused(name) && removed.size() < kMostRemovedNamed)
    removed.push_back(name);
}

bool is_older(const DropEntry& a, const DropEntry& b) {
  return a.modified != b.modified ? a.modified < b.modified : a.name < b.name;
}

// A party's oldest files: a heap whose first is the youngest of them.
class Waiting {
 public:
  void add(DropEntry entry, std::size_t most) {
    if (entries_.size() == most && !is_older(entry, entries_.front()))
      return;
    entries_.push_back(std::move(entry));
    std::push_heap(entries_.begin(), entries_.end(), is_older);
    if (entries_.size() <= most)
      return;
    std::pop_heap(entries_.begin(), entries_.end(), is_older);
    entries_.pop_back();
  }
  // The oldest first.
  std::vector<DropEntry>& sorted() {
    std::sort(entries_.begin(), entries_.end(), is_older);
    return entries_;
  }

 private:
  std::vector<DropEntry> entries_;
};

using Parties = std::map<std::uint64_t, Waiting>;

std::vector<DropEntry> in_turn(Parties& parties, std::uint64_t first, std::size_t most) {
  std::vector<std::vector<DropEntry>*> lines;
  const auto begin = parties.lower_bound(first);
  for (auto party = begin; party != parties.end(); ++party)
    lines.push_back(&party->second.sorted());
  for (auto party = parties.begin(); party != begin; ++party)
    lines.push_back(&party->second.sorted());
  std::vector<DropEntry> entries;
  for (std::size_t place = 0; entries.size() < most; ++place) {
    const auto before = entries.size();
    for (auto* line : lines)
      if (place < line->size() && entries.size() < most)
        entries.push_back(std::move((*line)[place]));
    if (entries.size() == before)
      break;
  }
  return entries;
}

// Asks once for each user.
class PartyOf {
 public:
  explicit PartyOf(const DropTurns& turns) : turns_(turns) {}
  std::uint64_t operator()(std::uint64_t uid) {
    if (!turns_.party)
      return uid;
    const auto [known, is_new] = known_.try_emplace(uid);
    if (is_new)
      known->second = turns_.party(uid);
    return known->second;
  }

 private:
  const DropTurns& turns_;
  std::map<std::uint64_t, std::uint64_t> known_;
};

}  // namespace

Result<DropScan> scan_drop_folder(const FileDescriptor& folder, std::int64_t now, std::size_t most,
                                  const std::set<std::uint64_t>& held,
                                  const std::set<std::string, std::less<>>& passed, bool clean,
                                  const DropTurns& turns) {
  FileDescriptor own(::openat(folder.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!own.is_open())
    return system_error("open the drop folder");
  const std::unique_ptr<DIR, int (*)(DIR*)> entries(::fdopendir(own.get()), ::closedir);
  if (!entries)
    return system_error("read the drop folder");
  own.release();
  const auto mount = mount_of(folder);
  DropScan scan;
  Parties parties;
  PartyOf party_of(turns);
  while (const dirent* entry = ::readdir(entries.get())) {
    ++scan.looked;
    const std::string name = entry->d_name;
    if (!is_ours(name)) {
      if (clean)
        remove_if_old(folder, mount, name, now, scan.removed);
      continue;
    }
    struct stat about {};
    if (name.starts_with(kDropTaken)) {
      scan.is_whole = scan.taken.size() < kMostTaken;
      if (scan.is_whole)
        scan.taken.push_back(name);
      if (clean && scan.is_whole && look_within(folder, mount, name, about))
        scan.inodes.insert(about.st_ino);
    }
    if (passed.contains(name) || !look_within(folder, mount, name, about))
      continue;
    if (held.contains(about.st_uid))
      continue;
    const auto party = party_of(about.st_uid);
    const auto age =
        turns.last.contains(name) ? std::numeric_limits<std::int64_t>::max() : modified(about);
    parties[party].add({name, age, about.st_uid, party}, most);
  }
  scan.entries = in_turn(parties, turns.first, most);
  return scan;
}

Result<DropFile> open_drop_file(const FileDescriptor& folder, const std::string& name,
                                std::uint64_t most_size, std::optional<DropFile>* unfit) {
  auto file = open_within(folder, name, O_RDONLY | O_NONBLOCK | O_NOCTTY);
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
  if (auto checked = check_kind(about); !checked)
    return checked.error();
  auto line = read_header_line(*file);
  if (!line)
    return line.error();
  auto header = decode_submit_header(*line);
  if (!header)
    return header.error();
  DropFile opened;
  opened.file = std::move(*file);
  opened.header = std::move(*header);
  opened.content = line->size() + 1;
  opened.uid = about.st_uid;
  opened.inode = about.st_ino;
  if (auto checked = check_size(opened, about, most_size); !checked) {
    if (unfit != nullptr)
      *unfit = std::move(opened);
    return checked.error();
  }
  return opened;
}

}  // namespace postrider::daemon
