#include "base/net/blocking_pool.h"

#include <sys/resource.h>
#include <unistd.h>

namespace postrider {

BlockingPool::BlockingPool(unsigned threads, int niceness) : niceness_(niceness) {
  for (unsigned i = 0; i < threads; ++i)
    threads_.emplace_back([this] { work(); });
}

BlockingPool::~BlockingPool() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  waiting_.notify_all();
  for (auto& thread : threads_)
    thread.join();
}

void BlockingPool::post(std::function<void()> job) {
  {
    const std::lock_guard lock(mutex_);
    jobs_.push_back(std::move(job));
  }
  waiting_.notify_one();
}

void BlockingPool::work() {
  if (niceness_ > 0)
    ::setpriority(PRIO_PROCESS, 0, niceness_);  // of this thread
  std::unique_lock lock(mutex_);
  for (;;) {
    waiting_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
    if (jobs_.empty())
      return;
    auto job = std::move(jobs_.front());
    jobs_.pop_front();
    lock.unlock();
    job();
    job = nullptr;
    lock.lock();
  }
}

}  // namespace postrider
