// A log that also tells the outbox: it stands before the daemon's own where mail is logged.
#pragma once

#include "events/from_log.h"
#include "events/outbox_thread.h"

#include <utility>

namespace postrider::events {

class EventLog : public Log {
 public:
  // Both outlive it.
  EventLog(Log& log, OutboxThread& outbox, const Clock& clock)
      : log_(log), outbox_(outbox), clock_(clock) {}

  // Whatever the log leaves out, events are made of `info` and above.
  bool enabled(Level level) const override { return level >= Level::info || log_.enabled(level); }
  void write(LogEvent line) override {
    line.when = clock_.now();
    if (auto event = event_of(line))
      outbox_.post(*std::move(event));
    if (log_.enabled(line.level()))
      log_.write(std::move(line));
  }

 private:
  Log& log_;
  OutboxThread& outbox_;
  const Clock& clock_;
};

}  // namespace postrider::events
