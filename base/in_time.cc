#include "base/in_time.h"

#include "base/user_mounts.h"

#include <array>
#include <condition_variable>
#include <csignal>
#include <deque>
#include <dirent.h>
#include <exception>
#include <memory>
#include <mutex>
#include <set>
#include <sys/stat.h>
#include <system_error>
#include <thread>
#include <unistd.h>
#include <utility>

namespace postrider {

namespace {

constexpr std::size_t kMostHelpers = 16;
constexpr std::size_t kMostNames = 1000;

struct Job {
  std::string key;
  std::function<void()> work;
  bool is_done = false;
};

class Helpers {
 public:
  bool run(const std::string& key, std::function<void()> work, Duration limit) {
    const auto job = std::make_shared<Job>(Job{key, std::move(work)});
    std::unique_lock lock(mutex_);
    if (!keys_.insert(key).second)
      return false;
    if (idle_ <= waiting_.size() && !start()) {
      keys_.erase(key);
      return false;
    }
    waiting_.push_back(job);
    is_more_.notify_one();
    return ended_.wait_for(lock, limit, [&job] { return job->is_done; });
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
  std::set<std::string> keys_;  // of what waits and of what runs
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
  return helpers().run(key, std::move(job), limit);
}

bool answers_in_time(const std::string& path, Duration limit) {
  return done_in_time(
      "read " + path, [path] { read_beginning(path); }, limit);
}

}  // namespace postrider
