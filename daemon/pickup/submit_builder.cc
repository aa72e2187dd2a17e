#include "daemon/pickup/submit_builder.h"

#include "base/text.h"
#include "mail/address.h"
#include "mail/hops.h"

#include <set>
#include <sysexits.h>

namespace postrider::daemon {

namespace {

constexpr std::size_t kInMemory = 64U << 10U;

// For the From field, so nothing but an address may come through; a login name may be none.
std::string author_of(const std::string& given, std::uint64_t uid, const std::string& origin) {
  if (auto mailbox = mail::parse_mailbox(given, true))
    return std::move(*mailbox);
  return "uid" + std::to_string(uid) + "@" + origin;
}

// Mail of this machine: the sender is masqueraded too.
Result<SubmissionBuilder::Rewritten> rewrite(const mail::Rewriter& rewriter,
                                             SubmissionBuilder::Rewritten fresh) {
  auto& envelope = fresh.envelope;
  auto sender = rewriter.sender(envelope.sender);
  if (!sender)
    return sender.error();
  envelope.sender = rewriter.masqueraded(*sender);
  if (!envelope.sender.empty())
    fresh.author = rewriter.masqueraded(fresh.author);
  std::set<std::string> known;  // two names may be one now
  std::vector<mail::Recipient> recipients;
  for (auto& recipient : envelope.recipients) {
    if (auto changed = rewriter.apply(recipient); !changed)
      return changed.error();
    if (known.insert(recipient.address).second)
      recipients.push_back(std::move(recipient));
  }
  envelope.recipients = std::move(recipients);
  return fresh;
}

}  // namespace

SubmissionBuilder::SubmissionBuilder(queue::Queue& queue, const SubmitSettings& settings,
                                     SubmitHeader header, mail::Envelope envelope,
                                     std::uint64_t uid, mail::MessageId id)
    : queue_(queue),
      hostname_(settings.hostname),
      rewriter_(settings.rewriter),
      header_(std::move(header)),
      envelope_(std::move(envelope)),
      uid_(uid),
      id_(id) {
  header_.author = author_of(header_.author, uid_, settings.origin);
  content_.set_rewriter(rewriter_);
  begin_signing(settings);
}

void SubmissionBuilder::begin_signing(const SubmitSettings& settings) {
  if (settings.signer && settings.filters.empty())
    signer_ = settings.signer->now_for(mailauth::SigningRole::sendmail);
  if (signer_)
    hasher_ = std::make_unique<mailauth::MessageHasher>(
        mailauth::MessageHasher::Wishes{.body = signer_->body_form()});
}

// What came to bytes_ since.
void SubmissionBuilder::hash_fresh() {
  if (hasher_)
    hasher_->feed(std::string_view(bytes_).substr(hashed_));
  hashed_ = bytes_.size();
}

// Whose From has no key of ours needs no place on the pool.
void SubmissionBuilder::finish_signing(const mail::Content& content) {
  if (!hasher_)
    return;
  hasher_->finish();
  if (!hasher_->header().too_large())
    signed_header_ = content.trace + std::string(hasher_->header_section());
  if (!signer_->has_key_for(signed_header_))
    signer_.reset();
}

Result<void> SubmissionBuilder::sign(queue::Submission& submission, Log& log) const {
  const auto& message = *submission.message;
  auto about = signer_->sign(signed_header_, hasher_->body_digest(), message.received);
  if (!about)
    return about.error().during("sign the message");
  mailauth::log_signing(log, message.id, *about);
  if (!about->fields.empty())
    submission.message = mailauth::with_fields_on_top(message, about->fields);
  return {};
}

std::function<Result<SubmissionBuilder::Rewritten>()> SubmissionBuilder::envelope_question() const {
  return [rewriter = rewriter_, fresh = Rewritten{envelope_, header_.author}] {
    return rewrite(*rewriter, fresh);
  };
}

Result<void> SubmissionBuilder::move_to_file() {
  if (!file_.is_open()) {
    auto file = queue_.create_body(id_);
    if (!file)
      return file.error();
    file_ = std::move(*file);
  }
  auto appended = file_.append(bytes_);
  bytes_.clear();
  hashed_ = 0;
  return appended;
}

Result<void> SubmissionBuilder::spill() {
  hash_fresh();
  if (bytes_.size() > kInMemory)
    return move_to_file();
  return {};
}

Result<queue::Submission> SubmissionBuilder::finish(TimePoint now) {
  hash_fresh();
  is_refused_ = mail::goes_in_circle(content_.header().received_fields);
  if (is_refused_)
    return Error(Errc::refused, mail::kTooManyHops);
  is_about_tables_ = true;
  if (content_.trouble())
    return content_.trouble()->during("rewrite the header");
  if (rewritten_) {
    if (!*rewritten_)
      return rewritten_->error().during("rewrite the envelope");
    envelope_ = std::move((*rewritten_)->envelope);
    header_.author = std::move((*rewritten_)->author);
  }
  is_about_tables_ = false;
  if (file_.is_open() && !bytes_.empty())
    if (auto moved = move_to_file(); !moved)
      return moved.error();
  const auto& facts = content_.body();
  LocalTrace trace{uid_, hostname_, header_.author, header_.full_name, id_, now};
  auto message = std::make_shared<mail::Message>();
  message->id = id_;
  message->received = now;
  message->envelope = std::move(envelope_);
  if (facts.has_8bit && message->envelope.body == mail::BodyType::seven_bit)
    message->envelope.body = mail::BodyType::eight_bit_mime;
  if (content_.header().tls_not_required)
    message->envelope.tls = mail::TlsWish::optional;
  auto& content = message->content;
  content.trace = local_trace(trace, content_.header());
  finish_signing(content);
  content.size = facts.size;
  content.has_8bit = facts.has_8bit;
  content.has_8bit_header = facts.has_8bit_header || !is_ascii(content.trace);
  content.longest_line = facts.longest_line;
  content.ends_with_crlf = facts.ends_with_crlf;
  if (file_.is_open())
    content.file = file_.name();
  else
    content.bytes = std::make_shared<const std::string>(std::move(bytes_));
  message->precedence = content_.header().precedence.value_or(mail::Precedence::none);
  message->origin = {"local uid " + std::to_string(uid_), "local"};
  message->origin.trace_parent =
      header_.trace_parent.empty() ? content_.trace_parent() : header_.trace_parent;
  queue::Submission submission;
  submission.message = std::move(message);
  submission.body = std::move(file_);
  return submission;
}

std::optional<SubmitAnswer> refusal_of(queue::Admission admission) {
  SubmitAnswer answer;
  answer.exit_code = EX_TEMPFAIL;
  switch (admission) {
    case queue::Admission::open:
      return std::nullopt;
    case queue::Admission::disk_low:
      answer.error = "the disk of the mail queue is nearly full; try again later";
      break;
    case queue::Admission::failed:
      answer.error = "the mail queue cannot store mail now; try again later";
      break;
    case queue::Admission::stopping:
      return SubmitAnswer{};
  }
  return answer;
}

std::string SubmissionBuilder::message_id() const {
  return content_.header().has_message_id ? content_.message_id()
                                          : mail::make_message_id(id_, hostname_);
}

LogEvent accepted_line(const mail::Message& message, std::string_view message_id, std::uint64_t uid,
                       const char* way) {
  const auto& envelope = message.envelope;
  LogEvent event(Level::info, "accepted", to_string(message.id));
  event.add("client", "local").add("protocol", way).add("from", envelope.sender);
  event.add("nrcpt", std::to_string(envelope.recipients.size()));
  event.add("to", envelope.recipients.front().address);
  event.add("size", std::to_string(message.content.size)).add("message_id", message_id);
  event.add("uid", std::to_string(uid));
  if (!message.origin.trace_parent.empty())
    event.add("traceparent", message.origin.trace_parent);
  return event;
}

}  // namespace postrider::daemon
