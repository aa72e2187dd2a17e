// One sink of events at work: its thread takes events out of the outbox and gives them away, again
// and again if need be. Nothing waits for it but the end of the daemon, which ends it.
#pragma once

#include "events/pump.h"

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

namespace postrider::daemon {

class SinkRunner {
 public:
  struct State {
    events::Pump::Counters counters;
    std::optional<events::Position> position;
    std::string error;        // why it takes nothing; empty: all is well
    TimePoint failing_since;  // then
    TimePoint next_attempt;   // then
  };

  // Clock and log outlive it.
  SinkRunner(events::PumpSettings settings, std::unique_ptr<events::Sink> sink, const Clock& clock,
             Log& log);
  ~SinkRunner();  // stop()
  SinkRunner(const SinkRunner&) = delete;
  SinkRunner& operator=(const SinkRunner&) = delete;

  // Any thread.
  void wake();                             // there may be more
  void retry();                            // at once, if it waits after a failure
  void replay(events::Position position);  // goes on behind it, at once
  State state() const;
  void begin_stop();  // what it is doing is given up, and comes again at the next start
  void stop();        // that, and waits until it is so

 private:
  void run();
  events::Pump::Step step();
  Duration pause_after(events::Pump::Step step);

  const Clock& clock_;
  const std::unique_ptr<events::Sink> sink_;
  events::Pump pump_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool is_stopping_ = false;
  bool is_woken_ = false;
  bool may_be_woken_ = false;
  bool is_retried_ = false;
  std::optional<events::Position> wanted_;
  State state_;
  unsigned failures_ = 0;  // in a row; of the thread
  std::thread thread_;
};

}  // namespace postrider::daemon
