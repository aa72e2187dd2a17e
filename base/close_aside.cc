#include "base/close_aside.h"

#include <condition_variable>
#include <csignal>
#include <deque>
#include <mutex>
#include <sys/socket.h>
#include <system_error>
#include <thread>

namespace postrider {

namespace {

constexpr std::size_t kMostClosers = 32;

class Closers {
 public:
  void take(FileDescriptor descriptor) {
    const std::lock_guard lock(mutex_);
    waiting_.push_back(std::move(descriptor));
    if (idle_ < waiting_.size() && closers_ < kMostClosers)
      start();
    if (closers_ == 0)
      waiting_.clear();
    is_more_.notify_one();
  }

 private:
  // Signals are for the other threads.
  void start() {
    sigset_t all;
    sigset_t before;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    try {
      std::thread([this] { work(); }).detach();
      ++closers_;
    } catch (const std::system_error&) {
    }
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }

  void work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      ++idle_;
      is_more_.wait(lock, [this] { return !waiting_.empty(); });
      --idle_;
      auto descriptor = std::move(waiting_.front());
      waiting_.pop_front();
      lock.unlock();
      const linger none{};
      ::setsockopt(descriptor.get(), SOL_SOCKET, SO_LINGER, &none, sizeof none);
      descriptor.reset();
      lock.lock();
    }
  }

  std::mutex mutex_;
  std::condition_variable is_more_;
  std::deque<FileDescriptor> waiting_;
  std::size_t idle_ = 0, closers_ = 0;
};

}  // namespace

void close_aside(FileDescriptor descriptor) {
  static auto* const closers = new Closers;  // its threads never end
  if (descriptor.is_open())
    closers->take(std::move(descriptor));
}

}  // namespace postrider
