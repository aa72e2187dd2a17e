// What operators write about schedules and rates. Pure.
#pragma once

#include "base/time.h"
#include "delivery/scheduler/reply_class.h"

#include <optional>
#include <string_view>
#include <vector>

namespace postrider::scheduler {

// "mailbox-full 1h 4h 12h"
struct RetryRule {
  ReplyClass klass = ReplyClass::busy;
  std::vector<Duration> steps;  // at least one, at most 20, each from 100 ms to 7 days
};
std::optional<RetryRule> parse_retry_rule(std::string_view text);

// "100/m": messages a second; from 1 to 1,000,000 by s, m, h or d.
std::optional<double> parse_rate(std::string_view text);

}  // namespace postrider::scheduler
