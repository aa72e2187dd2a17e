// Who hears what about a record: failure, delay and success notices, as ordinary messages with a
// null sender that are stored in the same transaction as the record. Of mail that we forwarded it
// is the first sender, not the address that was made of it
// (delivery/local/addresses/forwarded_sender.h).
#pragma once

#include "base/log.h"
#include "base/random.h"
#include "delivery/delivery_settings.h"
#include "delivery/double_bounces.h"
#include "delivery/job/queue_port.h"

#include <string_view>

namespace postrider::delivery {

// What is quoted at most, from a body in a file.
inline constexpr std::uint64_t kMostQuoted = 64U << 10U;

struct NoticeContext {
  const DeliverySettings& settings;
  QueuePort& custody;
  Log& log;
  Random& random;
  TimePoint now;
  DoubleBounces& double_bounces;
};

// Whether the record asks for any notice: then its original is needed.
bool needs_notice(const queue::Lease& lease, const queue::Record& record);

// The same for what became of one of them.
bool needs_notice(const queue::Lease& lease, const queue::Record::Result& result);

// Appends to record.notices; several recipients share one notice. NOTIFY is respected (RFC 3461
// §5.2); there is never a notice about a message with a null sender, except, if so configured, one
// to the administrator's address, of which there are few (double_bounces.h; attacks.md M03, M06).
void add_notices(const queue::Lease& lease, std::string_view original, queue::Record& record,
                 NoticeContext context);

}  // namespace postrider::delivery
