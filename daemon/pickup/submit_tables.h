// What rewriting asks of tables for a message of this machine. What memory cannot answer is asked
// on threads of its own: the loop that the message comes by has other work. Bounded in number and
// time, and one of a user's at a time, as the questions of SMTP clients are (smtpd/lookups.h).
#pragma once

#include "daemon/pickup/submit_builder.h"
#include "smtpd/lookups.h"

#include <optional>

namespace postrider::daemon {

class SubmitTables {
 public:
  SubmitTables();

  // A part of the content.
  Task<Result<void>> feed(Loop& loop, SubmissionBuilder& builder, std::string_view raw);
  // After the last.
  Task<Result<queue::Submission>> finish(Loop& loop, SubmissionBuilder& builder, TimePoint now);

 private:
  template <class T>
  Task<Result<T>> ask(Loop& loop, std::uint64_t uid, std::function<Result<T>()> question);
  Task<void> rewrite_header(Loop& loop, SubmissionBuilder& builder);

  smtpd::Lookups lookups_;
};

}  // namespace postrider::daemon
