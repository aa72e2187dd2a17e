// What no single key can say: values that contradict each other.
#pragma once

#include "daemon/config/config_file.h"

namespace postrider::daemon {

// Appends a problem for each contradiction. Values that are no value at all have been reported
// before and are not looked at again.
void check_across(const Config& config, const Origins& origins, std::vector<Problem>& problems);

// What is allowed, but serves a mail system badly.
std::vector<Problem> warnings_about(const Config& config);

}  // namespace postrider::daemon
