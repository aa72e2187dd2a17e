// What is wrong with the files that a configuration names, besides certificates and signing keys:
// tables, lists of users, credentials, keys of SRS. For who asks, with his rights: `postrider
// check` and the daemon before a reload, which may not be able to read what the administrator can.
#pragma once

#include "daemon/config/config_file.h"

#include <string>
#include <vector>

namespace postrider::daemon {

// loaded: with a configuration. warnings: what the daemon goes on without, "key: what"; may be
// null. keeps_tables: for a daemon that runs, which goes on with a table as it was when there is
// something wrong in its file; whose file that is, holds up no reload with it. Reads the files;
// blocking.
std::vector<Problem> problems_of_files(const Loaded& loaded,
                                       std::vector<std::string>* warnings = nullptr,
                                       bool keeps_tables = false);

// Files and folders that the configuration names and that cannot be read in time, for their file
// system does not answer; with any, nothing else may look at them. Takes a few seconds at most. For
// a process that does not fork.
std::vector<Problem> silent_files(const Loaded& loaded);

}  // namespace postrider::daemon
