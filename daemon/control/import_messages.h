// The work of `postrider queue import` (daemon/control/offline.h), in a queue that is open.
#pragma once

#include "daemon/control/offline.h"
#include "queue/queue.h"

#include <string>
#include <vector>

namespace postrider::daemon {

// Puts what is in the open files into the queue. A message whose id is there already is left as it
// is. actor: who imports, for `log`. Requires: queue was started without a consumer.
std::vector<ImportedFile> import_files(queue::Queue& queue, Log& log, const queue::Actor& actor,
                                       std::vector<std::pair<std::string, FileDescriptor>> files);

}  // namespace postrider::daemon
