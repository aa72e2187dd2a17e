// The end of the daemon: receiving drains -> delivery drains -> the queue stops -> threads end; ten
// seconds in all. Mail that is not finished by then stays in the queue.
#pragma once

#include "daemon/heartbeat.h"
#include "daemon/log/events.h"
#include "daemon/parts.h"
#include "daemon/reloader.h"

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>

namespace postrider::daemon {

class StopSequence {
 public:
  // All outlive it, and are unmade after it.
  StopSequence(Parts& parts, const Reloader& configuration, Events& events, Notifier& notifier,
               Heartbeat& heartbeat);
  // Says to the clock of the stop that the parts are being unmade.
  ~StopSequence();
  StopSequence(const StopSequence&) = delete;
  StopSequence& operator=(const StopSequence&) = delete;

  // Once, on the main thread; a second SIGTERM meanwhile gives up the rest of the patience. The exit
  // code; does not return if a part hangs.
  int run();

 private:
  // What is left in the queue, in delivery, and in the drop folder; what cannot be read is left out.
  struct Remains {
    std::optional<std::uint64_t> queued, dropped;
    std::uint64_t under_way = 0;
  };
  bool drain_receiving();
  bool drain_delivery(bool received, SteadyTime end);
  bool end_loops();
  bool wait_for_stage(Duration limit);
  void limit_time();
  Remains what_remains() const;
  void report(bool complete, std::size_t unrecorded, const Remains& remains);
  [[noreturn]] void leave_at_once();

  // For the thread that ends a stop when its time is over.
  struct Limit {
    std::mutex mutex;
    bool unmaking = false;
    std::atomic<bool> is_reported{false};
    std::atomic<const char*> stage{"receiving"};  // that has not ended
  };

  Parts& parts_;
  const Reloader& configuration_;
  Events& events_;
  Notifier& notifier_;
  Heartbeat& heartbeat_;
  const Clock& clock_;
  const std::shared_ptr<Limit> limit_ = std::make_shared<Limit>();
};

}  // namespace postrider::daemon
