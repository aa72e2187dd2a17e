// How delivery does, for metrics. Written on the dispatcher's first loop, read on any thread.
#pragma once

#include "base/histogram.h"
#include "delivery/scheduler/reply_class.h"

#include <array>
#include <atomic>
#include <cstdint>

namespace postrider::delivery {

struct DeliveryTimings {
  // Of each message: from when it was received until its first attempt began.
  Histogram first_attempt{kLongTimes};
  Histogram delivery{kLongTimes};  // of each recipient: from then until it was delivered
  // Attempts that are to be repeated, by why.
  std::array<std::atomic<std::uint64_t>, scheduler::kReplyClasses> deferred{};
  // Recipients that were delivered to other hosts, by what protected the connection.
  std::atomic<std::uint64_t> tls_1_3{0}, tls_1_2{0}, tls_older{0}, in_clear{0};
};

}  // namespace postrider::delivery
