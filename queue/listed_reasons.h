// Reasons of recipients that wait for neither a host's reply nor an administrator's pause, or how
// they begin: whoever has a listing or a lease can tell by them.
#pragma once

#include <string_view>

namespace postrider::queue {

inline constexpr std::string_view kKeptForSender = "its sender asked to send it not before ";
inline constexpr std::string_view kQuarantined = "quarantined: ";
// In delivery's hands, which knows more.
inline constexpr std::string_view kBeingTried = "it is being tried, and no answer has come yet";

}  // namespace postrider::queue
