// When a message that was refused comes again, by the reason. Pure.
#pragma once

#include "base/time.h"
#include "delivery/scheduler/reply_class.h"

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

namespace postrider::scheduler {

class RetrySchedule {
 public:
  RetrySchedule();  // the defaults

  // An operator's: neither the reply table nor what a site taught us says otherwise, only a hint.
  // REQUIRES: at least one step, none below 100 ms. The last one repeats.
  void override_steps(ReplyClass klass, std::vector<Duration> steps);
  // The same for all reasons; a step is then by all tries of the message, whatever each was refused for.
  void override_all(const std::vector<Duration>& steps);
  const std::vector<Duration>& steps(ReplyClass klass) const;

  struct Reason {
    ReplyClass klass = ReplyClass::busy;
    unsigned tries = 1;               // of this message for this reason, this one included
    unsigned all_tries = 1;           // for whatever reason
    std::optional<Duration> hint;     // what the reply asked for
    unsigned hints_obeyed = 0;        // of this message so far; the third one is not
    std::optional<Duration> learned;  // the site's greylisting delay
    Duration row_wait{0};             // the reply table's own
  };
  // Whether the wait is the one that the reply asked for.
  static bool obeys_hint(const Reason& reason);
  // The wait before the next try. One jitter (an eighth either way, never before a hint) for a
  // message and site: what is deferred together comes back together.
  Duration wait(const Reason& reason, std::uint64_t message, std::uint64_t site) const;

 private:
  std::array<std::vector<Duration>, kReplyClasses> steps_;
  std::array<bool, kReplyClasses> is_given_{}, is_common_{};
};

}  // namespace postrider::scheduler
