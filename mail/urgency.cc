#include "mail/urgency.h"

namespace postrider::mail {

Urgency urgency_of(const Message& message) {
  constexpr int kUrgent = 2, kBulk = -2;
  const int priority = message.envelope.priority;
  if (priority == 0 && message.precedence != Precedence::none)
    return message.precedence == Precedence::junk ? Urgency::junk : Urgency::bulk;
  return priority >= kUrgent ? Urgency::urgent
         : priority <= kBulk ? Urgency::bulk
                             : Urgency::normal;
}

}  // namespace postrider::mail
