// The log of what strangers make us say by connecting and being refused (attacks.md X15): each kind
// of event has a rate, and what goes beyond is counted and reported, so that a flood fills no disk.
// Messages and our own clients are always logged. Lives on its loop.
#pragma once

#include "base/log.h"
#include "base/net/deadline.h"

#include <cstdint>
#include <map>
#include <string_view>

namespace postrider::smtpd {

class LimitedLog final : public Log {
 public:
  static constexpr std::uint64_t kBurst = 2000;  // lines of one kind at once
  static constexpr std::uint64_t kRate = 100;    // and a second, in the long run
  static constexpr Duration kReport{10000};

  LimitedLog(Log& log, const Clock& clock, DeadlineWheel& wheel);
  bool enabled(Level level) const override { return log_.enabled(level); }
  void write(LogEvent event) override;
  // Says what was left out: "log_limited event=connected suppressed=1234".
  void report();

 private:
  struct Kind {
    std::uint64_t room = kBurst;
    SteadyTime filled;
    std::uint64_t suppressed = 0;
  };

  Log& log_;
  const Clock& clock_;
  std::map<std::string_view, Kind> kinds_;  // by the names of events, which are literals
  Deadline report_;
};

}  // namespace postrider::smtpd
