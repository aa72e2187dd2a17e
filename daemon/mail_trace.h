// What is remembered of mail that is gone: the trace beside the queue, filled from the lines of the
// log, as far as the configuration wants it.
#pragma once

#include "events/event_log.h"
#include "events/trace_thread.h"

#include "daemon/config/config.h"

#include <memory>
#include <mutex>
#include <string>

namespace postrider::daemon {

class MailTrace {
 public:
  // All outlive it. Its own troubles are told to `told`, so that they are alarms too.
  MailTrace(const Clock& clock, events::EventLog& told, std::string spool);
  ~MailTrace();  // stop()

  void adopt(const Config& config);  // at start, and at a reload; on one thread
  void stop();

  // Any thread.
  bool is_on() const;
  void settle() const;  // what waits in memory comes to the disk, in a moment
  void suspect_damage() const;
  events::TraceThread::Counters counters() const;

 private:
  const Clock& clock_;
  events::EventLog& told_;
  const std::string path_;
  mutable std::mutex mutex_;
  bool is_on_ = false;
  std::shared_ptr<events::TraceThread> thread_;
};

}  // namespace postrider::daemon
