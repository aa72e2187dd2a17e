// The name of a user, in the one form in which it is looked up, counted and logged. Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace postrider::smtpd::auth {

// Prepared (base/saslprep.h), in lower case (ASCII), at most 255 octets, without what files and
// protocols use as separators (colon, white space, controls).
std::optional<std::string> user_key(std::string_view name);

}  // namespace postrider::smtpd::auth
