// Takes events from any thread and brings them into the outbox on a thread of its own
// (store_thread.h), whatever waits in one transaction.
#pragma once

#include "events/outbox.h"
#include "events/store_thread.h"

#include "base/log.h"
#include "base/time.h"
#include "queue/fact.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
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

// What waits for the outbox. An event takes a kilobyte of fields, most of them empty; a fact is what
// it says.
struct WaitingEvent {
  std::unique_ptr<CloudEvent> event;  // null: it is a fact
  queue::Fact fact;

  std::size_t size() const;  // about what it takes
};

class OutboxThread : public StoreThread<WaitingEvent> {
 public:
  struct Counters : StoreCounters {
    std::uint64_t trimmed = 0;  // written, and thrown out before all had read them
    std::uint64_t last = 0;     // number of the newest in the outbox
    std::string outbox;         // its name
  };

  OutboxThread(OutboxThreadSettings settings, const Clock& clock, Log& log);
  ~OutboxThread() override;  // stop()

  // Thread-safe, all of them. Never waits for the disk.
  void post(CloudEvent event);
  // In the order of their numbers.
  void post(std::vector<queue::Fact> facts);
  // From the next time on at which something is forgotten.
  void reconfigure(OutboxLimits limits, std::vector<std::string> readers);
  Counters counters() const;

 private:
  bool take_batch() override;
  bool write_batch() override;
  void trim() override;
  void give_up() override;
  bool has_store() const override { return outbox_.has_value(); }
  Result<void> checkpoint_store() override { return outbox_->checkpoint(); }
  void close_store() override;
  void report_damage(const Error& error, const Result<void>& set_aside) override;
  void report_failure(const Error& error) override;
  void report_recovery() override;
  void report_lost(std::uint64_t count) override;

  bool open_store();
  void take(WaitingEvent one);
  void look_at_outbox();
  void report(LogEvent line);
  std::uint64_t read_by_all() const;

  OutboxThreadSettings settings_;  // limits and readers: under the lock
  Counters of_outbox_;             // what is not in StoreCounters; under the lock
  // Of the thread alone.
  std::optional<Outbox> outbox_;
  std::vector<CloudEvent> batch_;
  std::size_t taken_ = 0;        // into the batch: some become no event
  std::int64_t batch_fact_ = 0;  // the newest in it
  SteadyTime next_batch_{};      // at the earliest, unless it is full or waited for
  std::vector<CloudEvent> own_;  // of the outbox itself: losses, and its alarm
  std::uint64_t unread_ = 0;     // by somebody, when the outbox was closed
};

}  // namespace postrider::events
