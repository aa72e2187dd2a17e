// The configuration in use, and what a reload replaces of it: a SIGHUP or a tool asks for one; it
// comes once the file has stayed as it is for a second. Then every part has the new configuration, or
// every problem is in the log and every part keeps the old one.
//
//   ask() --file at rest--> new configuration --all parts can--> adopted
//                            \--a problem, or a part cannot--> refused
#pragma once

#include "base/file_at_rest.h"
#include "daemon/notify.h"
#include "daemon/parts.h"
#include "daemon/route_changes.h"

#include <cstdint>
#include <optional>

namespace postrider::daemon {

// On the main thread.
class Reloader {
 public:
  // All outlive it.
  Reloader(Loaded loaded, Parts& parts, Notifier& notifier);

  const Loaded& in_use() const { return loaded_; }
  const Config& config() const { return *loaded_.config; }
  // What a reload cannot change runs with these values.
  const Config& started() const { return *started_; }

  void ask();
  // When run_if_settled() wants to be called; nothing if no reload is asked for.
  std::optional<SteadyTime> next_look() const;
  void run_if_settled();
  // Mail that waits is due at once if routes have changed since the last look.
  void look_at_routes();

 private:
  ReloadVerdict reload(Loaded fresh);
  ReloadVerdict refuse(const Loaded& fresh);
  ReloadVerdict adopt(Loaded fresh);
  Error change_parts(const Config& config, const Origins& origins);
  void report(std::uint64_t number, ReloadVerdict verdict);

  // A reload that was asked for, and waits for the file to stay as it is.
  struct Wanted {
    SteadyTime asked, look;
    FileRest file;
    std::uint64_t number = 0;  // of the last who waits for the verdict
  };

  Loaded loaded_;
  const ConfigPtr started_;
  Parts& parts_;
  Notifier& notifier_;
  const Clock& clock_;
  RouteChanges route_changes_;
  std::optional<Wanted> wanted_;
};

}  // namespace postrider::daemon
