// Brings the trace to the disk on a thread of its own, of low priority: what has come, twice a
// second at most. It never makes anybody wait and never stops mail: while the database cannot be
// written, steps wait in memory up to a limit; beyond it the newest are lost, which is counted and
// logged. A damaged database is set aside for a new one.
#pragma once

#include "events/trace_store.h"

#include "base/log.h"
#include "base/time.h"

#include <cstdint>
#include <memory>
#include <string>

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

class TraceThread {
 public:
  struct Counters {
    std::uint64_t written = 0;
    std::uint64_t lost = 0;     // never written
    std::uint64_t waiting = 0;  // in memory, now
    std::string error;          // while it cannot be written
  };

  TraceThread(TraceThreadSettings settings, const Clock& clock, Log& log);
  ~TraceThread();  // stop()
  TraceThread(const TraceThread&) = delete;
  TraceThread& operator=(const TraceThread&) = delete;

  // Thread-safe, all of them. encode_trace() of a step; never waits for the disk.
  void post(std::string step);
  void reconfigure(TraceLimits limits);
  // A reader has seen damage: it is looked for, and a damaged database set aside.
  void suspect_damage();
  // Until all that was posted before is written or lost, or the time has passed; whether it was.
  bool flush(Duration limit);
  // Tries once more to write what waits; the rest is lost.
  void stop();
  Counters counters() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace postrider::events
