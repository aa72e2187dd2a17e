// The filters of mail that programs of this machine hand in: those milters that are asked about it,
// and our signature behind them. Each message is shown to them as a whole, once it is complete and
// before it is in custody.
#pragma once

#include "base/net/loop.h"
#include "daemon/pickup/submit_server.h"
#include "queue/queue.h"
#include "smtpd/filter/chain.h"

#include <cstdint>
#include <list>

namespace postrider::daemon {

class SubmitFilters {
 public:
  // All outlive it. On the loop's thread.
  SubmitFilters(Loop& loop, queue::Queue& queue, const Clock& clock, Log& log);

  // Go_on: the submission is what the filters made of it. Refuse or discard: it is not to be
  // stored. An error: it cannot be stored now.
  Task<Result<smtpd::filter::Verdict>> pass(const SubmitSettings& settings, std::uint64_t uid,
                                            queue::Submission& submission);
  // What filters are waited for ends at once, and they are asked no more.
  void give_up();

 private:
  struct Pass;
  Loop& loop_;
  queue::Queue& queue_;
  const Clock& clock_;
  Log& log_;
  std::list<smtpd::filter::Chain*> open_;
  bool has_given_up_ = false;
};

}  // namespace postrider::daemon
