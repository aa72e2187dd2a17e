// What every part stands on: the clock, the log, the trace and the queue, opened in this order and
// closed in the reverse.
#pragma once

#include "events/event_log.h"

#include "base/time.h"
#include "daemon/log/background_log.h"
#include "daemon/mail_trace.h"
#include "daemon/start_problems.h"
#include "queue/queue.h"

#include <memory>
#include <optional>

namespace postrider::daemon {

class Foundation {
 public:
  // As the user whose files they are.
  void open_log(const Loaded& loaded, StartProblems& problems);
  void open_queue(const Config& config, StartProblems& problems);

  const Clock& clock() const { return clock_; }
  bool has_log() const { return log_ != nullptr; }
  // Requires: has_log().
  BackgroundLog& log() { return *log_; }
  // Requires: has_log() before open_queue(). Comes before log() for all that is an event too.
  events::EventLog& told() { return *told_; }
  MailTrace& trace() { return *trace_; }
  // Requires: open_queue() found no problem.
  queue::Queue& queue() const { return *queue_; }

 private:
  SystemClock clock_;
  std::unique_ptr<BackgroundLog> log_;
  std::optional<events::EventLog> told_;
  std::optional<MailTrace> trace_;
  std::unique_ptr<queue::Queue> queue_;
};

}  // namespace postrider::daemon
