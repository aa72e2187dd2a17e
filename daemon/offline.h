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

// `postrider queue salvage`: what it could read is in the queue now; the text says what was lost.
// Refuses while the daemon runs. 0: nothing was lost or held; 75: something was; 69, 71, 77:
// nothing was done.
Report salvage_queue(const Places& places);

}  // namespace postrider::daemon
