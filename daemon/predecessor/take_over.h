// `postrider queue import postfix` and `exim`: takes over the queue of the mail server that was here
// before, while both are stopped.
//
//   root:               finds and opens its files, and puts aside what is taken
//   the daemon's user:  reads what strangers wrote into them, and writes our queue
//
//   file --open, lock--> read --accept, sync--> in custody --rename, sync--> taken-over --> forgotten
//
// In the transaction that accepts a message its old name and time are stored too, so whenever this
// is ended, and whether or not the file can be moved, a message is accepted once.
#pragma once

#include "daemon/predecessor/taken_over.h"
#include "daemon/protocol/tool_paths.h"

#include <functional>
#include <string>

namespace postrider::daemon {

struct TakeOverOptions {
  Predecessor whose = Predecessor::postfix;
  std::string folder;    // its queue's
  bool keeps = false;    // its files stay where they are
  bool dry_run = false;  // nothing is taken, and nothing changed
};
struct TakeOverEnd {
  int exit_code = 0;    // sysexits.h; 0: all that waited was taken
  std::string error;    // nothing, or nothing more, was done
  std::string warning;  // of a dry run: why nothing could be taken now
};
// Calls on_message for each as it is done; false: to stop behind it. For root.
TakeOverEnd take_over(const ToolPaths& places, const TakeOverOptions& options,
                      const std::function<bool(const TakenOver&)>& on_message);

}  // namespace postrider::daemon
