// Numbers of the wire format that reading and writing share (RFC 1035 section 4.1.1).
#pragma once

#include <cstdint>

namespace postrider::dns::wire {

inline constexpr std::uint16_t kClassIn = 1;
inline constexpr std::uint16_t kOptionExtendedError = 15;
inline constexpr std::uint16_t kResponse = 0x8000, kOpcode = 0x7800, kAuthoritative = 0x0400,
                               kTruncated = 0x0200, kRecursionDesired = 0x0100,
                               kRecursionAvailable = 0x0080, kAuthentic = 0x0020, kRcode = 0x000f;

}  // namespace postrider::dns::wire
