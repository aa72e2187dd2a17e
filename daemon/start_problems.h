// Why the daemon cannot start: what is printed before it gives up.
#pragma once

#include "base/result.h"
#include "daemon/config/config_file.h"

#include <string>
#include <vector>

namespace postrider::daemon {

struct StartProblems {
  std::vector<std::string> lines;
  int exit_code = 0;

  bool none() const { return lines.empty(); }
  // A fault of the machine.
  void add(const Error& error);
  // Faults that the administrator mends in the configuration.
  void blame(const Loaded& loaded, const char* key, const std::string& text);
  void blame(const Loaded& loaded, std::vector<Problem> problems);
};

}  // namespace postrider::daemon
