// Mail that the daemon writes of itself, beside the notices that belong to a record: daily reports
// to other domains, the digest of notices that could not be delivered.
#pragma once

#include "base/log.h"
#include "base/net/blocking_pool.h"
#include "base/net/loop.h"
#include "base/net/task.h"
#include "delivery/reports/report_mail.h"
#include "mailauth/signer.h"
#include "queue/queue.h"

#include <memory>

namespace postrider::daemon {

// What it goes by. All outlive the mail.
struct OwnMail {
  queue::Queue* queue = nullptr;
  Loop* home = nullptr;  // where it is submitted
  BlockingPool* pool = nullptr;
  Log* log = nullptr;
  std::shared_ptr<const mailauth::LiveSigner> signer;  // null: not signed
};

// Signs it, if notices are signed, and gives it into custody. Its content is in memory.
Task<Result<void>> submit_own(OwnMail by, queue::Submission submission);

// How reports of a day are sent by it. The clock outlives the post.
delivery::ReportPost report_post(OwnMail by, const Clock& clock);

}  // namespace postrider::daemon
