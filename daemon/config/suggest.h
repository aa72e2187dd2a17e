// "did you mean": the known key that is nearest to a mistyped one.
#pragma once

#include "daemon/config/options.h"

#include <string>
#include <string_view>

namespace postrider::daemon {

// Edits (insert, delete, replace, swap of neighbours) that make one text the other.
std::size_t edit_distance(std::string_view a, std::string_view b);

// The sentence behind "unknown key, ": "did you mean hostname?", or which keys are allowed here.
// section: null above the first section.
std::string suggest_key(std::string_view name, const Section* section);

}  // namespace postrider::daemon
