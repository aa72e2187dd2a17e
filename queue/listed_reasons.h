// Reasons of recipients that wait for neither a host's reply nor an administrator's pause, or how
// they begin: whoever has a listing or a lease can tell by them.
#pragma once

#include "mail/outcome.h"

#include <string_view>

namespace postrider::queue {

inline constexpr std::string_view kKeptForSender = "its sender asked to send it not before ";
// No reason any more once that time has come.
inline bool is_kept_for_sender(const mail::Outcome& reason) {
  return reason.text.starts_with(kKeptForSender);
}
inline constexpr std::string_view kQuarantined = "quarantined: ";
// In delivery's hands, which knows more.
inline constexpr std::string_view kBeingTried = "it is being tried, and no answer has come yet";

}  // namespace postrider::queue
