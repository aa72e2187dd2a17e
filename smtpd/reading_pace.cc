#include "smtpd/reading_pace.h"

#include <algorithm>
#include <chrono>

namespace postrider::smtpd {

namespace {

// What one connection may read before the loop's other work has its turn.
constexpr std::size_t kTurn = 64U << 10U;

}  // namespace

std::optional<Duration> ReadingPace::deadline(const SessionFramer& talk, SteadyTime now,
                                              const Timeouts& times, Treatment treatment) {
  if (talk.reads_content()) {
    commands_seen_ = kNone;  // behind content, the next command has a time of its own
    return patience_with_content(now, times, treatment);
  }
  if (commands_seen_ == talk.commands())
    return std::nullopt;
  commands_seen_ = talk.commands();
  content_began_ = {};
  return treatment.is_patient ? times.command : std::min(times.command, times.stressed);
}

Duration ReadingPace::patience_with_content(SteadyTime now, const Timeouts& times,
                                            Treatment treatment) {
  if (content_began_ == SteadyTime{}) {
    content_began_ = now;
    content_read_ = 0;
  }
  const auto silence = treatment.is_patient && !treatment.holds_much
                           ? times.data
                           : std::min(times.data, times.stressed);
  const auto earned = Duration(content_read_ * 1000 / std::max<std::uint64_t>(times.data_rate, 1));
  const auto left =
      std::chrono::duration_cast<Duration>(content_began_ + times.data + earned - now);
  return std::clamp(left, Duration(0), silence);
}

void ReadingPace::excuse(SteadyTime since, SteadyTime now) {
  if (content_began_ != SteadyTime{})
    content_began_ += now - since;
}

void ReadingPace::count(std::size_t octets) {
  in_turn_ += octets;
  content_read_ += octets;
}

bool ReadingPace::ends_turn() {
  if (in_turn_ < kTurn)
    return false;
  in_turn_ = 0;
  return true;
}

}  // namespace postrider::smtpd
