// A log that also tells the outbox and the trace: it stands before the daemon's own where mail is
// logged. What becomes of messages the queue reports to the outbox, once it is stored; the trace
// has it from the lines, and may lose the last of them.
#pragma once

#include "events/from_log.h"
#include "events/outbox_thread.h"
#include "events/trace_thread.h"

#include <atomic>
#include <utility>

namespace postrider::events {

class EventLog : public Log {
 public:
  // Both outlive it.
  EventLog(Log& log, const Clock& clock) : log_(log), clock_(clock) {}
  // Any thread. The outbox outlives it; nullptr: nobody wants events.
  void use(OutboxThread* outbox) { outbox_ = outbox; }
  // The same for the trace.
  void trace_into(TraceThread* trace) { trace_ = trace; }

  // Whatever the log leaves out, events and steps are made of `info` and above.
  bool enabled(Level level) const override {
    return ((outbox_ != nullptr || trace_ != nullptr) && level >= Level::info) ||
           log_.enabled(level);
  }
  void write(LogEvent line) override {
    auto* const outbox = outbox_.load();
    auto* const trace = trace_.load();
    if (outbox != nullptr || trace != nullptr)
      line.when = line.when == TimePoint() ? clock_.now() : line.when;  // what was kept has its own
    if (outbox != nullptr)
      if (auto event = event_of(line); event && !is_of_queue(event->kind))
        outbox->post(*std::move(event));
    if (trace != nullptr && is_traced(line))
      trace->post(encode_trace(line));
    if (log_.enabled(line.level()))
      log_.write(std::move(line));
  }

 private:
  Log& log_;
  const Clock& clock_;
  std::atomic<OutboxThread*> outbox_{nullptr};
  std::atomic<TraceThread*> trace_{nullptr};
};

}  // namespace postrider::events
