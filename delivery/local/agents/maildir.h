// Delivery into a maildir: written to tmp, synced, renamed to new, the folder synced. A crash
// leaves a file in tmp, which mail readers sweep. Blocks.
#pragma once

#include "delivery/local/agents/local_target.h"
#include "mail/outcome.h"

namespace postrider::delivery {

// Honours the Maildir++ quota (maildir_quota.h): a full mailbox is 4.2.2 and tried again, a message
// that can never fit is 5.2.2.
mail::Outcome deliver_to_maildir(const LocalJob& job, const LocalBody& body);

}  // namespace postrider::delivery
