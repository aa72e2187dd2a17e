// How often a message may pass through servers before it is taken for one that goes in a circle
// (RFC 5321 §6.3), whichever way it comes in: by SMTP, from sendmail, as a file.
#pragma once

#include "base/text.h"

#include <cstddef>
#include <string_view>

namespace postrider::mail {

// Each server adds one. The RFC asks for 100 at least.
inline constexpr std::size_t kMostReceivedFields = 100;
inline constexpr const char* kTooManyHops =
    "too many hops: with 100 Received fields or more the message goes in a circle";

inline bool is_received_field(std::string_view name) {
  return equals_ignoring_case(name, "Received");
}
inline bool goes_in_circle(std::size_t received_fields, std::size_t most = kMostReceivedFields) {
  return received_fields >= most;
}

}  // namespace postrider::mail
