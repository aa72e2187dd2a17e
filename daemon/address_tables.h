// The address book, the tables of receiving and routing, and the users of this machine, as they are
// in use.
#pragma once

#include "daemon/addresses.h"
#include "daemon/foundation.h"
#include "daemon/start_problems.h"
#include "delivery/local/local_directory.h"

#include <memory>
#include <optional>

namespace postrider::daemon {

class AddressTables {
 public:
  // Tables that are open for a configuration, for adopt().
  struct Opened {
    std::shared_ptr<const delivery::LocalAddresses> book;
    ReceivingTables receiving;
  };

  // As the user: what only root may read would fail at the first reload. Requires: a log.
  void open(const Config& config, Foundation& foundation, StartProblems& problems);
  Result<Opened> prepare(const Config& config, const Clock& clock);
  void adopt(const Config& config, Opened opened);

  // Requires: open() found no problem.
  const Opened& in_use() const { return in_use_; }
  const std::shared_ptr<delivery::LocalDirectory>& directory() const { return directory_; }
  const tables::Watcher& watcher() const { return *watcher_; }

 private:
  std::optional<tables::Watcher> watcher_;
  Opened in_use_;
  std::shared_ptr<delivery::LocalDirectory> directory_;
};

}  // namespace postrider::daemon
