// What follows from a transaction.
#pragma once

#include "base/log.h"
#include "queue/fact.h"
#include "queue/leases.h"
#include "queue/store/store.h"

namespace postrider::queue {

// What the file of a leased message must contain.
struct BodyCheck {
  mail::MessageId id;
  std::uint32_t checksum = 0;
};

// What follows from a transaction once it is committed, or must be undone if it is not.
struct Effects {
  std::vector<Lease> leases;           // to delivery; taken back if the commit fails
  std::vector<Overdue> overdue;        // what delivery is to end, as far as it waits
  std::vector<BodyCheck> checks;       // of leases whose content is in a file: before they go out
  std::vector<Leases::Node> ended;     // put back if the commit fails
  std::vector<std::string> files;      // bodies that have no row any more
  std::vector<mail::MessageId> gone;   // removed by an administrator
  std::vector<mail::MessageId> made;   // of submissions; removed again if the commit is in doubt
  std::vector<mail::MessageId> moved;  // leased ones that left `incoming`
  // Leases under which large ones land.
  std::vector<std::pair<mail::MessageId, std::uint64_t>> landing;
  struct Noted {
    mail::MessageId id;
    std::uint64_t lease = 0;
    std::vector<std::uint32_t> removed;
  };
  std::vector<Noted> removed;             // what was noted as removed of leased ones before
  std::vector<LogEvent> told;             // once it is committed
  std::vector<Fact> facts;                // to the witness, then too
  std::optional<PauseSet> pauses_before;  // put back if the commit fails
  Queue::Counters counted;
};

}  // namespace postrider::queue
