// Brings the trace to the disk on a thread of its own (store_thread.h), of low priority: what has
// come, twice a second at most.
#pragma once

#include "events/store_thread.h"
#include "events/trace_store.h"

#include "base/log.h"
#include "base/time.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace postrider::events {

struct TraceThreadSettings {
  std::string path;                   // of trace.db
  TraceLimits limits;                 // keep 0: the files go, and nothing is written
  std::size_t most_waiting = 131072;  // steps in memory,
  std::size_t most_bytes = 32U << 20U;
  Duration pace{500};    // between two commits
  Duration again{1000};  // after a failure
  Duration trim_every{10'000};
  const char* vfs = nullptr;  // for tests
};

class TraceThread : public StoreThread<std::string> {
 public:
  using Counters = StoreCounters;

  TraceThread(TraceThreadSettings settings, const Clock& clock, Log& log);
  ~TraceThread() override;  // stop()

  // Thread-safe, all of them. encode_trace() of a step; never waits for the disk.
  void post(std::string step);
  void reconfigure(TraceLimits limits);
  Counters counters() const { return store_counters(); }

 private:
  bool take_batch() override;
  bool write_batch() override;
  void trim() override;
  void give_up() override;
  bool has_store() const override { return store_.has_value(); }
  Result<void> checkpoint_store() override { return store_->checkpoint(); }
  void close_store() override { store_.reset(); }
  void report_damage(const Error& error, const Result<void>& set_aside) override;
  void report_failure(const Error& error) override;
  void report_recovery() override;
  void report_lost(std::uint64_t count) override;

  bool open_store(bool is_doubtful);
  void forget_all();
  TraceLimits limits() const;

  TraceThreadSettings settings_;  // limits: under the lock
  // Of the thread alone.
  std::optional<TraceStore> store_;
  std::vector<std::string> batch_;
  SteadyTime next_write_;
};

}  // namespace postrider::events
