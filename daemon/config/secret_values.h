// Problems and warnings tell what a system call or a library said of a value of the configuration, with the value in it.
#pragma once

#include "daemon/config/config.h"

#include <string>

namespace postrider::daemon {

// The text, with each value of the configuration in it as quotable() shows it.
std::string without_secret_values(std::string text, const Config& config);

}  // namespace postrider::daemon
