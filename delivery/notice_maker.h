// The notices that a record of the queue brings with it: made at once where all is at hand, on the
// pool where the original is to be read or a signature to be made.
#pragma once

#include "base/net/blocking_pool.h"
#include "delivery/dispatch_context.h"
#include "queue/queue.h"

#include <memory>
#include <string>

namespace postrider::delivery {

// On the dispatcher's loop.
class NoticeMaker {
 public:
  NoticeMaker(DispatchContext& context, BlockingPool& pool) : context_(context), pool_(pool) {}

  // Whether the record is to have notices, and they are work for the pool.
  bool takes_long(const queue::Lease& lease, const queue::Record& record) const;
  // Adds the notices to the record, which is to live as long as this goes on.
  Task<void> make(const queue::Lease& lease, queue::Record& record);
  // Requires: it does not take long.
  void make_now(const queue::Lease& lease, queue::Record& record);

 private:
  Task<std::string> read_original(std::shared_ptr<const mail::Message> message);

  DispatchContext& context_;
  BlockingPool& pool_;
};

}  // namespace postrider::delivery
