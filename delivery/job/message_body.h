// The content of a message that is to be sent or stored, from memory or from its spooled file.
#pragma once

#include "base/file.h"
#include "base/result.h"
#include "mail/message.h"

#include <cstdint>
#include <functional>
#include <string>

namespace postrider::delivery {

// A block of a file, read and written at one time.
inline constexpr std::size_t kBodyBlock = 128U << 10U;

// Opens the spooled body of a message, which counts as hostile: a regular file, as it was written
// (attacks.md I12). Thread-safe.
using OpenBody = std::function<Result<FileDescriptor>(const mail::Message&)>;

// The bytes of a message's content in memory, without trace; from a file at most `most` octets.
Result<std::string> load_bytes(const mail::Message& message, const OpenBody& open_body,
                               std::uint64_t most);
// One read of a block, retrying EINTR; 0 at the end of the file.
Result<std::size_t> read_block(const FileDescriptor& file, std::string& block);

}  // namespace postrider::delivery
