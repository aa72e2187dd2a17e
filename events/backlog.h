// What waits for a thread of its own to bring it to the disk: any thread posts and never waits.
// Beyond its limits the newest are lost, which is counted.
#pragma once

#include "base/time.h"

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <utility>

namespace postrider::events {

template <class Item>
class Backlog {
 public:
  Backlog(std::size_t most_items, std::size_t most_bytes)
      : most_items_(most_items), most_bytes_(most_bytes) {}

  // Any thread. size: octets that it takes, about. False: there is no room, or stop() was called; it
  // is lost, or after stop() left to whoever has it still.
  enum class AfterStop : std::uint8_t { lost, left };
  bool post(Item item, std::size_t size, AfterStop after = AfterStop::lost) {
    const std::lock_guard lock(mutex_);
    if (is_stopping_ || items_.size() >= most_items_ || bytes_ + size > most_bytes_) {
      lost_ += is_stopping_ && after == AfterStop::left ? 0 : 1;
      return false;
    }
    ++posted_;
    bytes_ += size;
    items_.emplace_back(std::move(item), size);
    if (items_.size() == 1 || items_.size() >= wanted_)
      arrived_.notify_one();
    return true;
  }
  // Any thread: whoever waits on the thread goes on at once.
  void wake() {
    const std::lock_guard lock(mutex_);
    is_woken_ = true;
    arrived_.notify_one();
  }
  void stop() {
    const std::lock_guard lock(mutex_);
    is_stopping_ = true;
    arrived_.notify_one();
  }
  // Somebody waits for what was posted.
  bool is_urgent() const {
    const std::lock_guard lock(mutex_);
    return is_woken_ || is_stopping_;
  }
  bool is_stopping() const {
    const std::lock_guard lock(mutex_);
    return is_stopping_;
  }
  // Until all that was posted before has ended, or the time has passed; whether it has.
  bool flush(Duration limit) {
    std::unique_lock lock(mutex_);
    const auto until = posted_;
    is_woken_ = true;
    arrived_.notify_one();
    return settled_.wait_for(lock, limit, [&] { return ended_ >= until; });
  }
  std::uint64_t waiting() const {
    const std::lock_guard lock(mutex_);
    return items_.size();
  }
  std::uint64_t lost() const {
    const std::lock_guard lock(mutex_);
    return lost_;
  }

  // The thread: until so many wait, wake() or stop(), at most so long. True: it was one of these two.
  bool wait(std::size_t wanted, Duration limit) {
    std::unique_lock lock(mutex_);
    wanted_ = wanted;
    arrived_.wait_for(lock, limit,
                      [&] { return is_stopping_ || is_woken_ || items_.size() >= wanted; });
    wanted_ = SIZE_MAX;
    return std::exchange(is_woken_, false) || is_stopping_;
  }
  // After a failure: stop() alone ends it.
  void pause(Duration limit) {
    std::unique_lock lock(mutex_);
    arrived_.wait_for(lock, limit, [&] { return is_stopping_; });
  }
  // Gives the oldest to take(Item), at most so many; how many.
  template <class Take>
  std::size_t take(std::size_t most, Take take) {
    std::size_t taken = 0;
    const std::lock_guard lock(mutex_);
    for (; taken < most && !items_.empty(); ++taken) {
      bytes_ -= items_.front().second;
      take(std::move(items_.front().first));
      items_.pop_front();
    }
    return taken;
  }
  // Of those taken, so many have ended: they are written, but for those that are lost.
  void end(std::size_t count, std::size_t lost = 0) {
    const std::lock_guard lock(mutex_);
    ended_ += count;
    lost_ += lost;
    settled_.notify_all();
  }

 private:
  const std::size_t most_items_, most_bytes_;
  mutable std::mutex mutex_;
  std::condition_variable arrived_, settled_;
  std::deque<std::pair<Item, std::size_t>> items_;
  std::size_t bytes_ = 0;
  std::size_t wanted_ = SIZE_MAX;  // for whom who waits is woken
  std::uint64_t posted_ = 0, ended_ = 0, lost_ = 0;
  bool is_stopping_ = false;
  bool is_woken_ = false;
};

}  // namespace postrider::events
