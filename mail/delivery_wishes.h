// What MAIL may ask about time and priority: the values of BY (RFC 2852), HOLDFOR and HOLDUNTIL
// (RFC 4865 with erratum 2040) and MT-PRIORITY (RFC 6710). Pure.
#pragma once

#include "base/time.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace postrider::mail {

// "120;RT": within so many seconds of its arrival; late already, if not above 0.
struct ByRequest {
  std::int32_t seconds = 0;  // at most nine digits
  bool returns = false;      // R; otherwise N
  bool traces = false;       // T
  friend bool operator==(const ByRequest&, const ByRequest&) = default;
};
// Never returns late mail that was late before: RFC 2852 §4 has no such request.
std::optional<ByRequest> parse_by(std::string_view value);

// HOLDFOR: 1 to 999,999,999 seconds.
std::optional<Duration> parse_hold_for(std::string_view value);

// A date-time of RFC 3339, always with its zone; a part of a second counts as a whole one, so that
// nothing happens before it. Times before 1970 are as good as 1970.
std::optional<TimePoint> parse_date_time(std::string_view value);
// "2026-11-23T13:34:44Z", in whole seconds.
std::string format_date_time(TimePoint when);

// MT-PRIORITY: -9 to 9.
std::optional<std::int8_t> parse_priority(std::string_view value);

}  // namespace postrider::mail
