#include "daemon/drop_folder.h"

#include "base/blocking_pool.h"
#include "base/random.h"
#include "base/signal.h"
#include "base/text.h"
#include "daemon/drop_file.h"
#include "daemon/submit_builder.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/posix/basic_stream_descriptor.hpp>

#include <cerrno>
#include <fcntl.h>
#include <set>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

namespace postrider::daemon {

namespace {

constexpr std::size_t kMostInAPass = 1000;
constexpr std::size_t kChunk = 256U << 10U;
constexpr Duration kLookAgain{std::chrono::seconds(60)};
constexpr unsigned kFolderMode = 03733;
constexpr auto use_tuple = asio::as_tuple(use_task);

using Descriptor = asio::posix::basic_stream_descriptor<Executor>;

// The spool stays closed, except that others may pass on to the drop folder.
Result<FileDescriptor> make_drop_folder(const std::string& spool) {
  const auto path = drop_folder_path(spool);
  if (auto made = make_folder(path, 0700); !made)
    return made.error();
  auto folder = open_file(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!folder)
    return folder.error();
  struct stat about {};
  if (::fstat(folder->get(), &about) != 0)
    return system_error("stat " + path);
  if (about.st_uid != ::geteuid())
    return Error(Errc::refused, path + " belongs to another user");
  // Only if need be: a sandbox may forbid it, when the folder was made beforehand.
  if ((about.st_mode & 07777U) != kFolderMode && ::fchmod(folder->get(), kFolderMode) != 0)
    return system_error("chmod " + path);
  struct stat above {};
  if (::stat(spool.c_str(), &above) == 0 && above.st_uid == ::geteuid() &&
      (above.st_mode & 0011U) != 0011U &&
      ::chmod(spool.c_str(), (above.st_mode & 07777U) | 0011U) != 0)
    return system_error("chmod " + spool);
  return folder;
}

struct Chunk {
  std::string bytes;
  Result<void> read;
};

Chunk read_chunk(int file, std::uint64_t most) {
  Chunk chunk;
  chunk.bytes.resize(std::min<std::uint64_t>(most, kChunk));
  ssize_t got = 0;
  do {
    got = ::read(file, chunk.bytes.data(), chunk.bytes.size());
  } while (got < 0 && errno == EINTR);
  if (got < 0)
    chunk.read = system_error("read");
  else if (got == 0)
    chunk.read = malformed("size");  // cut while we read
  chunk.bytes.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  return chunk;
}

// "taken.ID.RANDOM"
struct Taken {
  mail::MessageId id;
  std::string_view suffix;
};
std::optional<Taken> parse_taken(std::string_view name) {
  if (!name.starts_with(kDropTaken))
    return std::nullopt;
  name.remove_prefix(kDropTaken.size());
  const auto dot = name.find('.');
  const auto id = mail::parse_message_id(name.substr(0, dot));
  if (dot == std::string_view::npos || !id)
    return std::nullopt;
  return Taken{*id, name.substr(dot + 1)};
}

}  // namespace

struct DropFolder::State {
  State(Loop& loop_, BlockingPool& pool_, queue::Queue& queue_, const Clock& clock_, Log& log_,
        SubmitSettings settings_)
      : loop(loop_),
        pool(pool_),
        queue(queue_),
        clock(clock_),
        log(log_),
        settings(std::move(settings_)),
        watch(loop_.context()),
        look_again(loop_.deadlines(), [this] {
          held.clear();
          wake.set();
        }) {}

  Loop& loop;
  BlockingPool& pool;
  queue::Queue& queue;
  const Clock& clock;
  Log& log;
  SubmitSettings settings;
  FileDescriptor folder;
  Descriptor watch;
  Signal wake;
  Deadline look_again;
  std::set<std::uint64_t> held;  // users at a limit: their files wait until the next look
  bool stopping = false;

  static Task<void> work(std::shared_ptr<State> self);
  static Task<void> notice(std::shared_ptr<State> self);
  Task<bool> pass();
  Task<bool> take(std::string name);
  Task<bool> was_accepted(std::string name);
  Result<bool> admits(const DropFile& dropped);
  Task<Result<void>> submit(DropFile dropped, mail::MessageId id);
  Task<Result<void>> read_content(DropFile& dropped, std::uint64_t size,
                                  SubmissionBuilder& builder);
  void put_aside(const std::string& name, const Error& error);
  void remove(const std::string& name);
};

void DropFolder::State::remove(const std::string& name) {
  if (::unlinkat(folder.get(), name.c_str(), 0) != 0)
    log.write(LogEvent(Level::error, "drop-failed")
                  .add("file", name)
                  .add("error", system_error("unlink").describe()));
}

void DropFolder::State::put_aside(const std::string& name, const Error& error) {
  log.write(LogEvent(Level::warn, "drop-refused").add("file", name).add("error", error.describe()));
  const std::string bad = name + ".bad";
  if (::renameat(folder.get(), name.c_str(), folder.get(), bad.c_str()) != 0)
    log.write(LogEvent(Level::error, "drop-failed")
                  .add("file", name)
                  .add("error", system_error("rename").describe()));
}

// A file whose id is in the queue was accepted before we were stopped.
Task<bool> DropFolder::State::was_accepted(std::string name) {
  const auto taken = parse_taken(name);
  if (!taken)
    co_return false;
  const std::function<bool()> ask = [this, id = taken->id] { return queue.load(id).has_value(); };
  const bool accepted = co_await pool.run<bool>(loop, ask);
  co_return accepted;
}

Task<Result<void>> DropFolder::State::read_content(DropFile& dropped, std::uint64_t size,
                                                   SubmissionBuilder& builder) {
  while (size > 0) {
    const std::function<Chunk()> job = [file = dropped.file.get(), size] {
      return read_chunk(file, size);
    };
    const Chunk chunk = co_await pool.run<Chunk>(loop, job);
    if (!chunk.read)
      co_return chunk.read.error();
    if (auto fed = builder.feed(chunk.bytes); !fed)
      co_return fed.error();
    size -= chunk.bytes.size();
  }
  co_return Result<void>{};
}

Task<Result<void>> DropFolder::State::submit(DropFile dropped, mail::MessageId id) {
  auto envelope = to_envelope(dropped.header, settings.origin, settings.recipients);
  if (!envelope)
    co_return Error(Errc::malformed, envelope.error().step());
  const auto size = dropped.header.size;
  SubmissionBuilder builder(queue, settings, std::move(dropped.header), std::move(*envelope),
                            dropped.uid, id);
  if (auto read = co_await read_content(dropped, size, builder); !read)
    co_return read.error();
  auto submission = builder.finish(clock.now());
  if (!submission)
    co_return submission.error();
  const auto message = submission->message;
  auto accepted = co_await queue.accept(loop, std::move(*submission));
  if (accepted)
    log_submission(log, *message, dropped.uid, "drop");
  co_return accepted;
}

// False: the user is at a limit, the file waits.
Result<bool> DropFolder::State::admits(const DropFile& dropped) {
  if (held.contains(dropped.uid))
    return false;
  if (!settings.admit)
    return true;
  const auto refused = settings.admit(dropped.uid, dropped.header.recipients.size());
  if (!refused)
    return true;
  if (refused->exit_code != EX_TEMPFAIL)
    return Error(Errc::refused, refused->error);
  held.insert(dropped.uid);
  return false;
}

// False: not now; what lies there is looked at again later.
Task<bool> DropFolder::State::take(std::string name) {
  if (co_await was_accepted(name)) {
    remove(name);
    co_return true;
  }
  const std::function<Result<DropFile>()> open = [this, name, most = settings.message_size] {
    return open_drop_file(folder, name, most);
  };
  auto dropped = co_await pool.run<Result<DropFile>>(loop, open);
  const auto is_bad = [](const Error& error) {
    return error.code() == Errc::refused || error.code() == Errc::malformed ||
           error.code() == Errc::too_long;
  };
  if (!dropped) {
    if (is_bad(dropped.error()))
      put_aside(name, dropped.error());
    co_return true;  // it may have vanished
  }
  const auto admitted = admits(*dropped);
  if (!admitted)
    put_aside(name, admitted.error());
  if (!admitted || !*admitted)
    co_return true;
  const auto id = queue.next_id();
  const auto before = parse_taken(name);
  const auto suffix = before ? before->suffix : std::string_view(name).substr(kDropReady.size());
  const std::string taken = std::string(kDropTaken) + to_string(id) + "." + std::string(suffix);
  if (::renameat(folder.get(), name.c_str(), folder.get(), taken.c_str()) != 0)
    co_return true;
  const auto submitted = co_await submit(std::move(*dropped), id);
  if (submitted) {
    remove(taken);
    co_return true;
  }
  if (is_bad(submitted.error())) {
    put_aside(taken, submitted.error());
    co_return true;
  }
  log.write(LogEvent(Level::error, "drop-failed")
                .add("file", taken)
                .add("error", submitted.error().describe()));
  co_return false;
}

// True if there may be more at once.
Task<bool> DropFolder::State::pass() {
  if (queue.admission() != queue::Admission::open)
    co_return false;
  const auto now = clock.now().time_since_epoch();
  const std::function<Result<std::vector<DropEntry>>()> scan = [this, now, skipped = held] {
    const auto nanoseconds = std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
    return scan_drop_folder(folder, nanoseconds, kMostInAPass, skipped);
  };
  const auto entries = co_await pool.run<Result<std::vector<DropEntry>>>(loop, scan);
  if (!entries) {
    log.write(LogEvent(Level::error, "drop-failed").add("error", entries.error().describe()));
    co_return false;
  }
  for (const auto& entry : *entries) {
    if (stopping)
      co_return false;
    const bool go_on = co_await take(entry.name);
    if (!go_on)
      co_return false;
  }
  co_return entries->size() == kMostInAPass;
}

Task<void> DropFolder::State::work(std::shared_ptr<State> self) {
  while (!self->stopping) {
    const bool more = co_await self->pass();
    if (more || self->stopping)
      continue;
    self->look_again.set(kLookAgain);
    co_await self->wake.wait();
  }
}

Task<void> DropFolder::State::notice(std::shared_ptr<State> self) {
  char events[4096];
  while (!self->stopping) {
    const auto [code] = co_await self->watch.async_wait(Descriptor::wait_read, use_tuple);
    if (code)
      break;
    while (::read(self->watch.native_handle(), events, sizeof events) > 0) {
    }
    self->wake.set();
  }
}

Result<std::unique_ptr<DropFolder>> DropFolder::open(const std::string& spool, Loop& loop,
                                                     BlockingPool& pool, queue::Queue& queue,
                                                     const Clock& clock, Log& log,
                                                     SubmitSettings settings) {
  auto folder = make_drop_folder(spool);
  if (!folder)
    return folder.error().during("drop folder");
  auto state = std::make_shared<State>(loop, pool, queue, clock, log, std::move(settings));
  state->folder = std::move(*folder);
  FileDescriptor watch(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  // Without it (no watches left) the folder is still looked at every minute.
  if (watch.is_open() &&
      ::inotify_add_watch(watch.get(), drop_folder_path(spool).c_str(), IN_MOVED_TO) >= 0)
    state->watch.assign(watch.release());
  return std::unique_ptr<DropFolder>(new DropFolder(std::move(state)));
}

DropFolder::DropFolder(std::shared_ptr<State> state) : state_(std::move(state)) {}
DropFolder::~DropFolder() = default;

void DropFolder::start() {
  state_->loop.spawn(State::work(state_), state_->log, "drop folder");
  if (state_->watch.is_open())
    state_->loop.spawn(State::notice(state_), state_->log, "drop folder watch");
}

void DropFolder::stop() {
  state_->stopping = true;
  state_->look_again.clear();
  boost::system::error_code ignored;
  state_->watch.close(ignored);
  state_->wake.set();
}

void DropFolder::reconfigure(SubmitSettings settings) {
  state_->settings = std::move(settings);
  state_->held.clear();  // limits may have changed
  state_->wake.set();
}

}  // namespace postrider::daemon
