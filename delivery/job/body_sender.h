// Puts a client's pieces on the wire: small ones gathered into one write without a copy, spooled
// bodies in large blocks, dots doubled only where there are any.
#pragma once

#include "base/file.h"
#include "base/net/tls/stream.h"
#include "delivery/smtp/client.h"

#include <functional>
#include <string>

namespace postrider::delivery {

struct SendLimits {
  Duration block;     // for each block of a large body
  Duration body_end;  // for the answer, once all is written
};

// Opens the spooled body of a message, which counts as hostile: a regular file, as it was written
// (attacks.md I12). Thread-safe.
using OpenBody = std::function<Result<FileDescriptor>(const mail::Message&)>;

// The error is the connection's; a body that cannot be read or may not be sent ends by
// client.abandon_body() and Errc::corrupt.
Task<Result<void>> send_pieces(Stream& stream, Client& client, std::vector<Piece> pieces,
                               const OpenBody& open_body, SendLimits limits);

// The bytes of a message's content in memory, without trace; from a file at most `most` octets.
Result<std::string> load_bytes(const mail::Message& message, const OpenBody& open_body,
                               std::uint64_t most);
// One read of a block, retrying EINTR; 0 at the end of the file.
Result<std::size_t> read_block(const FileDescriptor& file, std::string& block);

}  // namespace postrider::delivery
