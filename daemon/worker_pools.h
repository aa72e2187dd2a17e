// The threads for what blocks, apart from each other so that no kind of work holds up another.
#pragma once

#include "base/net/blocking_pool.h"

#include <algorithm>
#include <thread>

namespace postrider::daemon {

struct WorkerPools {
  static unsigned cores() { return std::max(1U, std::thread::hardware_concurrency()); }

  // A flood of handshakes gets what delivery leaves over.
  BlockingPool handshakes{cores(), 10};
  BlockingPool signatures{cores()};
  BlockingPool files{2};
};

}  // namespace postrider::daemon
