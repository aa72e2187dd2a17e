// The compact forms kept in the database: the head of a message (all but its bytes) and an
// outcome. Pure. Decoding refuses anything malformed: our own database counts as hostile
// (attacks.md I11).
#pragma once

#include "mail/message.h"
#include "mail/outcome.h"
#include "queue/queue.h"

#include <optional>
#include <string>
#include <string_view>

namespace postrider::queue {

// checksum: of the content (queue/checksum.h); without one it reads as version 1 wrote it.
std::string encode_head(const mail::Message& message,
                        std::optional<std::uint32_t> checksum = std::nullopt);
// The message without content.bytes, and the checksum that its content must have if it has one.
Result<mail::Message> decode_head(mail::MessageId id, std::string_view bytes,
                                  std::optional<std::uint32_t>* checksum = nullptr);

// The client that a message came from; empty: the head is damaged.
std::string client_in_head(std::string_view head);

// Without a tally it reads as earlier versions wrote it.
std::string encode_outcome(const mail::Outcome& outcome, const RetryTally& tally = {});
Result<mail::Outcome> decode_outcome(std::string_view bytes, RetryTally* tally = nullptr);

// Names of body files that we make ourselves: nothing that could lead out of the folder.
bool is_body_name(std::string_view name);

}  // namespace postrider::queue
