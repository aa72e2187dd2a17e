// When the routes of mail change: by a reload that changes them, or when a table of routes is
// changed. Mail that was put off on an old way need not wait for its time then.
#pragma once

#include "base/time.h"
#include "daemon/config/config.h"

#include <optional>
#include <string>

namespace postrider::daemon {

class RouteChanges {
 public:
  // A table counts as changed when it has been read again (tables/watcher.h).
  static constexpr Duration kTableSettles = std::chrono::seconds(4);

  // With the configuration in effect, now and then. True: mail may go other ways than when this was
  // asked before. The first time is none. Looks at the files of tables; what a server answers
  // may change unnoticed.
  bool look(const Config& config, SteadyTime now);

 private:
  std::optional<std::string> routes_;
  std::string tables_;
  std::optional<SteadyTime> settled_;  // when tables that have changed will have been read
};

}  // namespace postrider::daemon
