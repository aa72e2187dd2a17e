#include "base/in_time.h"

#include "base/file.h"
#include "base/user_mounts.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <condition_variable>
#include <csignal>
#include <deque>
#include <dirent.h>
#include <exception>
#include <fcntl.h>
#include <map>
#include <memory>
#include <mutex>
#include <poll.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <system_error>
#include <thread>
#include <unistd.h>
#include <utility>

namespace postrider {

namespace {

constexpr std::size_t kMostHelpers = 16;
constexpr std::size_t kMostNames = 1000;

using Moment = std::chrono::steady_clock::time_point;

Moment now() {
  return std::chrono::steady_clock::now();
}

struct Job {
  std::string key;
  std::function<void()> work;
  bool is_done = false;
};

class Helpers {
 public:
  bool run(const std::string& key, std::function<void()> work, Duration limit, bool takes_turns) {
    const auto job = std::make_shared<Job>(Job{key, std::move(work)});
    const auto end = now() + limit;
    std::unique_lock lock(mutex_);
    while (keys_.contains(key)) {
      const auto hangs_at = std::min(keys_.at(key) + limit, end);
      if (!takes_turns || now() >= hangs_at)
        return false;
      ended_.wait_until(lock, hangs_at);
    }
    keys_.emplace(key, now());
    if (idle_ <= waiting_.size() && !start()) {
      keys_.erase(key);
      return false;
    }
    waiting_.push_back(job);
    is_more_.notify_one();
    return ended_.wait_until(lock, end, [&job] { return job->is_done; });
  }

 private:
  // Signals are for the other threads.
  bool start() {
    if (helpers_ >= kMostHelpers)
      return false;
    sigset_t all;
    sigset_t before;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    bool is_started = true;
    try {
      std::thread([this] { help(); }).detach();
      ++helpers_;
      ++idle_;
    } catch (const std::system_error&) {
      is_started = false;
    }
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return is_started;
  }

  void help() {
    std::unique_lock lock(mutex_);
    for (;;) {
      is_more_.wait(lock, [this] { return !waiting_.empty(); });
      const auto job = std::move(waiting_.front());
      waiting_.pop_front();
      --idle_;
      lock.unlock();
      try {
        std::exchange(job->work, nullptr)();
      } catch (const std::exception&) {  // no memory: it has no result
      }
      lock.lock();
      ++idle_;
      keys_.erase(job->key);
      job->is_done = true;
      ended_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable is_more_, ended_;
  std::deque<std::shared_ptr<Job>> waiting_;
  std::map<std::string, Moment> keys_;  // of what waits and of what runs, and since when
  std::size_t helpers_ = 0, idle_ = 0;
};

// Lives as long as its threads, which is to the end of the process.
Helpers& helpers() {
  static auto* const all = new Helpers;
  return *all;
}

void read_beginning(const std::string& path) {
  auto file = open_to_read(path);
  struct stat about {};
  if (!file || ::fstat(file->get(), &about) != 0)
    return;
  std::array<char, 65536> room{};
  if (S_ISREG(about.st_mode))
    (void)!::read(file->get(), room.data(), room.size());
  if (!S_ISDIR(about.st_mode))
    return;
  const std::unique_ptr<DIR, int (*)(DIR*)> names(::fdopendir(file->get()), ::closedir);
  if (!names)
    return;
  file->release();
  for (std::size_t count = 0; count < kMostNames && ::readdir(names.get()) != nullptr;)
    ++count;
}

}  // namespace

bool done_in_time(const std::string& key, std::function<void()> job, Duration limit) {
  return helpers().run(key, std::move(job), limit, false);
}

bool done_in_turn(const std::string& key, std::function<void()> job, Duration limit) {
  return helpers().run(key, std::move(job), limit, true);
}

namespace {

// Whoever reads what we have written waits for all of us to have closed it.
[[noreturn]] void tell(const std::function<std::string()>& job, FileDescriptor to) {
  const auto kept = static_cast<unsigned>(to.get());
  if (kept > 0)
    ::close_range(0, kept - 1, 0);
  ::close_range(kept + 1, ~0U, 0);
  try {
    if (write_all(to, job()))
      ::_exit(0);
  } catch (const std::exception&) {  // no memory: there is no answer
  }
  ::_exit(1);
}

bool read_until(const FileDescriptor& from, Moment end, std::string& text) {
  std::array<char, 16384> room{};
  for (;;) {
    const auto left = std::chrono::ceil<Duration>(end - now()).count();
    pollfd waiting{from.get(), POLLIN, 0};
    const int ready = left <= 0 ? 0 : ::poll(&waiting, 1, static_cast<int>(left));
    if (ready < 0 && errno == EINTR)
      continue;
    if (ready <= 0)
      return false;
    const auto got = ::read(from.get(), room.data(), room.size());
    if (got == 0)
      return true;
    if (got < 0)
      return false;
    text.append(room.data(), static_cast<std::size_t>(got));
  }
}

}  // namespace

std::optional<std::string> told_in_time(const std::function<std::string()>& job, Duration limit) {
  const auto end = now() + limit;
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0)
    return std::nullopt;
  FileDescriptor from(ends[0]);
  FileDescriptor to(ends[1]);
  const pid_t child = ::fork();
  if (child < 0)
    return std::nullopt;
  if (child == 0)
    tell(job, std::move(to));
  to.reset();
  std::string text;
  const bool is_told = read_until(from, end, text);
  if (!is_told)
    ::kill(child, SIGKILL);  // which it does not notice before it is answered
  int status = 0;
  while (::waitpid(child, &status, is_told ? 0 : WNOHANG) < 0 && errno == EINTR) {
  }
  if (!is_told || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
    return std::nullopt;
  return text;
}

bool answers_in_time(const std::string& path, Duration limit) {
  return done_in_time(
      "read " + path, [path] { read_beginning(path); }, limit);
}

}  // namespace postrider
