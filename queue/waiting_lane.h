// The lanes in which mail waits for a domain: one for each sender and urgency, so that none of them
// waits behind all the mail of another.
#pragma once

#include "mail/message.h"

#include <cstdint>

namespace postrider::queue {

// Stored by a version that knew no lanes.
inline constexpr std::int64_t kUnknownLane = 0;

// The lane of a message: a number that is stored, the same in every run; never negative.
std::int64_t waiting_lane(const mail::Message& message);
// Its part of what lanes share: 4, 2 of bulk, 1 of junk.
std::size_t weight_of_lane(std::int64_t lane);

}  // namespace postrider::queue
