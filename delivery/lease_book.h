// The leases in hand: each recipient of a lease ends exactly once, settled or put back, and each
// lease is answered with one last record, with the notices that belong to it.
//
//   open() --> settle() | put_back(), for each recipient --> close(): the record goes to the queue
//
// What has ended is recorded within a second, whatever the other recipients of the lease do. A
// message for very many is leased in parts: what ends of them in the same part of a second shares
// its notices, so that the sender does not hear of each part.
#pragma once

#include "base/net/blocking_pool.h"
#include "base/net/deadline.h"
#include "delivery/dispatch_context.h"
#include "delivery/job/job.h"
#include "delivery/notice_maker.h"
#include "delivery/record_batch.h"
#include "delivery/retry_times.h"
#include "delivery/site_deferrals.h"
#include "queue/queue.h"

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace postrider::delivery {

// Its sender wants it back rather than delivered by now (mode R of RFC 2852).
bool is_to_be_returned(const mail::Message& message, TimePoint now);

class LeaseBook {
 public:
  struct Counts {  // recipients, since start
    std::uint64_t delivered = 0, deferred = 0, bounced = 0;
  };
  // Recipients who wait for their turn in the hands of parts of the dispatcher, and are to leave.
  struct Wanted {
    std::unordered_map<std::uint64_t, queue::Revocation*> leases;
    std::function<void(const Job&)> end;  // how they leave
    bool has_any_of(const Job& job) const { return leases.contains(job.lease); }
  };
  // What was known of recipients whose time is over, by message and recipient.
  using LastKnown =
      std::unordered_map<std::int64_t, std::unordered_map<std::uint32_t, mail::Outcome>>;

  // on_flushed: called when records have gone to the queue.
  LeaseBook(DispatchContext& context, BlockingPool& pool, std::function<void()> on_flushed)
      : context_(context), notices_(context, pool), records_(context, std::move(on_flushed)) {}

  std::uint64_t open(queue::Lease lease);
  // An attempt for some recipients of the lease begins.
  void note_attempt(std::uint64_t handle);
  // A lease that asks for no attempt: all its recipients end as its reason says.
  void give_up(std::uint64_t handle);
  // One mailbox named twice goes once: the second ends as the first does.
  void add_twin(std::uint64_t handle, std::uint32_t first, std::uint32_t index);

  // again_within: where the schedule would wait longer.
  void settle(std::uint64_t handle, std::uint32_t index, mail::Outcome outcome,
              std::optional<Duration> again_within = {}, std::uint64_t site = 0);
  // Without a conversation: the same end for all recipients of the job, logged.
  void settle_all(const Job& job, const mail::Outcome& outcome,
                  std::optional<Duration> again_within = {});
  void put_back(const Job& job);  // untried
  // The same, and the log, the counters and the facts have it that each waits, and why. tried: the
  // connection that failed was made for it, which is an attempt; its schedule is not touched by it.
  void put_back_deferred(const Job& job, const mail::Outcome& why, bool tried);
  // New messages that the record carries: what an address here sends on.
  void add_onward(std::uint64_t handle, std::vector<queue::Submission> onward);
  // Answers the lease if all its recipients have ended. Requires: called behind each of the above.
  void close(std::uint64_t handle);
  // The leases of these messages that are to be tried. What is wanted is put back.
  Wanted find(std::vector<queue::Revocation>& wanted);
  // Takes what is wanted from these jobs, and leaves in `wanted` what is not among them. What one
  // host has said of it is logged.
  void reclaim(std::deque<Job>& jobs, const Wanted& wanted);
  // The job waits: what is wanted of it is among `wanted` no longer. Returns that.
  std::vector<std::uint32_t> strike_out(const Job& job, const Wanted& wanted) const;
  // The lifetime of these is over.
  void expire(const Job& job, const LastKnown& known);
  void log_attempt(const JobEnd& end, const RecipientEnd& result) const;

  bool has(std::uint64_t handle) const { return in_hand_.contains(handle); }
  const queue::Lease& lease(std::uint64_t handle) const { return in_hand_.at(handle)->lease; }
  SteadyTime taken(std::uint64_t handle) const { return in_hand_.at(handle)->taken; }
  std::size_t size() const { return in_hand_.size(); }
  bool is_settled() const { return in_hand_.empty() && closing_ == 0 && records_.is_empty(); }
  const Counts& counts() const { return counts_; }
  const SiteDeferrals& deferrals() const { return deferrals_; }

 private:
  // There may be others of its message, for other recipients.
  struct InHand {
    queue::Lease lease;
    queue::Record record;
    std::size_t open = 0;  // recipients without a result
    SteadyTime taken;
    bool is_begun = false;          // an attempt of it
    bool is_partly_known = false;   // has results that are soon recorded
    bool is_delivered_to = false;   // has recipients who have it, since that was last recorded
    bool is_soon_recorded = false;  // is in delivered_
    // The same mailbox named again, in another case of its domain: ends with the first one.
    std::unordered_map<std::uint32_t, std::vector<std::uint32_t>> twins;
    RetryTimes retry;
  };

  InHand& in_hand(std::uint64_t handle);
  void expire(InHand& given, std::uint32_t index, std::optional<mail::Outcome> last);
  void record_soon(std::uint64_t handle, InHand& in_hand);
  void record_known();
  void record_part(std::uint64_t handle, InHand& in_hand);
  Task<void> record_part_with_notice(std::shared_ptr<void> alive, std::uint64_t handle,
                                     queue::Record part);
  void flush_later();
  void record_delivered_soon();
  void record_delivered();
  // Of one message: what is recorded together.
  struct Together {
    void add(const queue::Lease& of, queue::Record record);
    queue::Lease lease;  // without recipients
    std::vector<queue::Record> records;
    std::vector<std::uint64_t> open;  // leases that go on
    std::size_t closed = 0;
  };
  void record_together(Together together);
  Task<void> record_with_notices(std::shared_ptr<void> alive, Together together,
                                 queue::Record about);
  void push_all(Together& together, queue::Record about);
  Task<void> close_with_notice(std::shared_ptr<void> alive, std::unique_ptr<InHand> in_hand);

  DispatchContext& context_;
  NoticeMaker notices_;
  std::unordered_map<std::uint64_t, std::unique_ptr<InHand>> in_hand_;
  std::uint64_t last_ = 0;
  RecordBatch records_;
  std::vector<std::uint64_t> partly_known_;      // leases with results to record soon
  std::vector<std::unique_ptr<InHand>> closed_;  // of large messages, to be recorded with others
  std::unique_ptr<Deadline> record_known_;
  std::vector<std::uint64_t> delivered_;  // leases with recipients who have it, to record very soon
  std::unique_ptr<Deadline> record_delivered_;
  std::size_t closing_ = 0;  // records whose notices are being made
  Counts counts_;
  SiteDeferrals deferrals_;
};

}  // namespace postrider::delivery
