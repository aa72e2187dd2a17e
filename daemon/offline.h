// The tools' way to the queue: through the control socket of the running daemon or, when it is
// down, by opening the queue under the daemon's lock and serving the same request in this process.
#pragma once

#include "daemon/control_client.h"
#include "daemon/daemon.h"

namespace postrider::daemon {

// Calls on_line for each line of the answer as it comes, without the end; blocks. on_line gives
// false to stop early (nobody reads our output any more). Failures of the way become an end with a
// sentence: 77 not permitted, 75 the daemon is starting or stopping, 69 no queue, 74, 76.
ControlEnd administrate(const Places& places, const ControlRequest& request, const OnLine& on_line);

}  // namespace postrider::daemon
