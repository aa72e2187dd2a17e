// Takes events from any thread and brings them into the outbox on a thread of its own, whatever
// waits in one transaction. It never makes anybody wait and never stops mail: while the database
// cannot be written, events wait in memory up to a limit; beyond it the newest are lost. A damaged
// database is set aside for a new one. All that is lost is counted and logged.
#pragma once

#include "events/outbox.h"

#include "base/log.h"
#include "base/time.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace postrider::events {

struct OutboxThreadSettings {
  std::string path;    // of events.db
  std::string source;  // "//mx.example.org/postrider"
  OutboxLimits limits;
  // Position files of all readers; what they all have read is forgotten.
  std::vector<std::string> readers;
  std::size_t most_waiting = 65536;  // events in memory
  Duration again{1000};              // after a failure
  Duration trim_every{10'000};
  const char* vfs = nullptr;  // for tests
};

class OutboxThread {
 public:
  struct Counters {
    std::uint64_t written = 0;
    std::uint64_t lost = 0;      // never written
    std::uint64_t trimmed = 0;   // written, and thrown out before all had read them
    std::uint64_t failures = 0;  // of a write or an opening
  };

  OutboxThread(OutboxThreadSettings settings, const Clock& clock, Log& log);
  ~OutboxThread();  // stop()
  OutboxThread(const OutboxThread&) = delete;
  OutboxThread& operator=(const OutboxThread&) = delete;

  void post(CloudEvent event);  // thread-safe; never waits for the disk
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
