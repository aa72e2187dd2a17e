// What is answered to whoever left a file in the drop folder that can never be taken. He heard from
// `sendmail` that it is in custody, so he hears of its end as of any other mail's.
#pragma once

#include "base/random.h"
#include "base/time.h"
#include "daemon/pickup/drop_file.h"
#include "daemon/pickup/submit_server.h"
#include "queue/queue.h"

#include <optional>

namespace postrider::daemon {

// The notice, to be stored as any submission; nullopt: nobody is to be told (NOTIFY=NEVER, or a
// null sender, and no administrator hears of notices that are lost). Reads the content. Blocking.
std::optional<queue::Submission> return_to_sender(const DropFile& unfit, const Error& why,
                                                  const SubmitSettings& settings,
                                                  mail::MessageId id, Random& random,
                                                  TimePoint now);

}  // namespace postrider::daemon
