// Events as text: CloudEvents 1.0 in the JSON format, structured. Pure.
#pragma once

#include "events/event.h"

#include "base/result.h"

#include <cstddef>
#include <string>
#include <string_view>

namespace postrider::events {

inline constexpr std::size_t kMostValue = 1024;       // octets of one value before it is escaped
inline constexpr std::size_t kMostEvent = 1U << 18U;  // octets of one event as text

// One line without its end. A value that is valid UTF-8 and not too long stands as it is; any other
// is escaped as in the log, and cut.
std::string encode(const CloudEvent& event);

// A member of an object that has begun with "{", with the comma before it, as in an event.
void append_member(std::string_view name, std::string_view value, std::string& out);
// Only if the value is one.
void append_number(std::string_view name, std::string_view value, std::string& out);

// What encode() wrote, or something like it: our own file counts as hostile. Members that are not
// known are passed over. Errc::malformed or Errc::too_long.
Result<CloudEvent> decode(std::string_view text);

}  // namespace postrider::events
