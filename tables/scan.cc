#include "tables/scan.h"

#include "base/case_fold.h"
#include "base/text.h"
#include "base/user_mounts.h"
#include "tables/cdb.h"
#include "tables/lines.h"
#include "tables/table_source.h"

#include <cdb.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <mutex>
#include <sys/stat.h>
#include <unistd.h>

namespace postrider::tables {

namespace {

constexpr std::size_t kBlock = 64U << 10U;
constexpr std::size_t kMostEnds = 16;  // octets of line ends, before a line is known to be too long

bool is_ignored(std::string_view line) {
  const auto text = trim(line);
  return text.empty() || text.front() == '#';
}

bool is_missing(const Error& error) {
  return error.code() == boost::system::errc::no_such_file_or_directory;
}

// Physical lines of a file, of which it holds one block, or a line that is longer.
class BlockLines {
 public:
  BlockLines(const FileDescriptor& file, const std::string& path) : file_(file), path_(path) {}

  // Without its end; valid until the next call. What is longer than a line may be is cut.
  Result<bool> next(std::string_view& line) {
    carried_.clear();
    for (;;) {
      const auto* begin = room_.data() + begin_;
      if (const void* end = std::memchr(begin, '\n', end_ - begin_)) {
        const auto size = static_cast<std::size_t>(static_cast<const char*>(end) - begin);
        begin_ += size + 1;
        line = {begin, size};
        if (!carried_.empty())
          line = carry(line);
        return true;
      }
      line = carry({begin, end_ - begin_});
      const auto more = fill();
      if (!more)
        return more.error();
      if (!*more)
        return !line.empty();
    }
  }

 private:
  std::string_view carry(std::string_view part) {
    const auto room = kMostLine + 2 - std::min(carried_.size(), kMostLine + 2);
    return carried_.append(part.substr(0, room));
  }

  Result<bool> fill() {
    ssize_t got = -1;
    do
      got = ::read(file_.get(), room_.data(), room_.size());
    while (got < 0 && errno == EINTR);
    if (got < 0)
      return system_error("read " + path_);
    begin_ = 0;
    end_ = static_cast<std::size_t>(got);
    total_ += end_;
    if (total_ > kMostFile)
      return Error(Errc::too_long, "read " + path_);
    return got > 0;
  }

  const FileDescriptor& file_;
  const std::string& path_;
  std::array<char, kBlock> room_;
  std::size_t begin_ = 0, end_ = 0, total_ = 0;
  std::string carried_;
};

class ScannedTable : public Table {
 public:
  ScannedTable(Spec spec, Options options) : spec_(std::move(spec)), options_(std::move(options)) {}

  Result<std::optional<Entry>> find(std::string_view asked) const override {
    const auto key = folded_case(asked);
    if (spec_.kind != Kind::aliases && spec_.kind != Kind::text && spec_.kind != Kind::cdb)
      return find_opened(key);
    uid_t owner = 0;
    const auto file = open_source(spec_.path, owner);
    if (!file && options_.missing_is_empty && is_missing(file.error()))
      return std::optional<Entry>();
    if (!file)
      return file.error();
    return spec_.kind == Kind::cdb ? find_in_database(*file, key, owner)
                                   : find_in_lines(*file, key, owner);
  }
  bool has_patterns() const override { return spec_.kind == Kind::pcre; }

 private:
  using Found = Result<std::optional<Entry>>;

  Found find_opened(const std::string& key) const {
    const std::lock_guard lock(mutex_);
    if (!opened_) {
      auto table = open_table(spec_, options_);
      if (!table)
        return table.error();
      opened_ = *std::move(table);
    }
    return opened_->find(key);
  }

  Found find_in_database(const FileDescriptor& file, std::string key, uid_t owner) const {
    std::array<char, kCdbHeader> header;
    struct stat about {};
    if (::fstat(file.get(), &about) != 0 ||
        ::pread(file.get(), header.data(), header.size(), 0) !=
            static_cast<ssize_t>(header.size()) ||
        !is_whole_cdb({header.data(), header.size()}, static_cast<std::uint64_t>(about.st_size)))
      return Error(Errc::corrupt, "look up in " + spec_.path);
    unsigned size = 0;
    int found = ::cdb_seek(file.get(), key.data(), static_cast<unsigned>(key.size()), &size);
    if (found == 0) {  // Postfix may end keys and values with a NUL
      key.push_back('\0');
      found = ::cdb_seek(file.get(), key.data(), static_cast<unsigned>(key.size()), &size);
    }
    if (found == 0)
      return std::optional<Entry>();
    if (found < 0 || size > kMostLine)
      return Error(Errc::corrupt, "look up in " + spec_.path);
    std::string value(size, '\0');
    if (::cdb_bread(file.get(), value.data(), static_cast<int>(size)) != 0)
      return Error(Errc::corrupt, "look up in " + spec_.path);
    value.erase(value.find_last_not_of('\0') + 1);
    return std::optional<Entry>(Entry{std::move(value), spec_.path, owner, folder_of(spec_.path)});
  }

  Found find_in_lines(const FileDescriptor& file, const std::string& key, uid_t owner) const {
    Found found = std::optional<Entry>();
    const auto wants = [&](std::string_view line) { return may_be(line, key); };
    const auto take = [&](std::string_view text, std::size_t number) {
      found = look_at(text, number, key, owner);
      return found && !found->has_value();
    };
    if (auto walked = walk(file, wants, take); !walked)
      return walked.error();
    if (options_.lenient && found && !found->has_value())
      if (auto checked = check_whole(file); !checked)
        return checked.error();
    return found;
  }

  // That nothing is said of a name counts only where the file is a table.
  Result<void> check_whole(const FileDescriptor& file) const {
    if (::lseek(file.get(), 0, SEEK_SET) != 0)
      return system_error("read " + spec_.path);
    LineTally tally;
    bool has_nul = false;
    std::size_t last = 0;
    const auto take = [&](std::string_view text, std::size_t number) {
      has_nul = text.find('\0') != text.npos;
      last = number;
      tally.add(judge(text));
      return !has_nul && !tally.is_sure();
    };
    if (auto walked = walk(
            file, [](std::string_view) { return true; }, take);
        !walked)
      return walked.error();
    const auto why = has_nul ? std::string(kNulInLine) : tally.problem();
    if (!why.empty())
      return problem_at(spec_.path, last, why);
    return {};
  }

  LineTally::Line judge(std::string_view text) const {
    LineReader reader(text);
    Line line;
    KeyValue entry;
    if (!reader.next(line) || !split_line(line, entry).empty())
      return LineTally::Line::wrong;
    if (options_.check_key && !options_.check_key(entry.key).empty())
      return LineTally::Line::useless;
    const bool is_wrong = options_.check && !options_.check(entry.value).empty();
    return is_wrong ? LineTally::Line::wrong : LineTally::Line::entry;
  }

  std::string split_line(const Line& line, KeyValue& entry) const {
    return spec_.kind == Kind::aliases ? split_alias(line.text, entry)
                                       : split_entry(line.text, entry);
  }

  // Gives take() each entry with its continuations and its line, of those whose first line wants()
  // likes, until it returns false.
  template <typename Wants, typename Take>
  Result<void> walk(const FileDescriptor& file, const Wants& wants, const Take& take) const {
    BlockLines lines(file, spec_.path);
    std::string_view line;
    std::string taken;  // an entry, as far as it was read
    std::size_t number = 0, first = 0;
    bool has_begun = false, is_taken = false;
    for (;;) {
      const auto more = lines.next(line);
      if (!more)
        return more.error();
      if (*more && ++number == 1 && line.starts_with("\xef\xbb\xbf"))
        line.remove_prefix(3);
      const bool goes_on =
          *more && has_begun && (line.empty() || std::strchr(" \t#\r", line.front()) != nullptr);
      if (!goes_on) {
        if (is_taken && !take(taken, first))
          return {};
        if (!*more)
          return {};
        taken.clear();
        is_taken = false;
        if (!has_begun && is_ignored(line))
          continue;
        has_begun = true;
        first = number;
        is_taken = wants(trim(line));
      }
      if (is_taken && taken.size() <= kMostLine + kMostEnds && !is_ignored(line))
        taken.append(line).push_back('\n');
    }
  }

  static bool may_be(std::string_view line, const std::string& key) {
    return line.starts_with('"') || starts_with_ignoring_case(line, key);
  }

  Found look_at(std::string_view text, std::size_t number, const std::string& key,
                uid_t owner) const {
    LineReader reader(text);
    Line line;
    const bool is_line = reader.next(line);
    KeyValue entry;
    const auto form = split_line(line, entry);
    if (!form.empty() || entry.key != key)
      return std::optional<Entry>();
    if (is_line && options_.check_key && !options_.check_key(entry.key).empty())
      return std::optional<Entry>();
    auto problem = reader.problem();
    if (is_line && options_.check)
      problem = options_.check(entry.value);
    if (!problem.empty())
      return problem_at(spec_.path, number, problem);
    return std::optional<Entry>(Entry{std::move(entry.value),
                                      spec_.path + ":" + std::to_string(number), owner,
                                      folder_of(spec_.path)});
  }

  const Spec spec_;
  const Options options_;
  mutable std::mutex mutex_;
  mutable std::shared_ptr<const Table> opened_;
};

}  // namespace

std::shared_ptr<const Table> scan_table(Spec spec, Options options) {
  return std::make_shared<ScannedTable>(std::move(spec), std::move(options));
}

bool is_of_others(const Spec& spec) {
  if (!has_file(spec.kind))
    return false;
  const auto is_other = [](const FileDescriptor& place) {
    struct stat about {};
    return ::fstat(place.get(), &about) == 0 && about.st_uid != 0 && about.st_uid != ::geteuid();
  };
  const auto folder = find_place(folder_of(spec.path));
  const auto place = find_place(spec.path);
  for (const auto* found : {&folder, &place}) {
    if (*found ? is_other(**found) : found->error().code() == make_error_code(Errc::refused))
      return true;
  }
  struct stat link {};
  const auto name = spec.path.substr(spec.path.rfind('/') + 1);
  return folder && place &&
         ::fstatat(folder->get(), name.c_str(), &link, AT_SYMLINK_NOFOLLOW) == 0 &&
         S_ISLNK(link.st_mode) && link.st_uid != 0 && link.st_uid != ::geteuid();
}

}  // namespace postrider::tables
