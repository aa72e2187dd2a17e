// What is wrong with the files that a configuration names, besides certificates and signing keys:
// tables, lists of users, credentials, keys of SRS. For who asks, with his rights: `postrider
// check` and the daemon before a reload, which may not be able to read what the administrator can.
#pragma once

#include "daemon/config/config_file.h"

#include <string>
#include <vector>

namespace postrider::daemon {

// loaded: with a configuration. warnings: what the daemon goes on without, "key: what"; may be
// null. Reads the files; blocking.
std::vector<Problem> problems_of_files(const Loaded& loaded,
                                       std::vector<std::string>* warnings = nullptr);

}  // namespace postrider::daemon
