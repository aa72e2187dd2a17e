// What the tools need of the configuration that the daemon runs with. The daemon leaves it beside
// its submit socket, readable by everybody, and holds a lock on it for as long as it lives: so
// `sendmail` takes mail, and an administrator sees the queue, whatever has become of the
// configuration since.
#pragma once

#include "base/file.h"
#include "base/result.h"
#include "daemon/config.h"
#include "daemon/daemon.h"

#include <optional>
#include <string>

namespace postrider::daemon {

Places places_of(const Config& config);

inline constexpr const char* kEffectiveName = "effective.json";
std::string effective_path(const Places& places);

class EffectiveFile {
 public:
  // Replaces what is there in one step. `config`: the file that the places come from.
  Result<void> publish(const Places& places, const std::string& config);

 private:
  FileDescriptor file_;  // with the lock
};

struct Effective {
  Places places;
  std::string config;
};
// nullopt: there is none that can be trusted. Waits for nothing.
std::optional<Effective> read_effective(const std::string& folder);

}  // namespace postrider::daemon
