#include "delivery/local/agents/mbox.h"

#include "base/text.h"
#include "delivery/local/agents/local_content.h"
#include "delivery/local/agents/local_file.h"
#include "delivery/local/agents/mbox_lock.h"

#include <array>
#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace postrider::delivery {

namespace {

using mail::Outcome;
using mail::Verdict;

// Longer than that, the mail waits in the queue and not in one of few places to deliver.
constexpr Duration kMostPatience = std::chrono::seconds(1);
constexpr std::string_view kFrom = "From ";
constexpr std::size_t kBlock = 64U << 10U;
constexpr off_t kMostUnwritten = 256 << 20;

bool is_missing(const Error& error) {
  return error.code() == boost::system::errc::no_such_file_or_directory;
}

std::string why_not_trusted(const struct stat& about) {
  if (!S_ISREG(about.st_mode))
    return "it is not a plain file";
  if (about.st_nlink != 1)
    return "it has " + std::to_string(about.st_nlink) + " names";
  if (about.st_uid != ::geteuid())
    return "it belongs to uid " + std::to_string(about.st_uid) +
           ", and mail for it is delivered as uid " + std::to_string(::geteuid());
  return {};
}

// Opened if it is a mailbox that we may trust; made if it is missing. shown: its whole path.
Result<FileDescriptor> open_mbox(const FileDescriptor& folder, const std::string& name,
                                 const std::string& shown) {
  constexpr int kFlags = O_RDWR | O_APPEND | O_NOFOLLOW | O_NONBLOCK;
  auto file = open_file_at(folder, name, kFlags);
  if (!file && is_missing(file.error()))
    file = open_file_at(folder, name, kFlags | O_CREAT, 0600);
  struct stat about {};
  const bool is_seen =
      file ? ::fstat(file->get(), &about) == 0
           : ::fstatat(folder.get(), name.c_str(), &about, AT_SYMLINK_NOFOLLOW) == 0;
  // What is not a file at all open(2) refuses in many ways: for a socket, with "no such device".
  const bool is_file = is_seen && S_ISREG(about.st_mode);
  if (!file && (!is_seen || is_file))
    return Error(file.error().code(), "open " + escaped(shown));
  if (!is_seen)
    return system_error("stat " + escaped(shown));
  if (const auto why = why_not_trusted(about); !why.empty())
    return Error(Errc::refused, "open " + escaped(shown) + " (" + why + ")");
  return file;
}

// The file may have been replaced while we waited for the lock: a reader that rewrites it.
bool is_still_there(const FileDescriptor& folder, const std::string& name,
                    const FileDescriptor& file) {
  struct stat ours {
  }, theirs{};
  return ::fstat(file.get(), &ours) == 0 &&
         ::fstatat(folder.get(), name.c_str(), &theirs, AT_SYMLINK_NOFOLLOW) == 0 &&
         ours.st_ino == theirs.st_ino && ours.st_dev == theirs.st_dev;
}

// Where the mailbox really ends: a power cut may have left room that was never written, which reads
// as NUL octets.
off_t end_of(const FileDescriptor& file, off_t size) {
  std::string block;
  for (off_t lowest = std::max<off_t>(0, size - kMostUnwritten); size > lowest;) {
    const auto from = std::max<off_t>(lowest, size - static_cast<off_t>(kBlock));
    block.resize(static_cast<std::size_t>(size - from));
    if (::pread(file.get(), block.data(), block.size(), from) != static_cast<ssize_t>(block.size()))
      return size;
    const auto last = block.find_last_not_of('\0');
    if (last != block.npos)
      return from + static_cast<off_t>(last) + 1;
    size = from;
  }
  return size;
}

// What must stand before our "From " so that nothing mixes with an unfinished message.
std::string separator(const FileDescriptor& file, off_t size) {
  std::array<char, 2> last{};
  const off_t from = size < 2 ? 0 : size - 2;
  const auto got = ::pread(file.get(), last.data(), last.size(), from);
  if (size == 0 || got <= 0 || (got == 2 && last[0] == '\n' && last[1] == '\n'))
    return {};
  return last[static_cast<std::size_t>(got) - 1] == '\n' ? "\n" : "\n\n";
}

Outcome full(std::uint64_t message, std::uint64_t limit) {
  if (message > limit)
    return local_end(Verdict::bounce, {5, 2, 2}, "the message is larger than a mailbox may be");
  return local_end(Verdict::retry, {4, 2, 2}, "the mailbox is full");
}

Result<void> append(const LocalJob& job, const LocalBody& body, const FileDescriptor& file,
                    off_t size) {
  LocalContent content(job, body);
  FromQuoter quoter;
  std::string piece;
  std::string out = separator(file, size) + from_line(job.envelope.sender, job.envelope.now);
  for (;;) {
    if (auto next = content.next(piece); !next)
      return next.error();
    if (piece.empty())
      break;
    quoter.feed(piece, out);
    if (auto written = write_all(file, out); !written)
      return written.error();
    out.clear();
  }
  quoter.finish(out);
  out.push_back('\n');
  if (auto written = write_all(file, out); !written)
    return written.error();
  return sync_file(file);
}

// Requires both locks.
Outcome append_or_undo(const LocalJob& job, const LocalBody& body, const FileDescriptor& folder,
                       const FileDescriptor& file) {
  struct stat about {};
  if (::fstat(file.get(), &about) != 0)
    return local_failure(system_error("stat"));
  if (const auto end = end_of(file, about.st_size); end < about.st_size) {
    if (::ftruncate(file.get(), end) != 0)
      return local_failure(system_error("cut back what was never written"));
    about.st_size = end;
  }
  const auto limit = job.target.limits.mailbox_size;
  if (limit > 0 && static_cast<std::uint64_t>(about.st_size) + job.size > limit)
    return full(job.size, limit);
  auto appended = append(job, body, file, about.st_size);
  if (appended && about.st_size == 0)
    appended = sync_file(folder);  // the file may be new
  if (appended)
    return local_end(Verdict::delivered, {2, 0, 0},
                     "delivered to " + escaped(job.target.describe()));
  auto outcome = local_failure(appended.error());
  if (::ftruncate(file.get(), about.st_size) != 0 || ::fsync(file.get()) != 0)
    outcome.text += "; and it could not be cut back: " + system_error("truncate").describe();
  return outcome;
}

Outcome cannot_lock(const Error& error) {
  if (error.code() == boost::system::errc::timed_out)
    return local_end(Verdict::retry, {4, 2, 0}, "the mailbox is locked: " + error.describe());
  return local_failure(error);
}

}  // namespace

void FromQuoter::feed(std::string_view in, std::string& out) {
  for (const char c : in) {
    if (!holding_) {
      out.push_back(c);
    } else {
      held_.push_back(c);
      const auto text =
          std::string_view(held_).substr(std::min(held_.find_first_not_of('>'), held_.size()));
      if (text == kFrom)
        out.push_back('>');
      // Longer than any header of a mailbox has ">"s is still one line: no need to hold it.
      holding_ = kFrom.starts_with(text) && text.size() < kFrom.size() && held_.size() < 512;
      if (!holding_)
        out.append(std::exchange(held_, {}));
    }
    at_start_ = c == '\n';
    holding_ = holding_ || at_start_;
  }
}

void FromQuoter::finish(std::string& out) {
  out.append(std::exchange(held_, {}));
  if (!at_start_)
    out.push_back('\n');
}

Outcome deliver_to_mbox(const LocalJob& job, const LocalBody& body) {
  if (job.target.place == "/dev/null")
    return local_end(Verdict::delivered, {2, 0, 0}, "delivered to /dev/null");
  const auto folder = enter_place(job.target, false);
  if (!folder)
    return local_failure(folder.error());
  const auto name = last_component(job.target);
  const auto patience = std::min(job.target.limits.time, kMostPatience);
  for (int tries = 0; tries < 10; ++tries) {
    const auto file = open_mbox(*folder, name, job.target.place);
    if (!file)
      return local_failure(file.error());
    if (auto locked = lock_file(*file, patience); !locked)
      return cannot_lock(locked.error());
    const auto dot_lock = DotLock::acquire(*folder, name, job.envelope.hostname, patience);
    if (!dot_lock)
      return cannot_lock(dot_lock.error());
    if (is_still_there(*folder, name, *file))
      return append_or_undo(job, body, *folder, *file);
  }
  return local_end(Verdict::retry, {4, 2, 0}, "the mailbox is replaced again and again");
}

}  // namespace postrider::delivery
