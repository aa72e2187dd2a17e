#include "delivery/local/agents/command_process.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <filesystem>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace postrider::delivery {

namespace {

struct Pipe {
  FileDescriptor reading, writing;
};

Result<Pipe> make_pipe() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0)
    return system_error("make pipe");
  return Pipe{FileDescriptor(ends[0]), FileDescriptor(ends[1])};
}

std::vector<char*> pointers(const std::vector<std::string>& texts) {
  std::vector<char*> out;
  for (const auto& text : texts)
    out.push_back(const_cast<char*>(text.c_str()));  // execve(2) does not write to them
  out.push_back(nullptr);
  return out;
}

constexpr mode_t kMask = 077;               // as Postfix's local(8)
constexpr rlim_t kUsualDescriptors = 1024;  // above it select(2) fails

constexpr int kNice = 5;

void lower(__rlimit_resource_t resource, rlim_t most) {
  rlimit limit{};
  if (::getrlimit(resource, &limit) != 0)
    return;
  limit.rlim_max = std::min(limit.rlim_max, most);
  limit.rlim_cur = std::min(limit.rlim_cur, limit.rlim_max);
  ::setrlimit(resource, &limit);
}

// Into its group first: a group that cannot be joined leaves the limits of its processes.
void set_bounds(const CommandBounds& bounds) {
  if (bounds.group >= 0)
    (void)!::write(bounds.group, "0", 1);
  if (bounds.more_tasks > 0)
    lower(RLIMIT_NPROC, bounds.more_tasks);
  if (bounds.data > 0)
    lower(RLIMIT_DATA, bounds.data);
  if (bounds.is_nice)
    ::setpriority(PRIO_PROCESS, 0, kNice);
}

// Of this user, threads too, as RLIMIT_NPROC counts them.
std::uint64_t count_tasks() {
  std::uint64_t count = 0;
  std::error_code failed;
  const std::filesystem::directory_iterator all("/proc", failed);
  for (auto one = begin(all); one != end(all) && !failed; one.increment(failed)) {
    const auto& path = one->path();
    struct stat about {};
    struct stat tasks {};
    const bool is_process =
        path.filename().string().find_first_not_of("0123456789") == std::string::npos;
    if (!is_process || ::stat(path.c_str(), &about) != 0 || about.st_uid != ::getuid())
      continue;
    // A folder's links are its folders and two: one for each thread.
    const bool is_counted = ::stat((path / "task").c_str(), &tasks) == 0 && tasks.st_nlink > 2;
    count += is_counted ? tasks.st_nlink - 2 : 1;
  }
  return count;
}

// Those of a login, not of a daemon with a thousand connections.
void set_limits() {
  const rlimit no_core{0, 0};
  ::setrlimit(RLIMIT_CORE, &no_core);
  rlimit descriptors{};
  if (::getrlimit(RLIMIT_NOFILE, &descriptors) == 0) {
    descriptors.rlim_cur = std::min(descriptors.rlim_max, kUsualDescriptors);
    ::setrlimit(RLIMIT_NOFILE, &descriptors);
  }
}

// After the fork: only what is safe between fork and exec in a process that had threads.
[[noreturn]] void become(char* const* arguments, char* const* environment, const char* folder,
                         int input, int output, int errors, int failure,
                         const CommandBounds& bounds) {
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  for (int number = 1; number < NSIG; ++number)
    ::signal(number, SIG_DFL);
  set_limits();
  set_bounds(bounds);
  ::umask(kMask);
  ::setsid();
  ::prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);  // it does not go on when we are killed
  const bool in_folder = ::chdir(folder) == 0 || ::chdir("/") == 0;
  const bool ready =
      in_folder && ::dup2(input, 0) == 0 && ::dup2(output, 1) == 1 && ::dup2(errors, 2) == 2;
  // The exec closes what is ours; what others opened without that flag is closed here.
  if (failure > 3)
    ::syscall(SYS_close_range, 3U, static_cast<unsigned>(failure) - 1, 0U);
  ::syscall(SYS_close_range, static_cast<unsigned>(failure) + 1, ~0U, 0U);
  if (ready)
    ::execve(arguments[0], arguments, environment);
  const int number = errno;
  (void)!::write(failure, &number, sizeof number);
  ::_exit(127);
}

}  // namespace

Result<CommandProcess> CommandProcess::start(const std::vector<std::string>& arguments,
                                             const std::vector<std::string>& environment,
                                             const std::string& folder, Errors errors,
                                             const CommandBounds& bounds) {
  auto input = make_pipe();
  auto output = make_pipe();
  auto failure = make_pipe();
  auto complaints = errors == Errors::apart ? make_pipe() : Pipe{};
  if (!input || !output || !complaints || !failure)
    return system_error("make pipes for a command");
  const auto argument_list = pointers(arguments);
  const auto variables = pointers(environment);
  auto limits = bounds;
  if (limits.more_tasks > 0)
    limits.more_tasks += count_tasks();
  CommandProcess process;
  process.pid_ = ::fork();
  if (process.pid_ < 0)
    return system_error("fork");
  if (process.pid_ == 0) {
    const auto& error_end = errors == Errors::apart ? complaints->writing : output->writing;
    become(argument_list.data(), variables.data(), folder.c_str(), input->reading.get(),
           output->writing.get(), error_end.get(), failure->writing.get(), limits);
  }
  failure->writing.reset();
  int number = 0;
  if (::read(failure->reading.get(), &number, sizeof number) == sizeof number)
    return system_error(number, "start " + arguments.front());
  process.watch_ = FileDescriptor(static_cast<int>(::syscall(SYS_pidfd_open, process.pid_, 0)));
  if (!process.watch_.is_open())
    return system_error("watch the command");
  process.input_ = std::move(input->writing);
  process.output_ = std::move(output->reading);
  process.errors_ = std::move(complaints->reading);
  for (const int fd : {process.input_.get(), process.output_.get(), process.errors_.get()})
    ::fcntl(fd, F_SETFL, O_NONBLOCK);
  return process;
}

CommandProcess::CommandProcess(CommandProcess&& other) noexcept
    : pid_(std::exchange(other.pid_, 0)),
      status_(other.status_),
      input_(std::move(other.input_)),
      output_(std::move(other.output_)),
      errors_(std::move(other.errors_)),
      watch_(std::move(other.watch_)) {}

CommandProcess::~CommandProcess() {
  if (pid_ <= 0)
    return;
  ::kill(-pid_, SIGKILL);
  ::kill(pid_, SIGKILL);  // before its setsid(), it is in our group
  while (::waitpid(pid_, &status_, 0) < 0 && errno == EINTR) {
  }
}

void CommandProcess::read_from(FileDescriptor& pipe, std::string& kept, std::uint64_t most) {
  constexpr int kMostRounds = 64;  // then the time is looked at, however much there is
  std::array<char, 4096> room{};
  for (int round = 0; round < kMostRounds; ++round) {
    const auto got = ::read(pipe.get(), room.data(), room.size());
    if (got < 0 && errno == EINTR)
      continue;
    if (got == 0)
      pipe.reset();
    if (got <= 0)
      return;
    const auto space = most > kept.size() ? most - kept.size() : 0;
    kept.append(room.data(), std::min<std::uint64_t>(static_cast<std::uint64_t>(got), space));
    if (static_cast<std::size_t>(got) < room.size())
      return;
  }
}

void CommandProcess::reap() {
  if (pid_ > 0 && ::waitpid(pid_, &status_, WNOHANG) == pid_)
    pid_ = 0;
}

CommandEnd CommandProcess::end(std::string output) const {
  if (WIFSIGNALED(status_))
    return {CommandEnd::Kind::killed, WTERMSIG(status_), std::move(output)};
  return {CommandEnd::Kind::exited, WEXITSTATUS(status_), std::move(output)};
}

}  // namespace postrider::delivery
