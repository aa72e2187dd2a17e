// "Try again in 90 seconds": waits that a refusal names in its text. No RFC has them, many servers
// do. Pure.
#pragma once

#include "base/time.h"

#include <optional>
#include <string_view>

namespace postrider::scheduler {

// The wait that the text of a 4xx reply asks for, as it stands; nullopt: none. A number counts only
// with a unit (or as hh:mm:ss) and beside a word of retrying; never inside an address, a URL, or
// "100 in 60 seconds".
std::optional<Duration> find_hint(std::string_view text);

// What is made of it: 30 s to an hour, and a little more than asked, for clocks that count in whole
// seconds.
Duration bounded_hint(Duration asked);

}  // namespace postrider::scheduler
