#include "daemon/control/kept_log.h"

#include "base/base64.h"
#include "base/packing.h"
#include "base/regular_file.h"
#include "base/text.h"
#include "queue/checksum.h"
#include "queue/fact.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <fcntl.h>
#include <optional>
#include <set>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace postrider::daemon {

namespace {

constexpr std::size_t kMostWaitingText = 64U << 10U;
// Changes of very many messages: the lines of single ones end there, those of changes do not.
constexpr std::uint64_t kMostLines = 64U << 20U;
constexpr std::uint64_t kMostKept = kMostLines + (4U << 20U);
constexpr std::size_t kMostRecord = 256U << 10U;  // longer than any fact
constexpr std::size_t kDigits = 8;                // of a checksum
constexpr std::size_t kMostWords = 512;           // names and keys that differ

// Of all messages that it concerned: who did it and what; and what was wrong.
bool is_of_a_change(const LogEvent& event) {
  const std::string_view name = event.name();
  return (event.level() >= Level::warn && event.id().empty()) || name == "queue_changed" ||
         name == "queue_change_failed" || name == "queue_paused" || name == "queue_resumed";
}

// The names and keys of lines live as long as the process. The file may say anything, though it is
// our own user's: so they are counted.
const char* lasting(std::string_view word) {
  static std::mutex mutex;
  static std::set<std::string, std::less<>> words;
  const std::lock_guard lock(mutex);
  const auto known = words.find(word);
  if (known != words.end())
    return known->c_str();
  return words.size() < kMostWords ? words.emplace(word).first->c_str() : nullptr;
}

std::string hex_checksum_of(std::string_view record) {
  char digits[kDigits + 1];
  std::snprintf(digits, sizeof digits, "%08x", queue::checksum_of(record));
  return digits;
}

std::string framed(std::string_view record) {
  return hex_checksum_of(record) + " " + encode_base64(record) + "\n";
}

std::optional<std::string> unframed(std::string_view line) {
  if (line.size() <= kDigits || line[kDigits] != ' ')
    return {};
  auto record = decode_base64(line.substr(kDigits + 1));
  if (!record || hex_checksum_of(*record) != line.substr(0, kDigits))
    return {};
  return record;
}

std::optional<LogEvent> event_of(std::string_view framed_line) {
  const auto record = unframed(framed_line);
  if (!record)
    return {};
  Unpacker in(*record);
  const auto level = in.number(static_cast<std::uint64_t>(Level::error));
  const auto fact = queue::decode_fact(in.text(kMostRecord));
  if (!fact || !in.done())
    return {};
  const auto* const name = lasting(fact->name);
  if (name == nullptr)
    return {};
  LogEvent line(static_cast<Level>(level), name, fact->id);
  fact->for_each([&](std::string_view key, std::string_view value) {
    if (const auto* const word = lasting(key))
      line.add(word, value);
  });
  line.add("done_at", format_rfc3339(fact->when));
  line.when = fact->when;
  return line;
}

// Writes all that can be read; how many records cannot.
std::size_t tell(std::string_view text, Log& log) {
  std::size_t damaged = 0;
  while (!text.empty()) {
    const auto framed_line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), framed_line.size() + 1));
    if (framed_line.empty())
      continue;
    auto line = event_of(framed_line);
    if (!line)
      ++damaged;
    else if (log.enabled(line->level()) || line->level() == Level::debug)
      log.write(*std::move(line));
  }
  return damaged;
}

// As much of it as tools ever write: what is behind that is damage.
Result<std::string> read_kept(const std::string& path) {
  const auto file = open_regular_file(path, O_RDONLY);
  if (!file)
    return file.error();
  struct stat about {};
  if (::fstat(file->get(), &about) != 0)
    return system_error("look at " + path);
  constexpr auto kMost = static_cast<off_t>(kMostKept + kMostRecord);
  std::string text(static_cast<std::size_t>(std::min(about.st_size, kMost)), '\0');
  for (std::size_t at = 0; at < text.size();) {
    const auto got = ::read(file->get(), text.data() + at, text.size() - at);
    if (got < 0 && errno == EINTR)
      continue;
    if (got < 0)
      return system_error("read " + path);
    if (got == 0)
      text.resize(at);
    at += static_cast<std::size_t>(got);
  }
  return text;
}

void say_on_standard_error(const LogEvent& event) {
  std::string line = event.name();
  event.for_each([&](std::string_view key, std::string_view value) {
    line.append(", ").append(key).append(": ").append(value);
  });
  std::fprintf(stderr, "postrider: %s\n", escaped(line, 2048).c_str());
}

// So that the tools find the place free. Where it is now; empty: it is gone, for it holds nothing, or
// it cannot be moved.
std::string move_aside(const std::string& path) {
  constexpr int kMostAside = 9;
  struct stat about {};
  if (::lstat(path.c_str(), &about) == 0 && !S_ISREG(about.st_mode) && !S_ISDIR(about.st_mode)) {
    ::unlink(path.c_str());
    return {};
  }
  for (int i = 1; i <= kMostAside; ++i) {  // a folder takes no file's place, nor a file a folder's
    auto aside = path + ".damaged" + (i == 1 ? std::string() : "-" + std::to_string(i));
    if (::rename(path.c_str(), aside.c_str()) == 0)
      return aside;
  }
  return {};
}

LogEvent lines_left_out() {
  return LogEvent(Level::warn, "changes_left_out")
      .add("advice",
           "the mail system was down while very many messages were changed; the lines "
           "queue_changed say what was asked and how many it were");
}

}  // namespace

void KeptLog::write(LogEvent event) {
  const bool is_change = is_of_a_change(event);
  if (!is_change && event.id().empty())
    return;
  if (errors_ == Errors::said && event.level() >= Level::error && event.id().empty())
    say_on_standard_error(event);
  Packer fact(512);
  fact.number(static_cast<std::uint64_t>(event.level()));
  fact.text(queue::encode_fact(clock_.now(), queue::encode_line(event)));
  auto bytes = framed(fact.take());
  bool is_first_left_out = false;
  {
    const std::lock_guard lock(mutex_);
    if (size_ + bytes.size() > (is_change ? kMostKept : kMostLines)) {
      is_first_left_out = !std::exchange(is_full_, true);
    } else {
      size_ += bytes.size();
      waiting_ += bytes;
      if (!is_change && waiting_.size() < kMostWaitingText)
        return;
    }
  }
  if (is_first_left_out)
    write(lines_left_out());
  else
    flush();  // before the tool says that it is done
}

// What cannot be kept is no reason to keep the administrator from what he does.
void KeptLog::flush() {
  const std::lock_guard lock(mutex_);
  if (waiting_.empty())
    return;
  const auto kept = append("\n" + std::exchange(waiting_, {}));
  if (!kept && !std::exchange(has_failed_, true))
    std::fprintf(stderr,
                 "postrider: what is done here will be missing in the log of the mail system's "
                 "next start: %s\n",
                 escaped(kept.error().describe(), 512).c_str());
}

Result<void> KeptLog::append(std::string_view bytes) {
  if (!file_.is_open()) {
    auto file = open_regular_file(path_, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (!file)
      return file.error();
    file_ = *std::move(file);
    struct stat about {};
    if (::fstat(file_.get(), &about) == 0)
      size_ += static_cast<std::uint64_t>(about.st_size);
  }
  if (auto written = write_all(file_, bytes); !written)
    return written.error().during("write " + path_);
  return sync_file(file_);
}

void tell_kept(const std::string& spool, Log& log) {
  const auto path = KeptLog::path_in(spool);
  const auto text = read_kept(path);
  if (!text && text.error().code() == boost::system::errc::no_such_file_or_directory)
    return;
  const auto damaged = text ? tell(*text, log) : 0;
  if (text && damaged == 0) {
    ::unlink(path.c_str());
    return;
  }
  const auto aside = move_aside(path);
  auto event = LogEvent(Level::warn, "changes_damaged")
                   .add("records", damaged)
                   .add("reason", text ? "records that cannot be read" : text.error().describe())
                   .add("file", aside.empty() ? path : aside)
                   .add("advice",
                        "look at the disk; what tools did to the queue while the mail system was "
                        "down is not all in the log: `postrider queue` shows how it is now");
  log.write(std::move(event));
}

}  // namespace postrider::daemon
