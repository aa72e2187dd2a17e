// Messages that were lost behind their content: the host may have them already, and may be silent
// there once more.
#pragma once

#include "delivery/dispatch_context.h"
#include "delivery/lease_book.h"
#include "delivery/site.h"

#include <cstdint>
#include <unordered_set>

namespace postrider::delivery {

// On the dispatcher's loop.
class DoubtfulJobs {
 public:
  DoubtfulJobs(DispatchContext& context, LeaseBook& leases) : context_(context), leases_(leases) {}

  void note_end(const JobEnd& end);
  // Whether the message is one of them; asked once, at its next attempt.
  bool take(mail::MessageId id);
  // The site's next job is one for which there is no connection now: it waits, or after a while,
  // where others like it hang, is not begun at all.
  void stand_back(Site& site);
  // One of their kind has ended.
  void bring_back(Site& site);

 private:
  void put_off(const Site& site, const Job& job);

  DispatchContext& context_;
  LeaseBook& leases_;
  std::unordered_set<std::int64_t> ids_;
};

}  // namespace postrider::delivery
