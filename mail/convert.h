// Down-conversion for a hop without 8BITMIME (RFC 6152 §3): 8-bit leaves of a MIME tree become
// quoted-printable, or base64 when that is shorter; nothing else changes. Depth at most 100.
#pragma once

#include "base/result.h"

#include <string>
#include <string_view>

namespace postrider::mail {

// The content in 7 bits, but for what has no other form: an 8-bit header field, preamble or
// epilogue stays as it is, as Postfix and Exim send it too. Errc::unsupported, with what it is as
// the step, when a body cannot be converted without loss: a signed part (multipart/signed),
// message/* other than rfc822 and global with 8-bit inside, a broken structure. Then all of it goes
// as it came, unless it is binary. binary: the source is BINARYMIME, whose lines may have any
// length and bare line ends; of those nothing is left, or it is unsupported.
Result<std::string> to_seven_bit(std::string_view content, bool binary);

}  // namespace postrider::mail
