// "did you mean": the known key that is nearest to a mistyped one.
#pragma once

#include "daemon/config/options.h"

#include <string>
#include <string_view>

namespace postrider::daemon {

// "unknown key; did you mean hostname?", or which keys are expected here.
// section: null above the first section.
std::string unknown_key(std::string_view name, const Section* section);

}  // namespace postrider::daemon
