// What delivery needs of files to send under TLS and to log in: trusted roots, and credentials.
#pragma once

#include "base/blocking_pool.h"
#include "base/time.h"
#include "daemon/config.h"
#include "delivery/settings.h"

namespace postrider::daemon {

// Outlives the dispatcher; destroyed before the loops.
class Outbound {
 public:
  explicit Outbound(const Clock& clock);

  // Reads the files, so not on a loop. The error names the key or the file.
  Result<void> equip(const Config& config, delivery::Settings& settings);

 private:
  const Clock& clock_;
  BlockingPool pool_{1};     // token commands, one after the other
  BlockingPool handshakes_;  // apart from those that clients begin, who could flood them
};

}  // namespace postrider::daemon
