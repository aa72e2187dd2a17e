// Mail that `sendmail` left while the daemon was down: <spool>/drop, where every local user may
// write but not look (mode 3733, so that files get the folder's group). Each message is one file,
// made complete under a temporary name and then renamed. What lies there is hostile (attacks.md
// I12): it is opened without following or waiting, must be a plain file with one name, is read as
// its owner's mail, and becomes NAME.bad if it is not understood.
//
// Files of a user who is at a limit wait there, and nobody else's do for them; users take turns,
// each with all ids that subuid(5) lends to the same one.
//
//   msg.RANDOM --rename, sync--> taken.ID.RANDOM --accept--> unlinked, sync --> ID forgotten
//
// ID, with the owner's uid, is stored in the transaction that accepts the message. So whenever we
// are stopped, and whether or not the file can be removed, a message is accepted once.
#pragma once

#include "base/log.h"
#include "base/net/loop.h"
#include "base/result.h"
#include "base/time.h"
#include "daemon/pickup/drop_counts.h"
#include "daemon/pickup/submit_server.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace postrider {
class BlockingPool;
}

namespace postrider::daemon {

class DropFolder {
 public:
  // Until the next look, if nothing is put there before, and at a file that waits for ours.
  struct Rests {
    Duration usual{std::chrono::seconds(60)};
    Duration short_one{std::chrono::seconds(2)};  // after trouble that may pass
    DropCounts::Limits counts;
  };
  // Makes the folder, or refuses one that is not ours. Lets other users pass through the spool.
  static Result<std::unique_ptr<DropFolder>> open(const std::string& spool, Loop& loop,
                                                  BlockingPool& pool, queue::Queue& queue,
                                                  const Clock& clock, Log& log,
                                                  SubmitSettings settings);
  static Result<std::unique_ptr<DropFolder>> open(const std::string& spool, Loop& loop,
                                                  BlockingPool& pool, queue::Queue& queue,
                                                  const Clock& clock, Log& log,
                                                  SubmitSettings settings, const Rests& rests);
  ~DropFolder();
  void start();  // takes what lies there, then watches; on the loop's thread, or before it runs
  void stop();   // on the loop's thread
  void reconfigure(SubmitSettings settings);  // on the loop's thread
  // Tells why mail of that user was not taken when it was looked at last; empty: nothing is known.
  // To be called on any thread, also when this is gone.
  std::function<std::string(std::uint64_t uid)> reasons() const;

 private:
  struct State;
  explicit DropFolder(std::shared_ptr<State> state);
  std::shared_ptr<State> state_;
};

}  // namespace postrider::daemon
