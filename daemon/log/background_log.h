// The log of the running daemon: written by a thread of its own, to a file, syslog or the journal.
#pragma once

#include "base/log.h"
#include "daemon/log/log_format.h"
#include "daemon/log/log_sinks.h"

#include <cstdint>
#include <memory>

namespace postrider::daemon {

// Writes through spdlog from its own thread. Holds at most 64k waiting events; beyond that events
// are dropped. What was dropped, or not taken by the target, is counted in a line of its own
// (log_overrun): a full log disk does not stop mail.
class BackgroundLog : public Log {
 public:
  // Throws std::system_error when the target cannot be opened.
  BackgroundLog(LogTarget target, std::shared_ptr<const LogFormat> format, Level least);
  ~BackgroundLog() override;  // writes what is waiting
  bool enabled(Level level) const override;
  void write(LogEvent event) override;
  void reconfigure(std::shared_ptr<const LogFormat> format, Level least);  // reload
  void reopen();  // after the file was rotated
  void flush();   // returns when all written so far is out
  // Lines that were not written, nor counted in a line that was: the target takes none now.
  std::uint64_t lost() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace postrider::daemon
