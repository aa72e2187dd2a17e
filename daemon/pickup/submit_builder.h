// One local message on its way into custody, from the submit socket or a file of the drop folder.
#pragma once

#include "daemon/pickup/submit_content.h"
#include "daemon/pickup/submit_server.h"
#include "daemon/protocol/submit_protocol.h"
#include "mailauth/message_hasher.h"
#include "mailauth/signer.h"
#include "queue/queue.h"

#include <functional>
#include <memory>
#include <optional>
#include <string_view>

namespace postrider::daemon {

// On the loop's thread: a large body goes to its file as it comes. What rewriting asks of tables is
// answered from memory or, where waits_for_tables() says so, by somebody who may wait for them
// (daemon/pickup/submit_tables.h); nothing else is done meanwhile. In this order: read() and
// spill() for each part, end(), finish().
class SubmissionBuilder {
 public:
  SubmissionBuilder(queue::Queue& queue, const SubmitSettings& settings, SubmitHeader header,
                    mail::Envelope envelope, std::uint64_t uid, mail::MessageId id);
  void read(std::string_view raw) { content_.feed(raw, bytes_); }
  Result<void> spill();
  void end() { content_.finish(bytes_); }
  Result<queue::Submission> finish(TimePoint now);
  // Whether sign() has anything to do, once finish() has succeeded.
  bool is_to_be_signed() const { return signer_ != nullptr; }
  // On top of what finish() gave. Slow: on the pool. What cannot be signed for its own sake passes
  // as it is, and the log says so; an error is about our keys: not now.
  Result<void> sign(queue::Submission& submission, Log& log) const;
  // That it failed because of a table of ours: mended, the same message is taken.
  bool is_about_tables() const { return is_about_tables_; }
  // That it failed because of what the message is: it can never be taken.
  bool is_refused() const { return is_refused_; }
  mail::MessageId id() const { return id_; }
  std::uint64_t uid() const { return uid_; }
  std::string hand_over_id() const { return daemon::hand_over_id(header_, uid_); }
  const SubmitHeader& header() const { return header_; }

  // After read() and end(), of the header.
  bool waits_for_tables() const { return content_.waits_for_tables(); }
  auto header_question() const { return content_.header_question(); }
  void header_rewritten(Result<std::string> fresh) { content_.rewritten(std::move(fresh), bytes_); }
  // Between end() and finish(), of the envelope: what is asked, and what was said.
  struct Rewritten {
    mail::Envelope envelope;
    std::string author;
  };
  bool rewrites_envelope() const { return rewriter_ && !content_.trouble(); }
  std::function<Result<Rewritten>()> envelope_question() const;
  void envelope_rewritten(Result<Rewritten> fresh) { rewritten_ = std::move(fresh); }
  // After finish(): the header's Message-ID, also when it is ours.
  std::string message_id() const;

 private:
  Result<void> move_to_file();
  void begin_signing(const SubmitSettings& settings);
  void hash_fresh();
  void finish_signing(const mail::Content& content);

  queue::Queue& queue_;
  std::string hostname_;
  std::shared_ptr<const mail::Rewriter> rewriter_;
  SubmitHeader header_;
  mail::Envelope envelope_;
  std::uint64_t uid_;
  mail::MessageId id_;
  SubmitContent content_;
  std::string bytes_;
  std::size_t hashed_ = 0;  // of bytes_
  queue::BodyFile file_;
  std::optional<Result<Rewritten>> rewritten_;
  bool is_about_tables_ = false;
  bool is_refused_ = false;
  std::shared_ptr<const mailauth::Signer> signer_;  // null: not signed
  std::unique_ptr<mailauth::MessageHasher> hasher_;
  std::string signed_header_;
};

// The reply to the submitter while the queue takes nothing; nullopt: it takes mail. An empty reply
// (no id and no error) while we are stopping: the message is then left in the drop folder.
std::optional<SubmitAnswer> refusal_of(queue::Admission admission);
// Made before the message is stored, written once it is. message_id: the header's field, also when
// it is ours.
LogEvent accepted_line(const mail::Message& message, std::string_view message_id, std::uint64_t uid,
                       const char* way);

}  // namespace postrider::daemon
