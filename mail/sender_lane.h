// Who sends, as far as senders share what there is fairly among each other.
#pragma once

#include "mail/message.h"

#include <cstdint>

namespace postrider::mail {

// A number for the sender of a message, the same in every run: it is stored with mail that waits. It
// is of a digest, so that nobody finds a name by which he counts as another. Who logged in
// counts as that user, whatever the sender's address; a user of this machine by the uid; who is a
// stranger by the network, /24 or /64, and the sender's domain, of which one network has at most 16
// turns; notices of our own are one sender. No extension, and no host of a network, makes a sender two.
std::uint64_t sender_lane(const Message& message);

}  // namespace postrider::mail
