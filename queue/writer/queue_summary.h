// The queue, or what of it matches a filter, in groups: see queue/summary.h.
#pragma once

#include "queue/store/pause_set.h"
#include "queue/store/reader.h"

namespace postrider::queue {

class QueueSummary {
 public:
  // now: queue time.
  QueueSummary(Reader& reader, const Leases& leases, std::int64_t now)
      : reader_(reader), leases_(leases), now_(now) {}

  // A part of a summary, in one transaction.
  Result<void> go_on(Summarizing& summarizing, const PreparedFilter& filter);

 private:
  Result<void> begin(Summarizing& summarizing, const PreparedFilter& filter);
  Result<void> add_range(Summarizing& summarizing, const PreparedFilter& filter, IdRange range);
  Result<void> add_candidates(Summarizing& summarizing, const PreparedFilter& filter);
  Result<void> add_waiting(Summarizing& summarizing, const WaitingEntry& entry);
  std::string_view reason_of(Summarizing& summarizing, const WaitingEntry& entry) const;
  static std::string_view unheard(Summarizing& summarizing, std::string_view place,
                                  std::string_view address);

  Reader& reader_;
  const Leases& leases_;
  const std::int64_t now_;
  PauseSet pauses_;
  mail::MessageId client_of_;  // whose client it is
  std::string client_;
};

// The encoded reason why a recipient waits: its own, or that of its site in trouble.
std::string_view encoded_reason(const WaitingEntry& entry, std::int64_t now);

}  // namespace postrider::queue
