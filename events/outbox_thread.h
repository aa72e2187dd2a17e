// Takes events from any thread and brings them into the outbox on a thread of its own, whatever
// waits in one transaction. It never makes anybody wait and never stops mail: while the database
// cannot be written, events wait in memory up to a limit; beyond it the newest are lost. A damaged
// database is set aside for a new one. All that is lost is counted and logged.
#pragma once

#include "events/outbox.h"

#include "base/log.h"
#include "base/time.h"
#include "queue/fact.h"

#include <cstdint>
#include <functional>
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
  // On the thread, when all facts up to this one are in the outbox, or were given up.
  std::function<void(std::int64_t fact)> on_settled = {};
  std::function<void()> on_written = {};  // on the thread: there is something to read
  std::size_t most_waiting = 65536;       // events in memory,
  std::size_t most_bytes = 32U << 20U;    // and what they take
  Duration again{1000};                   // after a failure
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
    std::uint64_t waiting = 0;   // in memory, now
    std::uint64_t last = 0;      // number of the newest in the outbox
    std::string outbox;          // its name
    std::string error;           // while it cannot be written
  };

  OutboxThread(OutboxThreadSettings settings, const Clock& clock, Log& log);
  ~OutboxThread();  // stop()
  OutboxThread(const OutboxThread&) = delete;
  OutboxThread& operator=(const OutboxThread&) = delete;

  void post(CloudEvent event);  // thread-safe; never waits for the disk
  // Thread-safe too; in the order of their numbers.
  void post(std::vector<queue::Fact> facts);
  // Thread-safe; from the next time on at which something is forgotten.
  void reconfigure(OutboxLimits limits, std::vector<std::string> readers);
  // Thread-safe: a reader has seen damage. It is looked for, and a damaged database set aside.
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
