#include "daemon/foundation.h"

#include "daemon/control/queue_exit.h"
#include "daemon/settings.h"

namespace postrider::daemon {

void Foundation::open_log(const Loaded& loaded, StartProblems& problems) {
  const auto& config = *loaded.config;
  try {
    log_ = std::make_unique<BackgroundLog>(log_target(config.log), log_format(config),
                                           config.log.level);
  } catch (const std::exception& error) {
    problems.blame(loaded, "log.target", std::string("cannot be opened: ") + error.what());
  }
}

void Foundation::open_queue(const Config& config, StartProblems& problems) {
  if (!log_)
    return;
  told_.emplace(*log_, clock_);
  trace_.emplace(clock_, *told_, config.spool);
  auto queue = queue::Queue::open(queue_settings(config), clock_, *told_);
  if (queue) {
    queue_ = std::move(*queue);
    return;
  }
  if (problems.exit_code == 0)
    problems.exit_code = exit_code_of_queue(queue.error(), EX_OSERR);
  problems.add(queue.error());
}

}  // namespace postrider::daemon
