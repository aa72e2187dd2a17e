// SASLprep (RFC 4013): names and passwords in the form in which they are compared, by GNU libidn's
// stringprep, with Unicode 3.2 as RFC 3454 says; code points assigned since pass unchanged.
// Printable ASCII, which is nearly everything, never gets there. Thread-safe.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace postrider {

inline constexpr std::size_t kMostSaslText = 1024;  // octets

// Nothing: not UTF-8, a control or otherwise prohibited, empty afterwards, or too long.
std::optional<std::string> saslprep(std::string_view text);

}  // namespace postrider
