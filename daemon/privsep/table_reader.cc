#include "daemon/privsep/table_reader.h"

#include "base/process_title.h"
#include "daemon/privsep/capabilities.h"
#include "daemon/privsep/confinement.h"
#include "daemon/privsep/parent_process.h"
#include "delivery/local/agents/local_target_codec.h"

#include <array>
#include <cerrno>
#include <chrono>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

namespace postrider::daemon {

namespace {

constexpr unsigned kLongest = 120;  // seconds
constexpr std::size_t kMostText = 4096;
constexpr off_t kReaders = 4;  // at one time
constexpr std::chrono::milliseconds kLookForTurn{10};

// Locks in a file that all readers have from the parent.
int turns_of_readers() {
  static const int turns = ::memfd_create("turns", MFD_CLOEXEC);
  return turns;
}

struct Head {
  std::uint32_t is_allowed = 0;
  std::uint32_t is_ours = 0;
  std::int32_t number = 0;
};

// Up to the end; false: there is none within `most` octets.
bool read_to_end(int socket, std::size_t most, std::string& bytes) {
  std::array<char, 4096> room{};
  for (;;) {
    const auto got = ::recv(socket, room.data(), room.size(), 0);
    if (got < 0 && errno == EINTR)
      continue;
    if (got <= 0)
      return got == 0;
    if (bytes.size() + static_cast<std::size_t>(got) > most)
      return false;
    bytes.append(room.data(), static_cast<std::size_t>(got));
  }
}

Result<void> look(const ParentRules& rules, const std::string& bytes) {
  const auto job = delivery::decode_local_job(bytes);
  if (!job)
    return job.error();
  if (!rules.config || !rules.open_book)
    return Error(Errc::refused, "deliver by a table (there is none)");
  const auto opened = rules.open_book(*rules.config);
  if (!opened)
    return opened.error();
  auto said = delivery::check_tables(rules.source, *opened->book, *job);
  if (!said && *opened->trouble)  // what it would say is in the log
    return Error(
        boost::system::errc::make_error_code(boost::system::errc::resource_unavailable_try_again),
        "ask the tables (one of them cannot be read now)");
  return said;
}

// A few at one time: each reads whole files. The kernel gives the turn back when the process ends;
// nobody waits for that of one that a list's file system holds up, as long as there are others.
void wait_for_turn(int turns) {
  struct flock turn {};
  turn.l_type = F_WRLCK;
  turn.l_whence = SEEK_SET;
  turn.l_len = 1;
  while (turns >= 0) {
    for (turn.l_start = 0; turn.l_start < kReaders; ++turn.l_start) {
      if (::fcntl(turns, F_SETLK, &turn) == 0)
        return;
      if (errno != EAGAIN && errno != EACCES && errno != EINTR)
        return;
    }
    std::this_thread::sleep_for(kLookForTurn);
  }
}

[[noreturn]] void serve(const ParentRules& rules, int socket) {
  ::alarm(kLongest);
  // A kernel without Landlock, or without seccomp: the daemon has said so.
  if (rules.may_become_users && !keep_only(0, 0))
    ::_exit(1);
  auto paths = rules.config ? sandbox_paths(*rules.config, rules.config_file) : SandboxPaths{};
  paths.write.clear();
  (void)restrict_files(paths);
  (void)forbid_programs(rules.config && rules.asks_servers && rules.asks_servers(*rules.config));
  std::string job;
  if (!read_to_end(socket, delivery::kMostLocalJob, job) || job.empty())
    ::_exit(0);
  wait_for_turn(turns_of_readers());
  const auto result = look(rules, job);
  Head head;
  std::string text;
  if (result) {
    head.is_allowed = 1;
  } else {
    const auto code = result.error().code();
    head.is_ours = code.category() == make_error_code(Errc::refused).category() ? 1 : 0;
    head.number = code.value();
    text = result.error().describe().substr(0, kMostText);
    if (head.is_ours != 0)
      text = result.error().step().substr(0, kMostText);
  }
  std::string bytes(reinterpret_cast<const char*>(&head), sizeof head);
  bytes += text;
  (void)::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL);
  ::_exit(0);
}

}  // namespace

void TableReader::prepare() {
  (void)turns_of_readers();
}

Result<void> TableReader::start(const ParentRules& rules, std::initializer_list<int> closed) {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0)
    return system_error("ask the tables");
  FileDescriptor ours(ends[0]), theirs(ends[1]);
  pid_ = ::fork();
  if (pid_ < 0)
    return system_error("fork");
  if (pid_ == 0) {
    ours.reset();
    for (const int fd : closed)
      ::close(fd);
    set_process_title("postrider: tables");
    serve(rules, theirs.get());
  }
  socket_ = std::move(ours);
  return {};
}

Result<void> TableReader::ask(std::string_view job) {
  std::string answer;
  if (!write_all(socket_, job) || ::shutdown(socket_.get(), SHUT_WR) != 0 ||
      !read_to_end(socket_.get(), sizeof(Head) + kMostText, answer) || answer.size() < sizeof(Head))
    return Error(Errc::stopped, "ask the tables (their reader ended)");
  Head head;
  std::copy_n(answer.data(), sizeof head, reinterpret_cast<char*>(&head));
  const auto text = answer.substr(sizeof head);
  if (head.is_allowed != 0)
    return {};
  return head.is_ours != 0 ? Error(static_cast<Errc>(head.number), text)
                           : system_error(head.number, text);
}

void TableReader::end() {
  socket_.reset();
  if (pid_ > 0)
    while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
  pid_ = 0;
}

}  // namespace postrider::daemon
