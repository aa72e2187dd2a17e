// Gives a complete message to the daemon, or to its drop folder when the daemon is down.
#pragma once

#include "base/time.h"
#include "cli/content_store.h"
#include "daemon/daemon.h"
#include "daemon/protocol/submit_protocol.h"

#include <string>

namespace postrider::cli {

// exit_code 0: in custody, with the id, or "dropped" while the daemon is down or busy. For more
// recipients than one message may have it becomes several, with an id each. patience: with each
// step of a daemon that does not go on; then the message is left in the drop folder.
daemon::SubmitAnswer hand_over(const daemon::ToolPaths& places, daemon::SubmitHeader header,
                               const ContentStore& content,
                               Duration patience = std::chrono::minutes(5));

// Writes the file of the drop folder: complete and on stable storage, or nothing.
// `user`: the daemon's, whose the folder must be if root drops.
Result<void> drop_message(const std::string& spool, const daemon::SubmitHeader& header,
                          const ContentStore& content, const std::string& user = {});

}  // namespace postrider::cli
