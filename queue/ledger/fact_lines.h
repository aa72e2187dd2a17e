// The facts of each transaction: one for each thing that an application may hear of.
#pragma once

#include "queue/ledger/changing.h"

namespace postrider::queue {

// In the transaction; nothing if no facts are wanted.
Result<void> state_fact(QueueState& state, std::string_view line, Effects& effects);
// With the sender's own references to the message.
Result<void> state_fact(QueueState& state, const LogEvent& line, const mail::Message& message,
                        Effects& effects);
Result<void> state_accepted(QueueState& state, const Submission& submission, Effects& effects);
Result<void> state_results(QueueState& state, const Record& record, const mail::Message& message,
                           Effects& effects);
// Of leased ones that an administrator removed: now it is known that they came to no other end.
Result<void> state_removed(QueueState& state, const Record& record, const Leased& leased,
                           Effects& effects);
// Requires: what it concerns is picked, and not changed yet.
Result<void> state_change(QueueState& state, const ChangeRun& run, Effects& effects);

}  // namespace postrider::queue
