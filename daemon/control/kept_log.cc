#include "daemon/control/kept_log.h"

#include "base/packing.h"
#include "base/text.h"
#include "queue/fact.h"

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
constexpr std::size_t kMostRecord = 64U << 10U;
constexpr std::size_t kMostWords = 512;  // names and keys that differ

// Of all messages that it concerned: who did it and what.
bool is_of_a_change(std::string_view name) {
  return name == "queue_changed" || name == "queue_change_failed" || name == "queue_paused" ||
         name == "queue_resumed";
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

std::optional<LogEvent> line_of(std::string_view record) {
  Unpacker in(record);
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

}  // namespace

void KeptLog::write(LogEvent event) {
  const bool is_change = is_of_a_change(event.name());
  if (!is_change && event.id().empty())
    return;
  Packer fact(512);
  fact.number(static_cast<std::uint64_t>(event.level()));
  fact.text(queue::encode_fact(clock_.now(), queue::encode_line(event)));
  Packer record(512);
  record.text(fact.take());
  {
    const std::lock_guard lock(mutex_);
    auto bytes = record.take();
    if (size_ + bytes.size() > (is_change ? kMostKept : kMostLines))
      return;
    size_ += bytes.size();
    waiting_ += bytes;
    if (!is_change && waiting_.size() < kMostWaitingText)
      return;
  }
  flush();  // before the tool says that it is done
}

// What cannot be kept is no reason to keep the administrator from what he does.
void KeptLog::flush() {
  const std::lock_guard lock(mutex_);
  if (waiting_.empty())
    return;
  if (!file_.is_open()) {
    auto file = open_file(path_, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK, 0600);
    if (!file)
      return;
    file_ = *std::move(file);
    struct stat about {};
    if (::fstat(file_.get(), &about) == 0)
      size_ += static_cast<std::uint64_t>(about.st_size);
  }
  (void)write_all(file_, std::exchange(waiting_, {}));
  (void)sync_file(file_);
}

void tell_kept(const std::string& spool, Log& log) {
  const auto path = KeptLog::path_in(spool);
  const auto file = open_file(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  if (!file)
    return;
  const auto text = read_file(*file, path, kMostKept + kMostRecord);
  Unpacker in(text ? std::string_view(*text) : std::string_view());
  for (;;) {
    const auto record = in.text(kMostRecord);
    if (record.empty())
      break;
    if (auto line = line_of(record))
      if (log.enabled(line->level()) || line->level() == Level::debug)
        log.write(*std::move(line));
  }
  ::unlink(path.c_str());
}

}  // namespace postrider::daemon
