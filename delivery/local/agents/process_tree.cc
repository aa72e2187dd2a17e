#include "delivery/local/agents/process_tree.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <poll.h>
#include <string>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <unordered_set>

namespace postrider::delivery {

namespace {

constexpr int kMostRounds = 100;
constexpr std::size_t kMostProcesses = 100'000;
constexpr std::size_t kMostOpened = 10'000;
constexpr std::chrono::milliseconds kLookAgain{5};
constexpr std::chrono::seconds kMostForEnd{5};

// The roots, and what descends from them now.
std::vector<pid_t> trees_of(const std::vector<pid_t>& roots) {
  auto found = roots;
  std::unordered_set<pid_t> seen(roots.begin(), roots.end());
  for (std::size_t at = 0; at < found.size() && found.size() < kMostProcesses; ++at)
    for (const auto child : children_of(found[at]))
      if (seen.insert(child).second)
        found.push_back(child);
  return found;
}

FileDescriptor open_process(pid_t pid) {
  return FileDescriptor(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
}

// The real one, which a setuid program does not change. False also if it cannot be known.
bool belongs_to(pid_t pid, uid_t user) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("Uid:"))
      return line.compare(4, line.find('\t', 5) - 4, "\t" + std::to_string(user)) == 0;
  return false;
}

// It was alive when it was asked whose it is, so that was no other that has its number now.
FileDescriptor open_if_of(pid_t pid, uid_t user) {
  auto process = open_process(pid);
  if (!process.is_open() || !belongs_to(pid, user))
    return {};
  pollfd ended{process.get(), POLLIN, 0};
  return ::poll(&ended, 1, 0) == 0 ? std::move(process) : FileDescriptor();
}

void signal(const FileDescriptor& process, int number) {
  (void)::syscall(SYS_pidfd_send_signal, process.get(), number, nullptr, 0);
}

}  // namespace

std::vector<OpenedProcess> open_processes(const std::vector<pid_t>& pids) {
  std::vector<OpenedProcess> opened;
  for (const auto pid : pids) {
    OpenedProcess one{pid, opened.size() < kMostOpened ? open_process(pid) : FileDescriptor()};
    if (one.process.is_open())
      opened.push_back(std::move(one));
  }
  return opened;
}

void end_trees(const std::vector<OpenedProcess>& roots, uid_t user) {
  std::vector<pid_t> pids;
  for (const auto& root : roots) {
    signal(root.process, SIGSTOP);
    pids.push_back(root.pid);
  }
  std::unordered_set<pid_t> seen(pids.begin(), pids.end());
  std::vector<FileDescriptor> stopped;
  for (int round = 0; round < kMostRounds; ++round) {
    bool is_any_new = false;
    for (const auto pid : trees_of(pids)) {
      if (!seen.insert(pid).second)
        continue;
      if (auto process = open_if_of(pid, user); process.is_open()) {
        is_any_new = true;
        signal(process, SIGSTOP);
        stopped.push_back(std::move(process));
      }
    }
    if (!is_any_new)
      break;
  }
  for (const auto& root : roots)
    signal(root.process, SIGKILL);
  for (const auto& process : stopped)
    signal(process, SIGKILL);
}

std::vector<pid_t> children_of(pid_t pid) {
  std::vector<pid_t> found;
  std::error_code failed;
  const std::filesystem::directory_iterator tasks("/proc/" + std::to_string(pid) + "/task", failed);
  if (failed)
    return found;
  for (auto task = begin(tasks); task != end(tasks) && !failed; task.increment(failed)) {
    std::ifstream file(task->path() / "children");
    for (pid_t child = 0; file >> child;)
      found.push_back(child);
  }
  return found;
}

void end_trees(const std::vector<pid_t>& roots) {
  std::unordered_set<pid_t> stopped;
  for (int round = 0; round < kMostRounds; ++round) {
    bool is_any_new = false;
    for (const auto pid : trees_of(roots))
      if (stopped.insert(pid).second) {
        is_any_new = true;
        ::kill(pid, SIGSTOP);
      }
    if (!is_any_new)
      break;
  }
  for (const auto pid : stopped)
    ::kill(pid, SIGKILL);
}

bool end_children(Duration patience, const std::function<void()>& end) {
  const auto begun = std::chrono::steady_clock::now();
  for (;;) {
    pid_t reaped = 0;
    do
      reaped = ::waitpid(-1, nullptr, WNOHANG);
    while (reaped > 0 || (reaped < 0 && errno == EINTR));
    if (reaped < 0)
      return true;  // there are none
    const auto passed = std::chrono::steady_clock::now() - begun;
    if (passed >= patience + kMostForEnd)
      return false;
    if (passed >= patience && end)
      end();
    else if (passed >= patience)
      end_trees(children_of(::getpid()));
    std::this_thread::sleep_for(kLookAgain);
  }
}

}  // namespace postrider::delivery
