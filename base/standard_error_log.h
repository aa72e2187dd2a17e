// A log on standard error, for programs with a few lines in their life: the service manager keeps
// them. Thread-safe: each line is one write(2).
#pragma once

#include "base/log.h"
#include "base/time.h"

#include <string>
#include <unistd.h>

namespace postrider {

class StandardErrorLog : public Log {
 public:
  bool enabled(Level level) const override { return level != Level::debug; }
  void write(LogEvent event) override {
    event.when = clock_.now();
    std::string line;
    format_text(event, line);
    line += '\n';
    (void)!::write(STDERR_FILENO, line.data(), line.size());
  }

 private:
  const SystemClock clock_;
};

}  // namespace postrider
