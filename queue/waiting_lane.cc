#include "queue/waiting_lane.h"

#include "mail/sender_lane.h"
#include "mail/urgency.h"

#include <iterator>

namespace postrider::queue {

namespace {

// The last two bits of a lane. Stored; an unknown lane is a normal one.
constexpr std::int64_t kUrgencyBits = 3;
constexpr mail::Urgency kUrgencies[] = {mail::Urgency::normal, mail::Urgency::urgent,
                                        mail::Urgency::bulk, mail::Urgency::junk};
// Urgency orders the mail of its sender, and takes no turn of others.
constexpr std::size_t kWeights[] = {4, 4, 2, 1};
static_assert(std::size(kUrgencies) == kUrgencyBits + 1 && std::size(kWeights) == kUrgencyBits + 1);

std::int64_t bits_of(mail::Urgency urgency) {
  std::int64_t bits = 0;
  while (kUrgencies[bits] != urgency)
    ++bits;
  return bits;
}

}  // namespace

std::int64_t waiting_lane(const mail::Message& message) {
  const auto sender = static_cast<std::int64_t>(mail::sender_lane(message) >> 1U);
  return (sender & ~kUrgencyBits) | bits_of(mail::urgency_of(message));
}

std::size_t weight_of_lane(std::int64_t lane) {
  return kWeights[lane & kUrgencyBits];
}

}  // namespace postrider::queue
