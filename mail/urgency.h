// How a message shares with others what there is: by MT-PRIORITY (RFC 6710) and Precedence.
#pragma once

#include "mail/message.h"

#include <cstdint>

namespace postrider::mail {

enum class Urgency : std::uint8_t { urgent, normal, bulk, junk };

// What is urgent has a larger share, and takes none away. What the client says in the envelope
// counts before what stands in the header.
Urgency urgency_of(const Message& message);

}  // namespace postrider::mail
