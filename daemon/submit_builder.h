// One local message on its way into custody, from the submit socket or a file of the drop folder.
#pragma once

#include "daemon/submit_content.h"
#include "daemon/submit_protocol.h"
#include "daemon/submit_server.h"
#include "queue/queue.h"

#include <string_view>

namespace postrider::daemon {

// On the loop's thread: a large body goes to its file as it comes.
class SubmissionBuilder {
 public:
  SubmissionBuilder(queue::Queue& queue, const SubmitSettings& settings, SubmitHeader header,
                    mail::Envelope envelope, std::uint64_t uid, mail::MessageId id);
  Result<void> feed(std::string_view raw);
  Result<queue::Submission> finish(TimePoint now);
  // That it failed because of a table of ours: mended, the same message is taken.
  bool is_about_tables() const { return is_about_tables_; }
  mail::MessageId id() const { return id_; }

 private:
  Result<void> move_to_file();
  Result<void> rewrite_envelope();

  queue::Queue& queue_;
  std::string hostname_;
  std::shared_ptr<const mail::Rewriter> rewriter_;
  SubmitHeader header_;
  mail::Envelope envelope_;
  std::uint64_t uid_;
  mail::MessageId id_;
  SubmitContent content_;
  std::string bytes_;
  queue::BodyFile file_;
  bool is_about_tables_ = false;
};

// What the submitter is told when the queue takes nothing; nullopt: it does. No answer at all (no
// id and no error) when we are stopping: the message is then left in the drop folder.
std::optional<SubmitAnswer> refusal_of(queue::Admission admission);
void log_submission(Log& log, const mail::Message& message, std::uint64_t uid, const char* way);

}  // namespace postrider::daemon
