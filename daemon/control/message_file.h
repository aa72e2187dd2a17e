// A message of the queue as a file: header fields of ours that hold its envelope and what else the
// queue knows, then the message as it would be sent. So any mail program can read it. Pure.
//
//   X-Postrider-Export: 1K1BX3F7Q2A
//   X-Postrider-From: <ann@example.org>
//   X-Postrider-To: <bob@example.net>           for people; one for each recipient
//   X-Postrider-To: <eve@example.net>; held     whom an administrator holds
//   X-Postrider-Traceparent: 00-...-01          for people; where its application has said it
//   X-Postrider-Head: base64, in lines          what import reads
//   Received: ...                               the message
#pragma once

#include "base/result.h"
#include "mail/message.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::daemon {

// All that stands before message.content's own bytes, its trace included. held: recipients by their
// place in the envelope, in order.
std::string message_file_head(const mail::Message& message, std::uint32_t checksum,
                              const std::vector<std::uint32_t>& held = {});

struct MessageFileHead {
  mail::Message message;                 // without bytes; content.file is empty
  std::uint32_t checksum = 0;            // of the bytes
  std::size_t size = 0;                  // octets of the file before them
  std::vector<std::uint32_t> held = {};  // as above
};
inline constexpr std::size_t kMostMessageFileHead = 16U << 20U;
// nullopt: more of the file is needed. Errc::malformed: it is not such a file. Hostile bytes.
Result<std::optional<MessageFileHead>> parse_message_file(std::string_view beginning);

}  // namespace postrider::daemon
