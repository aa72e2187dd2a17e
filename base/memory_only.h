// A promise of the calling thread that nothing it asks for waits for the world: for a disk, a
// directory service, another process. A network loop asks under it first; where memory alone has no
// answer, whoever would have had to wait fails at once and says so here, and the question goes to a
// thread that may wait.
//
//   MemoryOnly memory;
//   auto answer = ask(...);
//   if (memory.was_not_enough())  // answer means nothing
#pragma once

namespace postrider {

class MemoryOnly {
 public:
  // stale: what has been remembered for too long is better than no answer.
  explicit MemoryOnly(bool stale = false) : before_(current_), stale_(stale) { current_ = this; }
  ~MemoryOnly() { current_ = before_; }
  MemoryOnly(const MemoryOnly&) = delete;
  MemoryOnly& operator=(const MemoryOnly&) = delete;

  bool was_not_enough() const { return was_not_enough_; }

  // For who is about to wait: true if that must not be, which is noted.
  static bool forbids_waiting() {
    if (current_ == nullptr)
      return false;
    current_->was_not_enough_ = true;
    return true;
  }
  // Whether this thread is under such a promise.
  static bool is_promised() { return current_ != nullptr; }
  static bool takes_stale() { return current_ != nullptr && current_->stale_; }

 private:
  static inline thread_local MemoryOnly* current_ = nullptr;
  MemoryOnly* before_;
  bool stale_;
  bool was_not_enough_ = false;
};

}  // namespace postrider
