// A log that also tells the outbox: it stands before the daemon's own where mail is logged. What
// becomes of messages is left out: that is told by the queue, once it is stored.
#pragma once

#include "events/from_log.h"
#include "events/outbox_thread.h"

#include <atomic>
#include <utility>

namespace postrider::events {

class EventLog : public Log {
 public:
  // Both outlive it.
  EventLog(Log& log, const Clock& clock) : log_(log), clock_(clock) {}
  // Any thread. The outbox outlives it; nullptr: nobody wants events.
  void use(OutboxThread* outbox) { outbox_ = outbox; }

  // Whatever the log leaves out, events are made of `info` and above.
  bool enabled(Level level) const override {
    return (outbox_ != nullptr && level >= Level::info) || log_.enabled(level);
  }
  void write(LogEvent line) override {
    if (auto* const outbox = outbox_.load()) {
      line.when = clock_.now();
      if (auto event = event_of(line); event && !is_of_queue(event->kind))
        outbox->post(*std::move(event));
    }
    if (log_.enabled(line.level()))
      log_.write(std::move(line));
  }

 private:
  Log& log_;
  const Clock& clock_;
  std::atomic<OutboxThread*> outbox_{nullptr};
};

}  // namespace postrider::events
