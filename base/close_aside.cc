#include "base/close_aside.h"

#include <algorithm>
#include <condition_variable>
#include <csignal>
#include <deque>
#include <map>
#include <mutex>
#include <sys/socket.h>
#include <system_error>
#include <thread>

namespace postrider {

namespace {

constexpr std::size_t kMostClosers = 128, kMostOfOwner = 8;

class Closers {
 public:
  void take(FileDescriptor descriptor, std::uint64_t owner) {
    const std::lock_guard lock(mutex_);
    ++owners_[owner].left;
    waiting_.push_back({std::move(descriptor), owner});
    if (idle_ < waiting_.size() && closers_ < kMostClosers)
      start();
    if (closers_ == 0)
      close_here();
    is_more_.notify_one();
  }

  std::size_t left_of(std::uint64_t owner) const {
    const std::lock_guard lock(mutex_);
    const auto found = owners_.find(owner);
    return found == owners_.end() ? 0 : found->second.left;
  }

 private:
  struct Waiting {
    FileDescriptor descriptor;
    std::uint64_t owner;
  };
  struct Owner {
    std::size_t left = 0, under_way = 0;
  };

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

  void close_here() {
    for (const auto& one : waiting_)
      done_with(one.owner);
    waiting_.clear();
  }

  void done_with(std::uint64_t owner) {
    const auto found = owners_.find(owner);
    if (--found->second.left == 0)
      owners_.erase(found);
  }

  // The first whose owner has not all its threads at work.
  std::deque<Waiting>::iterator next() {
    return std::find_if(waiting_.begin(), waiting_.end(), [this](const Waiting& one) {
      return owners_[one.owner].under_way < kMostOfOwner;
    });
  }

  void work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      ++idle_;
      is_more_.wait(lock, [this] { return next() != waiting_.end(); });
      --idle_;
      const auto at = next();
      auto one = std::move(*at);
      waiting_.erase(at);
      ++owners_[one.owner].under_way;
      lock.unlock();
      const linger none{};
      ::setsockopt(one.descriptor.get(), SOL_SOCKET, SO_LINGER, &none, sizeof none);
      one.descriptor.reset();
      lock.lock();
      --owners_[one.owner].under_way;
      done_with(one.owner);
      is_more_.notify_one();
    }
  }

  mutable std::mutex mutex_;
  std::condition_variable is_more_;
  std::deque<Waiting> waiting_;
  std::map<std::uint64_t, Owner> owners_;
  std::size_t idle_ = 0, closers_ = 0;
};

Closers& closers() {
  static auto* const all = new Closers;  // its threads never end
  return *all;
}

}  // namespace

void close_aside(FileDescriptor descriptor, std::uint64_t owner) {
  if (descriptor.is_open())
    closers().take(std::move(descriptor), owner);
}

std::size_t closing_of(std::uint64_t owner) {
  return closers().left_of(owner);
}

}  // namespace postrider
