// What is done to content in files beside the queue thread, which does not wait for the disk.
#pragma once

#include "base/net/blocking_pool.h"
#include "queue/ledger/effects.h"
#include "queue/spool.h"
#include "queue/writer/inbox.h"

#include <atomic>

namespace postrider::queue {

class BodyWork {
 public:
  BodyWork(Spool& spool, SharedInbox& inbox, Log& log) : spool_(spool), inbox_(inbox), log_(log) {}

  void start(Consumer* consumer);
  void stop();  // checks end; what was not handed out is leased again by the next start
  // Leases go to the consumer. Large content is read once before it goes out.
  void hand_out(Effects& effects);
  void remove(std::vector<std::string> files);
  bool finish_removals();  // false: some files cannot be removed

 private:
  void check_body(Lease lease, std::uint32_t checksum);

  Spool& spool_;
  SharedInbox& inbox_;
  Log& log_;
  Consumer* consumer_ = nullptr;
  BlockingPool removals_{1};  // unlinking a large file takes its time
  std::atomic<bool> ending_{false};
  std::optional<BlockingPool> checks_;  // of large bodies, before delivery gets them
};

}  // namespace postrider::queue
