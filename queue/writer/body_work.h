// What is done to content in files beside the queue thread, which does not wait for the disk.
#pragma once

#include "base/net/blocking_pool.h"
#include "queue/ledger/effects.h"
#include "queue/spool.h"
#include "queue/writer/inbox.h"

#include <atomic>
#include <memory>
#include <mutex>
#include <unordered_map>

namespace postrider::queue {

// A Consumer before the consumer: what is being checked is not in delivery's hands yet, and can be
// taken back.
class BodyWork final : public Consumer {
 public:
  BodyWork(Spool& spool, SharedInbox& inbox, Log& log) : spool_(spool), inbox_(inbox), log_(log) {}

  void start(Consumer* consumer);
  void stop();  // checks end; what was not handed out is leased again by the next start
  // Leases go to the consumer. Large content is read once before it goes out.
  void hand_out(Effects& effects);
  void take(std::vector<Lease> leases) override { consumer_->take(std::move(leases)); }
  void revoke(std::vector<Revocation> wanted, UnderWay answer) override;
  void ask(std::vector<Revocation> wanted, UnderWay answer) override;
  void expire(std::vector<Overdue> late) override;
  void remove(std::vector<std::string> files);
  bool finish_removals();  // false: some files cannot be removed

 private:
  void check(Lease lease, std::uint32_t checksum);
  void check_body(std::uint64_t number, const mail::Message& message, std::uint32_t checksum);
  void take_back(Lease& lease, Revocation& wanted);

  Spool& spool_;
  SharedInbox& inbox_;
  Log& log_;
  Consumer* consumer_ = nullptr;
  BlockingPool removals_{1};  // unlinking a large file takes its time
  std::atomic<bool> ending_{false};
  std::mutex mutex_;
  std::unordered_map<std::uint64_t, Lease> checking_;  // under the mutex
  std::uint64_t last_check_ = 0;
  std::optional<BlockingPool> checks_;  // of large bodies, before delivery gets them
};

}  // namespace postrider::queue
