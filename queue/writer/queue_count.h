// How much is in the queue: all of it, or what matches a filter.
#pragma once

#include "queue/store/reader.h"

namespace postrider::queue {

class QueueCount {
 public:
  // now: queue time.
  QueueCount(Reader& reader, const Leases& leases, std::int64_t now)
      : reader_(reader), leases_(leases), now_(now) {}

  // A part of a count, in one transaction.
  Result<void> go_on(Counting& counting, const PreparedFilter& filter);
  Result<Totals> totals(TimePoint wall);

 private:
  // Of waiting mail, by status.
  struct Tally {
    std::int64_t messages[4] = {}, recipients[4] = {}, bytes = 0;
  };
  Result<void> begin(Counting& counting, const PreparedFilter& filter);
  Result<void> count_incoming(Counting& counting, const PreparedFilter& filter);
  Result<void> count_by_status(Counting& counting);
  Result<void> count_of_domain(Counting& counting, const std::string& domain);
  Result<void> count_range(Counting& counting, const PreparedFilter& filter, IdRange range);
  Result<Tally> tally();
  Result<void> count_ages(Totals& totals, std::int64_t minute);

  Reader& reader_;
  const Leases& leases_;
  const std::int64_t now_;
};

}  // namespace postrider::queue
