// What a configuration names and this machine does not have, or not for the daemon's user: allowed,
// since it may come yet, and mostly a slip.
#pragma once

#include "daemon/certificates.h"
#include "daemon/config/config_file.h"

#include <string>
#include <vector>

namespace postrider::daemon {

// Looks at files and users: blocks. units: the folders of systemd's units, the first before the next.
std::vector<Problem> doubts_about_machine(const Config& config, const Certificates& certificates,
                                          const std::vector<std::string>& units = {
                                              "/etc/systemd/system", "/lib/systemd/system"});

}  // namespace postrider::daemon
