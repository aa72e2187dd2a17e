// The tools' way to the queue: through the control socket of the running daemon or, when it is
// down, by opening the queue under the daemon's lock and serving the same request in this process.
#pragma once

#include "daemon/protocol/control_client.h"
#include "daemon/protocol/tool_paths.h"

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace postrider::daemon {

// Calls on_line for each line of the answer as it comes, without the end; blocks. on_line gives
// false to stop early (nobody reads our output any more). Failures of the way become an end with a
// sentence: 77 not permitted, 75 the daemon is starting or stopping, 69 no queue, 74, 76.
ControlEnd administrate(const ToolPaths& places, const ControlRequest& request,
                        const OnLine& on_line);

// The spool belongs to the daemon's user, who may be an attacker: nothing in it leads root
// anywhere. For root: opens it, where no link but root's is followed, as the folder of the user
// that the places name, and becomes that user for good; root stays root only if they name none. For
// others: it must be their own. `opened` is called in between, for tests. nullopt: go on.
std::optional<ControlEnd> enter_spool(const ToolPaths& places,
                                      const std::function<void()>& opened = {});

// `postrider queue salvage`: what it could read is in the queue now; the text says what was lost.
// Refuses while the daemon runs. 0: nothing was lost or held; 75: something was; 69, 71, 77:
// nothing was done.
Report salvage_queue(const ToolPaths& places);

// What became of one file of an import.
struct ImportedFile {
  enum class End : std::uint8_t { imported, known, refused, failed };
  std::string file;
  std::string id;  // empty: not known
  End end = End::failed;
  std::string reason;  // of refused and failed
};
struct Imported {
  int exit_code = 0;  // sysexits.h; not all were imported
  std::string error;  // nothing was done
  std::vector<ImportedFile> files;
};
// `postrider queue import`: messages that were exported, each under its id. Refuses while the
// daemon runs. The files are opened with the caller's rights; a link is not followed as the last
// part of a name.
Imported import_messages(const ToolPaths& places, const std::vector<std::string>& files);

}  // namespace postrider::daemon
