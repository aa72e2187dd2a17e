// The frame of a thread that brings what any thread posts into a database of its own. Posting never
// waits for the disk and never stops mail: while the database cannot be written, items wait in memory
// up to a limit; beyond it the newest are lost, which is counted and reported. A damaged database is
// set aside for a new one.
#pragma once

#include "events/backlog.h"
#include "events/kept_database.h"

#include "base/log.h"
#include "base/time.h"

#include <cstdint>
#include <mutex>
#include <pthread.h>
#include <string>
#include <sys/resource.h>
#include <thread>
#include <utility>

namespace postrider::events {

struct StoreThreadSettings {
  std::string path;  // of the database
  std::size_t most_waiting = 0, most_bytes = 0;
  Duration again{1000};  // after a failure
  Duration trim_every{10'000};
  std::uint64_t bytes_before_checkpoint = 0;
};

struct StoreCounters {
  std::uint64_t written = 0;
  std::uint64_t lost = 0;      // never written
  std::uint64_t failures = 0;  // of a write or an opening
  std::uint64_t waiting = 0;   // in memory, now
  std::string error;           // while it cannot be written
};

// A class that is derived calls begin() at the end of its constructor and stop() in its destructor.
template <class Item>
class StoreThread {
 public:
  StoreThread(const StoreThread&) = delete;
  StoreThread& operator=(const StoreThread&) = delete;

  // Thread-safe, all of them. A reader has seen damage: it is looked for, and a damaged database set
  // aside.
  void suspect_damage() {
    {
      const std::lock_guard lock(mutex_);
      is_suspected_ = true;
    }
    backlog_.wake();
  }
  // Until all that was posted before is written or lost, or the time has passed; whether it was.
  bool flush(Duration limit) { return backlog_.flush(limit); }
  // Tries once more to write what waits; the rest is lost.
  void stop() {
    backlog_.stop();
    if (thread_.joinable())
      thread_.join();
  }

 protected:
  StoreThread(StoreThreadSettings settings, const Clock& clock, Log& log)
      : frame_(std::move(settings)),
        clock_(clock),
        log_(log),
        backlog_(frame_.most_waiting, frame_.most_bytes) {}
  virtual ~StoreThread() = default;

  // niceness: where the processor is short, mail goes first.
  void begin(const char* name, int niceness) {
    thread_ = std::thread([this, niceness, name] {
      pthread_setname_np(::pthread_self(), name);
      if (niceness > 0)
        (void)::setpriority(PRIO_PROCESS, 0, niceness);  // of this thread alone
      run();
    });
  }

  // All that follows is called on the thread alone, but for store_counters().

  // False: all is written, and it is time to go.
  virtual bool take_batch() = 0;
  // False: it could not, and failed() has been called.
  virtual bool write_batch() = 0;
  virtual void trim() = 0;     // while the store is open
  virtual void give_up() = 0;  // at the end: what is left is lost
  virtual bool has_store() const = 0;
  virtual Result<void> checkpoint_store() = 0;
  virtual void close_store() = 0;
  // What goes to the log.
  virtual void report_damage(const Error& error, const Result<void>& set_aside) = 0;
  virtual void report_failure(const Error& error) = 0;  // the first in a row
  virtual void report_recovery() = 0;
  virtual void report_lost(std::uint64_t count) = 0;

  // The connection is made again: what SQLite thinks of a file after an error of the disk may be
  // wrong.
  void failed(const Error& error) {
    {
      const std::lock_guard lock(mutex_);
      ++counters_.failures;
      counters_.error = error.describe();
    }
    close_store();
    if (is_damaged(error))
      report_damage(error, KeptDatabase::set_aside(frame_.path));
    else if (!is_failing_)
      report_failure(error);
    is_failing_ = true;
  }
  void succeeded() {
    clear_error();
    if (std::exchange(is_failing_, false))
      report_recovery();
  }
  void clear_error() {
    const std::lock_guard lock(mutex_);
    counters_.error.clear();
  }
  // A batch is in the store. Of those taken for it, `ended` need not be waited for any more.
  void end_batch(std::size_t written, std::size_t ended) {
    {
      const std::lock_guard lock(mutex_);
      counters_.written += written;
    }
    backlog_.end(ended);
  }
  // So many octets more are in the store, which puts them in their place now and then. After a
  // failure the store is closed.
  void settle(std::uint64_t bytes) {
    unsettled_ += bytes;
    if (unsettled_ < frame_.bytes_before_checkpoint)
      return;
    unsettled_ = 0;
    if (auto done = checkpoint_store(); !done)
      failed(done.error());
  }
  bool is_suspected() const {
    const std::lock_guard lock(mutex_);
    return is_suspected_;
  }
  bool take_suspicion() {
    const std::lock_guard lock(mutex_);
    return std::exchange(is_suspected_, false);
  }
  StoreCounters store_counters() const {
    const std::lock_guard lock(mutex_);
    auto counters = counters_;
    counters.waiting = backlog_.waiting();
    counters.lost = backlog_.lost();
    return counters;
  }

  const StoreThreadSettings frame_;
  const Clock& clock_;
  Log& log_;
  Backlog<Item> backlog_;
  mutable std::mutex mutex_;
  bool is_failing_ = false;
  SteadyTime next_trim_;

 private:
  void run() {
    while (take_batch()) {
      const bool done = write_batch();
      report_losses(false);
      // A checkpoint that failed has closed the store.
      if (done && has_store() && clock_.steady() >= next_trim_)
        trim();
      if (done)
        continue;
      if (backlog_.is_stopping())
        break;
      backlog_.pause(frame_.again);
    }
    give_up();
    report_losses(true);
  }

  // All that were lost in a row of failures, once it is over.
  void report_losses(bool is_end) {
    const auto lost = backlog_.lost();
    if ((is_failing_ && !is_end) || lost == lost_reported_)
      return;
    report_lost(lost - lost_reported_);
    lost_reported_ = lost;
  }

  bool is_suspected_ = false;  // under the lock
  StoreCounters counters_;     // under the lock
  std::uint64_t lost_reported_ = 0;
  std::uint64_t unsettled_ = 0;  // octets since the last checkpoint
  std::thread thread_;
};

}  // namespace postrider::events
