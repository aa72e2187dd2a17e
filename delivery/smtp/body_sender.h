// Puts a client's pieces on the wire: small ones gathered into one write without a copy, spooled
// bodies in large blocks, dots doubled only where there are any.
#pragma once

#include "base/net/tls/stream.h"
#include "delivery/job/message_body.h"
#include "delivery/smtp/client.h"

#include <vector>

namespace postrider::delivery {

struct SendLimits {
  Duration block;     // for each block of a large body
  Duration body_end;  // for the answer, once all is written
};

// The error is the connection's; a body that cannot be read or may not be sent ends by
// client.abandon_body() and Errc::corrupt.
Task<Result<void>> send_pieces(Stream& stream, Client& client, std::vector<Piece> pieces,
                               const OpenBody& open_body, SendLimits limits);

}  // namespace postrider::delivery
