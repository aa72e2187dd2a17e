// SASLprep (RFC 4013): names and passwords in the form in which they are compared, by GNU libidn's
// stringprep, with Unicode 3.2 as RFC 3454 says; code points assigned since pass unchanged.
// Printable ASCII, which is nearly everything, never gets there. Thread-safe.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace postrider::smtpd::auth {

// Nothing: not UTF-8, a control or otherwise prohibited, empty afterwards, or above 1024 octets.
std::optional<std::string> saslprep(std::string_view text);

// A user's name as it is looked up and logged: prepared, in lower case (ASCII), at most 255 octets,
// without what files and protocols use as separators (colon, white space, controls).
std::optional<std::string> user_key(std::string_view name);

}  // namespace postrider::smtpd::auth
