#include "daemon/pickup/drop_folder.h"

#include "base/net/blocking_pool.h"
#include "base/net/signal.h"
#include "base/random.h"
#include "base/text.h"
#include "base/user_mounts.h"
#include "daemon/pickup/drop_counts.h"
#include "daemon/pickup/drop_file.h"
#include "daemon/pickup/drop_return.h"
#include "daemon/pickup/submit_filters.h"
#include "daemon/pickup/submit_tables.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/posix/basic_stream_descriptor.hpp>

#include <cerrno>
#include <cstdio>
#include <fcntl.h>
#include <map>
#include <mutex>
#include <set>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

namespace postrider::daemon {

namespace {

constexpr std::size_t kMostInAPass = 1000;
constexpr std::size_t kChunk = 256U << 10U;
// Looking at very many names takes its time: nobody can make us do nothing else. A millisecond of
// rest for so many of them.
constexpr std::size_t kNamesForARest = 50;
constexpr std::size_t kManyNames = 5000;
constexpr Duration kSlow{5'000};  // then the others have their turn before the next of this party
constexpr Duration kLongestRest{30'000};
constexpr Duration kCleanEvery{std::chrono::minutes(10)};
constexpr std::size_t kMostPassed = 100'000;
constexpr std::size_t kMostTold = 1000;
constexpr std::size_t kMostSuffix = 64;
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

// Unlike a name, which its owner chooses, it can be no other user's file.
std::string drop_id_of(mail::MessageId id, std::uint64_t uid) {
  return to_string(id) + "." + std::to_string(uid);
}

// What is wrong is the file itself, for ever.
bool is_bad(const Error& error) {
  return error.code() == Errc::refused || error.code() == Errc::malformed ||
         error.code() == Errc::too_long;
}

// Renames within the folder; never over what is there.
Result<void> rename_in(const FileDescriptor& folder, const std::string& from,
                       const std::string& to) {
  if (::renameat2(folder.get(), from.c_str(), folder.get(), to.c_str(), RENAME_NOREPLACE) == 0)
    return {};
  // File systems that know no flags.
  struct stat about {};
  if (errno != EINVAL || look_within(folder, mount_of(folder), to, about) || errno != ENOENT ||
      ::renameat(folder.get(), from.c_str(), folder.get(), to.c_str()) != 0)
    return system_error("rename");
  return {};
}

// Not the file's doing, so other files will fare no better now.
bool may_pass(const Error& error) {
  for (const int number : {EIO, ENOSPC, EDQUOT, EROFS, EMFILE, ENFILE, ENOMEM})
    if (error.code() == boost::system::error_code(number, boost::system::system_category()) ||
        error.code() == boost::system::error_code(number, boost::system::generic_category()))
      return true;
  return false;
}

// Why a file was not taken.
struct Failed {
  enum class Whose : std::uint8_t {
    file,   // and never will be
    ours,   // a table, or what is read of the disk: this file waits
    queue,  // that takes nothing now: all wait
  };
  Error error;
  Whose whose;
};

// Not the queue's as a whole: what it says of one message is no reason for others to wait.
Failed::Whose whose(const Error& error) {
  const bool is_all =
      error.code() == Errc::storage || error.code() == Errc::stopped || may_pass(error);
  return is_all ? Failed::Whose::queue : Failed::Whose::ours;
}

// Why what waits does, for listings. Thread-safe.
class Reasons {
 public:
  void set(std::uint64_t uid, std::string why) {
    const std::lock_guard lock(mutex_);
    if (of_user_.size() < kMostUsers || of_user_.contains(uid))
      of_user_[uid] = std::move(why);
  }
  void clear(std::uint64_t uid) {
    const std::lock_guard lock(mutex_);
    of_user_.erase(uid);
    trouble_.clear();
  }
  void set_trouble(std::string why) {
    const std::lock_guard lock(mutex_);
    trouble_ = std::move(why);
  }
  std::string of(std::uint64_t uid) const {
    const std::lock_guard lock(mutex_);
    const auto found = of_user_.find(uid);
    return found == of_user_.end() ? trouble_ : found->second;
  }

 private:
  static constexpr std::size_t kMostUsers = 10'000;
  mutable std::mutex mutex_;
  std::map<std::uint64_t, std::string> of_user_;
  std::string trouble_;
};

struct Claimed {
  DropFile file;
  std::string name;  // it has now, and has for good: the folder is synced
  mail::MessageId id;
};

// Its owner may have put another in its place, which then has its own turn.
bool is_named(const FileDescriptor& folder, const std::string& name, const DropFile& file) {
  struct stat about {};
  return look_within(folder, mount_of(folder), name, about) && about.st_ino == file.inode;
}

// Our name for it is on stable storage before the queue hears of it: else it would come back under
// its old one after a power cut, to be sent again.
Result<Claimed> claim(const FileDescriptor& folder, DropFile file, const std::string& name,
                      mail::MessageId fresh) {
  Claimed claimed{std::move(file), name, fresh};
  if (const auto before = parse_taken(name)) {
    claimed.id = before->id;
  } else {
    claimed.name = std::string(kDropTaken) + to_string(fresh) + "." +
                   name.substr(std::min(name.size(), kDropReady.size()), kMostSuffix);
    if (auto renamed = rename_in(folder, name, claimed.name); !renamed)
      return renamed.error();
  }
  if (!is_named(folder, claimed.name, claimed.file))
    return system_error(ENOENT, "claim");
  if (auto synced = sync_file(folder); !synced)
    return synced.error().during("sync the drop folder");
  return claimed;
}

// A link, a FIFO or a socket holds no mail, and the confined daemon may make none: so it may not
// rename one either. Whether it was one and is gone.
bool remove_what_is_no_file(const FileDescriptor& folder, const std::string& name) {
  struct stat about {};
  return look_within(folder, mount_of(folder), name, about) && !S_ISREG(about.st_mode) &&
         !S_ISDIR(about.st_mode) && ::unlinkat(folder.get(), name.c_str(), 0) == 0;
}

// Without the descriptor: what is left when the header has gone into the message.
DropFile copy_of(const DropFile& file) {
  DropFile copy;
  copy.header = file.header;
  copy.content = file.content;
  copy.uid = file.uid;
  copy.inode = file.inode;
  return copy;
}

// Gone for good, or an error.
Result<void> remove_for_good(const FileDescriptor& folder, const std::string& name) {
  if (::unlinkat(folder.get(), name.c_str(), 0) != 0 && errno != ENOENT)
    return system_error("unlink");
  return sync_file(folder);
}

}  // namespace

struct DropFolder::State {
  State(Loop& loop_, BlockingPool& pool_, queue::Queue& queue_, const Clock& clock_, Log& log_,
        SubmitSettings settings_, const Rests& rests_)
      : loop(loop_),
        pool(pool_),
        queue(queue_),
        clock(clock_),
        log(log_),
        settings(std::move(settings_)),
        rests(rests_),
        filters(loop, queue, clock, log),
        watch(loop_.context()),
        look_again(loop_.deadlines(),
                   [this] {
                     held.clear();
                     wake.set();
                   }),
        rest(loop_.deadlines(), [this] { rested.set(); }),
        counted(rests.counts) {}

  Loop& loop;
  BlockingPool& pool;
  queue::Queue& queue;
  const Clock& clock;
  Log& log;
  SubmitSettings settings;
  SubmitTables tables;
  const Rests rests;
  SubmitFilters filters;
  FileDescriptor folder;
  Descriptor watch;
  Signal wake;
  Signal rested;
  Deadline look_again;
  bool looks_soon = false;  // of look_again, when it is set
  Deadline rest;
  std::uint64_t next_party = 0;  // who comes first in the next pass
  std::set<std::uint64_t> held;  // users at a limit: their files wait until the next look
  // Files that wait for something of ours to be put right, and until when they are let alone.
  std::map<std::string, SteadyTime> waiting;
  std::set<std::string> told;  // why they do: the log hears of each reason once
  DropCounts counted;
  // Of files that are gone: the same may still be on its way by the socket.
  std::vector<std::string> handed_over, handed_over_before;  // since the last cleaning, or before
  bool stopping = false;
  const std::shared_ptr<Reasons> reasons = std::make_shared<Reasons>();

  // Entries that can neither be taken nor put aside: not looked at again until the next cleaning.
  std::set<std::string, std::less<>> passed;
  SteadyTime next_cleaning;

  enum class Next : std::uint8_t {
    now,    // there may be more
    soon,   // trouble that may pass
    later,  // nothing more to do
  };
  enum class End : std::uint8_t {
    done,     // it is not there any more
    waits,    // it stays
    parked,   // it stays, and is not looked at for a while
    trouble,  // the queue takes nothing now
  };

  static Task<void> work(std::shared_ptr<State> self);
  static Task<void> notice(std::shared_ptr<State> self);
  Task<Next> pass();
  Task<Result<DropScan>> look();
  Task<void> forget_gone(std::vector<std::string> taken);
  void forget_later(std::string hand_over);
  Task<End> take(std::string name);
  Task<End> hand_over(Claimed claimed);
  Task<End> remove(std::string name, std::string drop_id);
  Task<bool> was_accepted(std::string name);
  std::uint64_t party_of(const DropFile& file) const {
    return settings.party ? settings.party(file.uid) : file.uid;
  }
  bool may_try(const DropFile& file);
  Result<bool> admits(const DropFile& file, std::size_t recipients);
  Task<std::optional<Failed>> submit(DropFile& dropped, const std::string& drop_id);
  Task<End> give_back(std::string name, DropFile unfit, Error why);
  End park(const std::string& name, const DropFile& file, const Error& error);
  std::set<std::string, std::less<>> let_alone();
  std::set<std::string, std::less<>> tried_before() const;
  Task<std::optional<Failed>> read_content(DropFile& dropped, std::uint64_t size,
                                           SubmissionBuilder& builder);
  End put_aside(const std::string& name, const Error& error);
  End pass_over(const std::string& name);
  End after(const std::string& name, const Error& error);
  void fail(const std::string& name, const Error& error);
  void look_later(bool soon);
};

void DropFolder::State::fail(const std::string& name, const Error& error) {
  reasons->set_trouble(error.describe());
  log.write(LogEvent(Level::error, "drop_failed").add("file", name).add("error", error.describe()));
}

// What comes meanwhile moves no look that is set: who waits for one would never have it.
void DropFolder::State::look_later(bool soon) {
  if (look_again.is_set() && (looks_soon || !soon))
    return;
  looks_soon = soon;
  look_again.set(soon ? rests.short_one : rests.usual);
}

DropFolder::State::End DropFolder::State::pass_over(const std::string& name) {
  if (passed.size() < kMostPassed)
    passed.insert(name);
  return End::waits;
}

// It has vanished, or somebody holds it, or nothing goes at the moment.
DropFolder::State::End DropFolder::State::after(const std::string& name, const Error& error) {
  if (error.code() == boost::system::errc::no_such_file_or_directory)
    return End::waits;
  fail(name, error);
  return may_pass(error) ? End::trouble : pass_over(name);
}

// A name that is taken, by whoever knew that it would be needed, is no obstacle.
DropFolder::State::End DropFolder::State::put_aside(const std::string& name, const Error& error) {
  log.write(
      LogEvent(Level::error, "drop_refused").add("file", name).add("error", error.describe()));
  waiting.erase(name);
  SystemRandom random;
  auto renamed = rename_in(folder, name, name + std::string(kDropRefused));
  if (!renamed)
    renamed =
        rename_in(folder, name, "msg." + std::to_string(random.next()) + std::string(kDropRefused));
  if (renamed || remove_what_is_no_file(folder, name))
    return End::done;
  fail(name, renamed.error());
  return pass_over(name);
}

// It waits for something of ours, and takes no turn of its user's other files meanwhile.
DropFolder::State::End DropFolder::State::park(const std::string& name, const DropFile& file,
                                               const Error& error) {
  counted.park(party_of(file), file.inode);
  const bool has_room = waiting.size() < kMostPassed || waiting.contains(name);
  if (has_room)
    waiting[name] = clock.steady() + rests.usual;
  if (told.size() < kMostTold && told.insert(error.describe()).second)
    log.write(
        LogEvent(Level::error, "drop_waits").add("file", name).add("error", error.describe()));
  return has_room ? End::parked : End::waits;
}

// Names that are not looked at now.
std::set<std::string, std::less<>> DropFolder::State::let_alone() {
  auto names = passed;
  const auto now = clock.steady();
  for (const auto& [name, until] : waiting)
    if (now < until)
      names.insert(name);
  return names;
}

// What was parked before comes behind its user's other files: however many there are, and however
// long their table takes to say that it does not know, the others have their turn.
std::set<std::string, std::less<>> DropFolder::State::tried_before() const {
  std::set<std::string, std::less<>> names;
  for (const auto& [name, until] : waiting)
    names.insert(name);
  return names;
}

// The file is gone for good before its id is forgotten.
Task<DropFolder::State::End> DropFolder::State::remove(std::string name, std::string drop_id) {
  const std::function<Result<void>()> job = [this, name] { return remove_for_good(folder, name); };
  const auto removed = co_await pool.run<Result<void>>(loop, job);
  if (!removed) {
    fail(name, removed.error());
    co_return End::waits;
  }
  waiting.erase(name);
  if (is_hand_over(drop_id))
    forget_later(std::move(drop_id));
  else if (!drop_id.empty())
    queue.forget_dropped({std::move(drop_id)});
  co_return End::done;
}

// By a version that kept no ids: one that is in the queue was accepted before we were stopped.
Task<bool> DropFolder::State::was_accepted(std::string name) {
  const auto taken = parse_taken(name);
  if (!taken)
    co_return false;
  const std::function<bool()> ask = [this, id = taken->id] { return queue.load(id).has_value(); };
  const bool accepted = co_await pool.run<bool>(loop, ask);
  co_return accepted;
}

Task<std::optional<Failed>> DropFolder::State::read_content(DropFile& dropped, std::uint64_t size,
                                                            SubmissionBuilder& builder) {
  while (size > 0) {
    const std::function<Chunk()> job = [file = dropped.file.get(), size] {
      return read_chunk(file, size);
    };
    const Chunk chunk = co_await pool.run<Chunk>(loop, job);
    if (!chunk.read) {
      const auto& error = chunk.read.error();
      co_return Failed{error, is_bad(error) ? Failed::Whose::file : Failed::Whose::ours};
    }
    if (auto fed = co_await tables.feed(loop, builder, chunk.bytes); !fed)
      co_return Failed{fed.error(), Failed::Whose::queue};
    size -= chunk.bytes.size();
  }
  co_return std::nullopt;
}

Task<std::optional<Failed>> DropFolder::State::submit(DropFile& dropped,
                                                      const std::string& drop_id) {
  const auto limits = settings;  // which may change meanwhile
  auto envelope = to_envelope(dropped.header, limits.origin, limits.recipients);
  if (!envelope)
    co_return Failed{Error(Errc::malformed, envelope.error().step()), Failed::Whose::file};
  const auto size = dropped.header.size;
  const auto id = queue.next_id();
  SubmissionBuilder builder(queue, limits, std::move(dropped.header), std::move(*envelope),
                            dropped.uid, id);
  if (auto failed = co_await read_content(dropped, size, builder))
    co_return failed;
  auto submission = co_await tables.finish(loop, builder, clock.now());
  if (!submission && builder.is_refused())
    co_return Failed{submission.error(), Failed::Whose::file};
  if (!submission)
    co_return Failed{submission.error(),
                     builder.is_about_tables() ? Failed::Whose::ours : Failed::Whose::queue};
  auto verdict = co_await filters.pass(limits, dropped.uid, *submission);
  if (!verdict)
    co_return Failed{verdict.error(), Failed::Whose::queue};
  if (verdict->refuses())
    co_return Failed{Error(Errc::refused, "refused: " + verdict->reply.str()),
                     verdict->reply.code < 500 ? Failed::Whose::ours : Failed::Whose::file};
  if (verdict->kind == smtpd::filter::Verdict::Kind::discard) {
    log.write(LogEvent(Level::info, "discarded", to_string(id)).add("uid", dropped.uid));
    co_return std::nullopt;
  }
  if (builder.is_to_be_signed()) {
    const std::function<Result<void>()> job = [&] { return builder.sign(*submission, log); };
    if (const auto done = co_await pool.run<Result<void>>(loop, job); !done)
      co_return Failed{done.error(), Failed::Whose::ours};
  }
  submission->drop_id = drop_id;
  auto line = accepted_line(*submission->message, builder.message_id(), dropped.uid, "drop");
  if (queue.keeps_facts())
    submission->line = queue::encode_line(line);
  auto accepted = co_await queue.accept_dropped(loop, std::move(*submission));
  if (!accepted)
    co_return Failed{accepted.error(), whose(accepted.error())};
  if (*accepted == id)  // else it was taken before
    log.write(std::move(line));
  co_return std::nullopt;
}

// False: its user is at a limit, or many of his files wait for something: it waits with them.
bool DropFolder::State::may_try(const DropFile& file) {
  if (held.contains(file.uid))
    return false;
  if (counted.has_room(party_of(file), file.inode))
    return true;
  held.insert(file.uid);
  reasons->set(file.uid, "many others of the same user wait");
  return false;
}

// Of a file that has a name of ours: its owner may still do to it what he likes, but each count is
// good for one message. False: the user is at a limit, the file waits.
Result<bool> DropFolder::State::admits(const DropFile& file, std::size_t recipients) {
  if (held.contains(file.uid))
    return false;
  if (!settings.admit || counted.covers(party_of(file), file.inode, recipients))
    return true;
  const auto refused = settings.admit(file.uid, recipients);
  if (!refused) {
    counted.add(party_of(file), file.inode, recipients);
    return true;
  }
  if (refused->exit_code != EX_TEMPFAIL)
    return Error(Errc::refused, refused->error);
  held.insert(file.uid);
  reasons->set(file.uid, refused->error);
  return false;
}

// False: not now; what lies there is looked at again later.
Task<DropFolder::State::End> DropFolder::State::take(std::string name) {
  if (co_await was_accepted(name)) {
    const auto end = co_await remove(name, {});
    co_return end;
  }
  auto unfit = std::make_shared<std::optional<DropFile>>();
  const std::function<Result<DropFile>()> open = [this, name, most = settings.message_size, unfit] {
    return open_drop_file(folder, name, most, unfit.get());
  };
  auto dropped = co_await pool.run<Result<DropFile>>(loop, open);
  if (!dropped && *unfit) {
    const auto end = co_await give_back(name, std::move(**unfit), dropped.error());
    co_return end;
  }
  if (!dropped && is_bad(dropped.error()))
    co_return put_aside(name, dropped.error());
  if (!dropped)
    co_return after(name, dropped.error());
  if (!may_try(*dropped))
    co_return End::waits;
  auto file = std::make_shared<DropFile>(std::move(*dropped));
  const std::function<Result<Claimed>()> job = [this, file, name, fresh = queue.next_id()] {
    return claim(folder, std::move(*file), name, fresh);
  };
  auto claimed = co_await pool.run<Result<Claimed>>(loop, job);
  if (!claimed)
    co_return after(name, claimed.error());
  const auto end = co_await hand_over(std::move(*claimed));
  co_return end;
}

Task<DropFolder::State::End> DropFolder::State::hand_over(Claimed claimed) {
  const auto uid = claimed.file.uid;
  const auto admitted = admits(claimed.file, claimed.file.header.recipients.size());
  if (!admitted) {
    const auto end = co_await give_back(claimed.name, std::move(claimed.file), admitted.error());
    co_return end;
  }
  if (!*admitted)
    co_return End::waits;
  auto drop_id = hand_over_id(claimed.file.header, uid);
  if (drop_id.empty())
    drop_id = drop_id_of(claimed.id, uid);
  auto unfit = copy_of(claimed.file);
  const auto failed = co_await submit(claimed.file, drop_id);
  if (!failed) {
    counted.forget(party_of(unfit), unfit.inode);
    reasons->clear(uid);
    const auto end = co_await remove(claimed.name, drop_id);
    co_return end;
  }
  if (failed->whose == Failed::Whose::file) {
    unfit.file = std::move(claimed.file.file);
    const auto end = co_await give_back(claimed.name, std::move(unfit), failed->error);
    co_return end;
  }
  if (failed->whose == Failed::Whose::ours) {
    reasons->set(uid, failed->error.describe());
    co_return park(claimed.name, unfit, failed->error);
  }
  if (failed->error.code() != Errc::stopped)
    fail(claimed.name, failed->error);
  co_return End::trouble;
}

// Its sender was told that it is in custody, so he hears what became of it. Stored under the
// file's id as the message would have been: once.
Task<DropFolder::State::End> DropFolder::State::give_back(std::string name, DropFile unfit,
                                                          Error why) {
  const auto uid = unfit.uid;
  if (!may_try(unfit))
    co_return End::waits;
  struct Returned {
    std::optional<Claimed> claimed;
    std::optional<queue::Submission> notice;
    Result<void> done;
  };
  auto file = std::make_shared<DropFile>(std::move(unfit));
  const std::function<Returned()> job = [this, file, name, why, limits = settings,
                                         fresh = queue.next_id(), id = queue.next_id(),
                                         now = clock.now()] {
    Returned returned;
    SystemRandom random;
    returned.notice = return_to_sender(*file, why, limits, id, random, now);
    if (!returned.notice)
      return returned;
    if (limits.signer)
      mailauth::sign_own(*limits.signer, returned.notice->message, log, now);
    auto claimed = claim(folder, std::move(*file), name, fresh);
    if (claimed)
      returned.claimed = std::move(*claimed);
    else
      returned.done = claimed.error();
    return returned;
  };
  auto returned = co_await pool.run<Returned>(loop, job);
  if (!returned.done)
    co_return after(name, returned.done.error());
  if (!returned.notice)
    co_return put_aside(name, why);
  const auto& returning = returned.claimed->file;
  if (const auto admitted = admits(returning, 1); admitted && !*admitted)
    co_return End::waits;
  const auto drop_id = drop_id_of(returned.claimed->id, uid);
  returned.notice->drop_id = drop_id;
  const auto id = returned.notice->message->id;
  const auto to = returned.notice->message->envelope.recipients.front().address;
  const auto accepted = co_await queue.accept_dropped(loop, std::move(*returned.notice));
  if (!accepted) {
    if (whose(accepted.error()) == Failed::Whose::ours)
      co_return park(returned.claimed->name, returning, accepted.error());
    if (accepted.error().code() != Errc::stopped)
      fail(returned.claimed->name, accepted.error());
    co_return End::trouble;
  }
  counted.forget(party_of(returning), returning.inode);
  if (*accepted == id)  // else one was stored before
    log.write(LogEvent(Level::warn, "drop_returned")
                  .add("file", returned.claimed->name)
                  .add("uid", uid)
                  .add("notice", to_string(id))
                  .add("to", to)
                  .add("error", why.describe()));
  const auto end = co_await remove(returned.claimed->name, drop_id);
  co_return end;
}

Task<Result<DropScan>> DropFolder::State::look() {
  const auto now = clock.now().time_since_epoch();
  const bool clean = clock.steady() >= next_cleaning;
  if (clean) {
    next_cleaning = clock.steady() + kCleanEvery;
    passed.clear();
    if (!handed_over_before.empty())
      queue.forget_dropped(std::move(handed_over_before));
    handed_over_before = std::exchange(handed_over, {});
    const auto now_steady = clock.steady();
    std::erase_if(waiting, [&](const auto& one) { return one.second + kCleanEvery < now_steady; });
  }
  const std::function<Result<DropScan>()> scan =
      [this, now, clean, skipped = held, names = let_alone(),
       turns = DropTurns{settings.party, next_party, tried_before()}] {
        const auto nanoseconds = std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
        return scan_drop_folder(folder, nanoseconds, kMostInAPass, skipped, names, clean, turns);
      };
  auto found = co_await pool.run<Result<DropScan>>(loop, scan);
  if (found)
    for (const auto& name : found->removed)
      log.write(LogEvent(Level::error, "drop_removed").add("file", name));
  if (found && clean && found->is_whole) {
    counted.keep(found->inodes);
    co_await forget_gone(std::move(found->taken));
  }
  co_return found;
}

void DropFolder::State::forget_later(std::string hand_over) {
  if (handed_over.size() < kMostPassed)
    handed_over.push_back(std::move(hand_over));
}

// Ids of files that are gone: we were stopped between the two. Those of hand-overs whose file may
// still come are kept.
Task<void> DropFolder::State::forget_gone(std::vector<std::string> taken) {
  const std::function<Result<std::vector<std::string>>()> ask =
      [this]() -> Result<std::vector<std::string>> {
    if (auto synced = sync_file(folder); !synced)
      return synced.error();
    return queue.dropped();
  };
  auto known = co_await pool.run<Result<std::vector<std::string>>>(loop, ask);
  if (!known)
    co_return;
  std::set<std::string> there;
  for (const auto& name : taken)
    if (const auto parsed = parse_taken(name))
      there.insert(to_string(parsed->id));
  const auto now = clock.now();
  std::erase_if(*known, [&](const std::string& id) {
    return is_hand_over(id) ? !is_forgettable_hand_over(id, now)
                            : there.contains(id.substr(0, id.find('.')));
  });
  if (!known->empty())
    queue.forget_dropped(std::move(*known));
}

// What moved decides whether to look again at once, not how much lies there.
Task<DropFolder::State::Next> DropFolder::State::pass() {
  if (queue.admission() != queue::Admission::open)
    co_return Next::soon;
  const auto found = co_await look();
  if (!found) {
    log.write(LogEvent(Level::error, "drop_failed").add("error", found.error().describe()));
    co_return Next::soon;
  }
  std::size_t moved = 0;         // gone, or left alone from now on
  std::set<std::uint64_t> slow;  // parties for which a table took long to say nothing
  for (const auto& entry : found->entries) {
    if (stopping)
      co_return Next::later;
    if (slow.contains(entry.party))
      continue;
    next_party = entry.party + 1;
    const auto began = clock.steady();
    const auto end = co_await take(entry.name);
    if (end == End::trouble)
      co_return Next::soon;
    if (end == End::parked && clock.steady() - began > kSlow)
      slow.insert(entry.party);
    moved += end == End::done || end == End::parked ? 1 : 0;
  }
  if (found->looked > kManyNames) {
    rest.set(std::min(kLongestRest, Duration(found->looked / kNamesForARest)));
    co_await rested.wait();
  }
  const bool was_all = found->entries.size() < kMostInAPass && slow.empty();
  co_return moved > 0 && !was_all ? Next::now : Next::later;
}

Task<void> DropFolder::State::work(std::shared_ptr<State> self) {
  while (!self->stopping) {
    const auto next = co_await self->pass();
    if (next == Next::now || self->stopping)
      continue;
    self->look_later(next == Next::soon);
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
  return open(spool, loop, pool, queue, clock, log, std::move(settings), Rests());
}

Result<std::unique_ptr<DropFolder>> DropFolder::open(const std::string& spool, Loop& loop,
                                                     BlockingPool& pool, queue::Queue& queue,
                                                     const Clock& clock, Log& log,
                                                     SubmitSettings settings, const Rests& rests) {
  auto folder = make_drop_folder(spool);
  if (!folder)
    return folder.error().during("drop folder");
  auto state = std::make_shared<State>(loop, pool, queue, clock, log, std::move(settings), rests);
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
  state_->loop.keep([state = state_] { return State::work(state); }, state_->log, "drop folder");
  if (state_->watch.is_open())
    state_->loop.keep([state = state_] { return State::notice(state); }, state_->log,
                      "drop folder watch");
}

void DropFolder::stop() {
  state_->stopping = true;
  state_->filters.give_up();
  state_->look_again.clear();
  boost::system::error_code ignored;
  state_->watch.close(ignored);
  state_->rest.clear();
  state_->rested.set();
  state_->wake.set();
}

std::function<std::string(std::uint64_t uid)> DropFolder::reasons() const {
  return [reasons = state_->reasons](std::uint64_t uid) { return reasons->of(uid); };
}

void DropFolder::reconfigure(SubmitSettings settings) {
  state_->settings = std::move(settings);
  state_->held.clear();  // limits may have changed, and tables too
  state_->waiting.clear();
  state_->told.clear();
  state_->wake.set();
}

}  // namespace postrider::daemon
