// What is wrong with what a configuration names on this machine, besides certificates and signing
// keys: tables, lists of users, credentials, keys, places of files. All of it that the next start
// would refuse is refused here: by `postrider check`, and by the daemon before a reload. With the
// rights of who calls, who may not be able to read what the administrator can.
#pragma once

#include "daemon/config/config_file.h"

#include <string>
#include <vector>

namespace postrider::daemon {

struct Question {
  // What the daemon goes on without, "key: what"; may be null.
  std::vector<std::string>* warnings = nullptr;
  // For a daemon that runs, which goes on with a table as it was when there is something wrong in
  // its file; whose file that is, holds up no reload with it.
  bool keeps_tables = false;
  // For a daemon that was started as root, and is the user of the configuration behind the next start.
  bool starts_as_root = false;
};

// loaded: with a configuration. Reads the files; blocking.
std::vector<Problem> problems_of_files(const Loaded& loaded, const Question& question);

// Files and folders that the configuration names and that cannot be read in time, for their file
// system does not answer; with any, nothing else may look at them. Takes a few seconds at most. For
// a process that does not fork.
std::vector<Problem> silent_files(const Loaded& loaded);

}  // namespace postrider::daemon
