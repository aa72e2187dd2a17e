#include "smtpd/limited_log.h"

#include <algorithm>
#include <string>

namespace postrider::smtpd {

LimitedLog::LimitedLog(Log& log, const Clock& clock, DeadlineWheel& wheel)
    : log_(log), clock_(clock), report_(wheel, [this] { report(); }) {}

void LimitedLog::write(LogEvent event) {
  auto& kind = kinds_[event.name()];
  const auto now = clock_.steady();
  if (kind.room < kBurst) {
    const auto passed = std::chrono::duration_cast<Duration>(now - kind.filled).count();
    const auto earned =
        static_cast<std::uint64_t>(std::max<Duration::rep>(passed, 0)) * kRate / 1000;
    if (earned > 0) {
      kind.room = std::min(kBurst, kind.room + earned);
      kind.filled = now;
    }
  } else {
    kind.filled = now;
  }
  if (kind.room > 0) {
    --kind.room;
    log_.write(std::move(event));
    return;
  }
  ++kind.suppressed;
  if (!report_.is_set())
    report_.set(kReport);
}

void LimitedLog::report() {
  for (auto& [name, kind] : kinds_)
    if (const auto suppressed = std::exchange(kind.suppressed, 0); suppressed > 0)
      log_.write(LogEvent(Level::warn, "log_limited")
                     .add("of", name)
                     .add("suppressed", std::to_string(suppressed)));
}

}  // namespace postrider::smtpd
