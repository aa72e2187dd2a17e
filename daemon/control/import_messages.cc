#include "daemon/control/import_messages.h"

#include "base/user_mounts.h"
#include "daemon/control/control_jobs.h"
#include "daemon/control/kept_log.h"
#include "daemon/control/message_file.h"
#include "daemon/control/offline_intake.h"
#include "daemon/control/queue_exit.h"
#include "queue/checksum.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <future>
#include <set>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

namespace postrider::daemon {

namespace {

constexpr std::size_t kReadAtOnce = 256U << 10U;
constexpr std::size_t kOtherDescriptors = 64;

// One file, from its beginning to its end.
class FileToImport {
 public:
  explicit FileToImport(const FileDescriptor& file) : file_(file) {}

  // Errc::malformed: it is not a message; else it cannot be read.
  Result<MessageFileHead> read_head() {
    for (;;) {
      auto head = parse_message_file(rest_);
      if (!head)
        return head.error();
      if (head->has_value()) {
        rest_.erase(0, (*head)->size);
        return **std::move(head);
      }
      auto more = read_more();
      if (!more)
        return more.error();
      if (!*more)
        return Error(Errc::malformed, "it is cut off");
    }
  }
  // The next piece of the content; empty at the end.
  Result<std::string> next() {
    if (rest_.empty())
      if (auto more = read_more(); !more)
        return more.error();
    return std::exchange(rest_, {});
  }

 private:
  Result<bool> read_more() {
    const auto before = rest_.size();
    rest_.resize(before + kReadAtOnce);
    ssize_t got = 0;
    do {
      got = ::read(file_.get(), rest_.data() + before, kReadAtOnce);
    } while (got < 0 && errno == EINTR);
    rest_.resize(before + static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
    if (got < 0)
      return system_error("read");
    return got > 0;
  }

  const FileDescriptor& file_;
  std::string rest_;
};

class Importer {
 public:
  Importer(queue::Queue& queue, Log& log, const queue::Actor& actor)
      : queue_(queue), actor_(actor), intake_(queue, log, actor.uid) {}

  ImportedFile import(const std::string& name, const FileDescriptor& file) {
    ImportedFile done;
    done.file = name;
    FileToImport source(file);
    auto head = source.read_head();
    if (!head)
      return ended(std::move(done), head.error());
    done.id = to_string(head->message.id);
    auto known = is_known(head->message.id);
    if (!known)
      return ended(std::move(done), known.error());
    if (*known) {
      done.end = ImportedFile::End::known;
      return done;
    }
    const auto freed = not_held(*head);
    auto submission = read_content(source, *std::move(head));
    if (!submission)
      return ended(std::move(done), submission.error());
    const auto id = submission->message->id;
    if (auto stored = intake_.accept(*std::move(submission)); !stored)
      return ended(std::move(done), stored.error());
    for (const auto& address : freed)
      if (auto released = release(id, address); !released)
        return ended(std::move(done), released.error());
    done.end = ImportedFile::End::imported;
    return done;
  }

 private:
  static ImportedFile ended(ImportedFile done, const Error& error) {
    const bool is_its_fault = error.code() == Errc::malformed || error.code() == Errc::corrupt;
    done.end = is_its_fault ? ImportedFile::End::refused : ImportedFile::End::failed;
    done.reason = is_its_fault ? error.step() : error.describe();
    return done;
  }

  Result<bool> is_known(mail::MessageId id) {
    queue::Filter filter;
    filter.ids.push_back(id);
    auto found = queue_.list(filter, {}, 1);
    if (!found)
      return found.error();
    return !found->empty();
  }

  // A message of which anybody is held comes into the queue held as a whole, and these are let go
  // afterwards: whenever that ends early, nothing is sent that was held.
  static std::set<std::string> not_held(const MessageFileHead& head) {
    std::set<std::string> freed;
    // A release would send what is to wait for a time that its sender chose.
    if (head.held.empty() || head.message.envelope.release > SystemClock().now())
      return freed;
    const auto& recipients = head.message.envelope.recipients;
    for (const auto& recipient : recipients)
      freed.insert(recipient.address);
    for (const auto place : head.held)
      freed.erase(recipients[place].address);
    return freed;
  }

  Result<void> release(mail::MessageId id, const std::string& address) {
    queue::Filter filter;
    filter.ids.push_back(id);
    filter.to = address;
    std::promise<Result<queue::Changed>> promise;
    queue_.change(
        queue::Verb::release, std::move(filter), false,
        [&promise](auto changed) { promise.set_value(std::move(changed)); }, actor_);
    auto changed = promise.get_future().get();
    if (!changed)
      return changed.error().during("release who was not held");
    return {};
  }

  Result<queue::Submission> read_content(FileToImport& source, MessageFileHead head) {
    auto message = std::make_shared<mail::Message>(std::move(head.message));
    const auto wanted = message->content.size;
    IntakeContent content(queue_, message->id);
    queue::Checksum checksum;
    bool is_longer = false;
    for (;;) {
      auto piece = source.next();
      if (!piece)
        return piece.error();
      if (piece->empty())
        break;
      is_longer = content.size() + piece->size() > wanted;
      if (is_longer)
        break;
      checksum.feed(*piece);
      if (auto appended = content.append(*piece); !appended)
        return appended.error();
    }
    if (auto finished = content.finish(); !finished)
      return finished.error();
    if (is_longer || content.size() != wanted || checksum.value() != head.checksum)
      return Error(Errc::corrupt, "its content is not what was exported");
    queue::Submission submission;
    content.move_to(message->content, submission);
    submission.message = std::move(message);
    if (!head.held.empty())
      submission.hold = "it was held when it was exported";
    return submission;
  }

  queue::Queue& queue_;
  const queue::Actor actor_;
  OfflineIntake intake_;
};

// As many as may be open; the rest is not begun.
std::size_t allow_descriptors(std::size_t wanted) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0)
    return 0;
  limit.rlim_cur =
      std::max(limit.rlim_cur, std::min<rlim_t>(limit.rlim_max, wanted + kOtherDescriptors));
  ::setrlimit(RLIMIT_NOFILE, &limit);
  ::getrlimit(RLIMIT_NOFILE, &limit);
  return limit.rlim_cur > kOtherDescriptors ? limit.rlim_cur - kOtherDescriptors : 0;
}

// Users may have made it, and folders on the way: root waits for none of theirs.
Result<FileDescriptor> open_message_file(const std::string& name) {
  auto file = open_to_read(name, LastLink::keep);
  if (!file)
    return file;
  struct stat about {};
  if (::fstat(file->get(), &about) != 0)
    return system_error("look at it");
  if (!S_ISREG(about.st_mode))
    return Error(Errc::malformed, "it is not a file");
  return file;
}

int exit_code_of(const std::vector<ImportedFile>& files) {
  int code = EX_OK;
  for (const auto& one : files) {
    if (one.end == ImportedFile::End::failed)
      return EX_IOERR;
    if (one.end == ImportedFile::End::refused)
      code = EX_DATAERR;
  }
  return code;
}

}  // namespace

std::vector<ImportedFile> import_files(queue::Queue& queue, Log& log, const queue::Actor& actor,
                                       std::vector<std::pair<std::string, FileDescriptor>> files) {
  std::vector<ImportedFile> done;
  Importer importer(queue, log, actor);
  for (const auto& [name, file] : files)
    done.push_back(importer.import(name, file));
  return done;
}

Imported import_messages(const ToolPaths& places, const std::vector<std::string>& files) {
  Imported result;
  const auto refuse = [&result](int code, std::string sentence) {
    result.exit_code = code;
    result.error = std::move(sentence);
    return std::move(result);
  };
  if (LocalConnection::connect(places.control_socket))
    return refuse(EX_UNAVAILABLE,
                  "the mail system is running; stop it before messages are imported: "
                  "systemctl stop postrider");
  if (allow_descriptors(files.size()) < files.size())
    return refuse(EX_USAGE, "these are more files than can be open; import them in parts");
  std::vector<std::pair<std::string, FileDescriptor>> opened;
  for (const auto& name : files) {
    auto file = open_message_file(name);
    if (file) {
      opened.emplace_back(name, *std::move(file));
      continue;
    }
    const bool is_no_file = file.error().code() == Errc::malformed;
    result.files.push_back({name, "",
                            is_no_file ? ImportedFile::End::refused : ImportedFile::End::failed,
                            is_no_file ? file.error().step() : file.error().describe()});
  }
  const auto actor = actor_of(::getuid());  // who asks, not who enters the spool
  if (auto refused = enter_spool(places))
    return refuse(refused->exit_code, refused->error);
  const SystemClock clock;
  KeptLog log(places.spool, clock, KeptLog::Errors::said);
  queue::QueueSettings settings;
  settings.spool = places.spool;
  auto queue = queue::Queue::open(settings, clock, log);
  if (!queue)
    return refuse(exit_code_of_queue(queue.error(), EX_TEMPFAIL),
                  "the queue cannot be opened: " + queue.error().describe());
  (*queue)->start(nullptr);
  auto done = import_files(**queue, log, actor, std::move(opened));
  (*queue)->stop();
  std::move(done.begin(), done.end(), std::back_inserter(result.files));
  result.exit_code = exit_code_of(result.files);
  return result;
}

}  // namespace postrider::daemon
