// An answer of the queue thread, for which a job waits in short turns.
#pragma once

#include "base/result.h"

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

namespace postrider::daemon {

// {"progress":{"milliseconds":N}} as a line; always true, as step() gives it.
bool add_progress_line(std::chrono::milliseconds passed, std::string& out);

template <class T>
class Awaited {
 public:
  // For who answers, once, on any thread, perhaps after the asker has gone.
  std::function<void(Result<T>)> setter() {
    return [answer = answer_](Result<T> value) {
      const std::lock_guard lock(answer->mutex);
      answer->value = std::move(value);
      answer->is_set = true;
      answer->arrived.notify_all();
    };
  }
  // False: it has not come in this turn.
  bool wait() {
    std::unique_lock lock(answer_->mutex);
    const bool is_there =
        answer_->arrived.wait_for(lock, kTurn, [this] { return answer_->is_set; });
    passed_ += is_there ? std::chrono::milliseconds(0) : kTurn;
    return is_there;
  }
  const Result<T>& get() const { return answer_->value; }  // after wait() gave true
  bool add_progress(std::string& out) const { return add_progress_line(passed_, out); }

 private:
  static constexpr std::chrono::milliseconds kTurn{500};
  struct Answer {
    std::mutex mutex;
    std::condition_variable arrived;
    bool is_set = false;
    Result<T> value{T{}};
  };
  std::shared_ptr<Answer> answer_ = std::make_shared<Answer>();
  std::chrono::milliseconds passed_{0};
};

}  // namespace postrider::daemon
