// What the tools need of the configuration that the daemon runs with. The daemon leaves it beside
// its submit socket, readable by everybody, and holds a lock on it for as long as it lives: so
// `sendmail` takes mail, and an administrator sees the queue, whatever has become of the
// configuration since.
#pragma once

#include "base/file.h"
#include "base/result.h"
#include "daemon/config/config.h"
#include "daemon/protocol/tool_paths.h"

#include <optional>
#include <string>
#include <sys/types.h>
#include <vector>

namespace postrider::daemon {

ToolPaths places_of(const Config& config);

inline constexpr const char* kEffectiveName = "effective.json";
std::string effective_path(const ToolPaths& places);

class EffectiveFile {
 public:
  // Replaces what is there in one step. `config`: the file that the places come from.
  Result<void> publish(const ToolPaths& places, const std::string& config);

 private:
  FileDescriptor file_;  // with the lock
};

struct Effective {
  ToolPaths places;
  std::string config;
  std::string folder;     // where it was
  bool is_roots = false;  // of a daemon that runs as root: nobody else could have written it
};
// nullopt: there is none, or others than root and these users could have put it there. They are who
// the daemon may run as, by what else is known of it: whoever else publishes something would lead
// root's tools. Waits for nothing.
std::optional<Effective> read_effective(const std::string& folder,
                                        const std::vector<uid_t>& daemon_users);

}  // namespace postrider::daemon
