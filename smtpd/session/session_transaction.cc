#include "smtpd/session/session_transaction.h"

#include "base/assert.h"
#include "mail/hops.h"
#include "smtpd/session/replies.h"
#include "smtpd/session/sending_rights.h"

#include <algorithm>
#include <utility>

namespace postrider::smtpd {

namespace {

constexpr auto kStorageTrouble = "451 4.3.0 Storage trouble, try again later";

// Chunks smaller than this move no mail to speak of (attacks.md B05).
constexpr std::uint64_t kTinyChunk = 128;

std::size_t octets_of(const mail::Recipient& recipient) {
  return sizeof recipient + recipient.address.capacity() + recipient.original_recipient.capacity();
}

}  // namespace

void SessionTransaction::reset() {
  said_ = Said{};
  phase_ = Phase::none;
}

void SessionTransaction::fail() {
  said_ = Said{};
  phase_ = Phase::failed;
}

Step SessionTransaction::on_mail(std::string_view arguments, const Around& around) {
  const auto& facts = around.facts;
  const auto& policy = *facts.policy;
  const SendingRights rights(facts);
  const bool is_submission = facts.role == Role::submission;
  if (is_submission && facts.client.authenticated.empty())
    if (const auto refusal = rights.refusal_of({}); !refusal.empty())
      return {refusal};
  mail::MailRules rules;
  rules.size_limit = policy.settings().message_size;
  rules.require_tls = facts.tls != nullptr;  // RFC 8689 §4.1: offered under TLS only
  rules.lenient = Policy::may_relay(facts.client);
  rules.origin = policy.origin();
  rules.now = around.conditions.now;
  rules.future_release = facts.future_release();
  auto parsed = mail::parse_mail(arguments, rules);
  if (!parsed)
    return {around.reply.set(parsed.error())};
  if (parsed->by && !policy.settings().deliver_by)
    return {around.reply.set("555 5.5.4 DELIVERBY is not offered here\r\n")};
  if (around.conditions.storage == Storage::no_room)
    return {replies::kNoRoom};
  if (around.conditions.storage == Storage::failed)
    return {around.reply.temporary_failure(kStorageTrouble, facts.id)};
  if (const auto refusal = rights.refusal_of(parsed->sender); !refusal.empty())
    return {refusal};
  Policy::Question question;
  question.kind = Policy::Question::Kind::sender;
  question.is_submission = is_submission;
  question.address = std::move(parsed->sender);
  if (auto answer = policy.judge_now(question))
    return begin(*parsed, *answer, around);
  return look_up(std::move(question), *std::move(parsed), arguments);
}

Step SessionTransaction::begin(mail::MailCommand& mail, Policy::Answer& answer,
                               const Around& around) {
  if (answer.verdict == Policy::Verdict::cannot_tell)
    return {around.reply.temporary_failure("451 4.3.0 Cannot check this sender now",
                                           around.facts.id, std::move(answer.problem))};
  if (answer.verdict != Policy::Verdict::accepted)
    return {around.reply.set(std::move(answer.refusal))};
  const auto release = mail.release.value_or(TimePoint());
  const auto kept_for = std::max<Duration>(release - around.conditions.now, Duration(0));
  if (auto refusal = SendingRights(around.facts).count_message(kept_for); !refusal.empty())
    return {around.reply.set(std::move(refusal))};
  said_ = Said{};
  auto& envelope = said_.envelope;
  envelope.sender = std::move(answer.sender);
  envelope.envelope_id = std::move(mail.envelope_id);
  envelope.ret = mail.ret;
  envelope.body = mail.body;
  envelope.smtputf8 = mail.smtputf8;
  if (mail.require_tls)
    envelope.tls = mail::TlsWish::required;
  said_.declared_size = mail.size.value_or(0);
  phase_ = Phase::sender;
  const auto changed = take_wishes(mail, around, envelope);
  return {changed.empty() ? replies::kSenderOk : changed};
}

std::string_view SessionTransaction::take_wishes(const mail::MailCommand& mail,
                                                 const Around& around, mail::Envelope& envelope) {
  const auto& policy = *around.facts.policy;
  const auto& client = around.facts.client;
  // Mode N of strangers is not kept: a delay of their mail is reported as that of all other mail.
  const bool hears_more = policy.settings().success_notices || Policy::may_relay(client);
  if (const auto& by = mail.by; by && (by->returns || hears_more)) {
    using std::chrono::seconds;
    const auto deadline = around.conditions.now + seconds(by->seconds);
    envelope.deliver_by = mail::DeliverBy{.time = std::chrono::floor<seconds>(deadline),
                                          .returns = by->returns,
                                          .traces = by->traces};
  }
  envelope.release = mail.release.value_or(TimePoint());
  envelope.priority = mail.priority.value_or(0);
  if (envelope.priority <= 0 || Policy::may_relay(client))
    return {};
  // RFC 6710 §5: whom we do not know has no precedence over others.
  envelope.priority = 0;
  return around.reply.set("250 2.3.6 0 is the new priority; a higher one needs authentication\r\n");
}

Step SessionTransaction::on_rcpt(std::string_view arguments, const Around& around) {
  const auto& policy = *around.facts.policy;
  const auto& client = around.facts.client;
  // RFC 5321 §4.5.3.1.8: 100 at least; §4.5.3.1.10: the rest may be sent again.
  if (said_.envelope.recipients.size() >= std::max(policy.settings().recipients, 100U)) {
    if (++said_.recipients_beyond > policy.limits().recipient_overshoot)
      return {replies::kFarTooManyRecipients, Next::hang_up};
    return {replies::kTooManyRecipients};
  }
  if (around.conditions.crowded)
    return {replies::kNoRoom};
  mail::RcptRules rules;
  rules.smtputf8 = said_.envelope.smtputf8;
  rules.lenient = Policy::may_relay(client);
  rules.origin = policy.origin();
  auto recipient = mail::parse_rcpt(arguments, rules);
  if (!recipient) {
    ++said_.recipients_refused;
    return {around.reply.set(recipient.error())};
  }
  policy.limit_notices(client, recipient->notify);
  Policy::Question question;
  question.kind = Policy::Question::Kind::recipient;
  question.may_relay = Policy::may_relay(client);
  question.recipient = *std::move(recipient);
  if (auto answer = policy.judge_now(question))
    return add(question.recipient, *answer, around);
  return look_up(std::move(question), {}, arguments);
}

Step SessionTransaction::add(mail::Recipient& recipient, Policy::Answer& answer,
                             const Around& around) {
  if (answer.verdict != Policy::Verdict::accepted)
    ++said_.recipients_refused;
  switch (answer.verdict) {
    case Policy::Verdict::refused:
      return {around.reply.set(std::move(answer.refusal))};
    case Policy::Verdict::no_relay:
      return {replies::kNoRelay};
    case Policy::Verdict::no_such_user:
      return {replies::kNoSuchUser};
    case Policy::Verdict::circle:
      return {replies::kCircle};
    case Policy::Verdict::cannot_tell:
      return {around.reply.temporary_failure("451 4.3.0 Cannot check this recipient now",
                                             around.facts.id, std::move(answer.problem))};
    case Policy::Verdict::accepted:
      break;
  }
  auto& taken = answer.rewritten ? *answer.rewritten : recipient;
  if (around.facts.policy->would_return(around.facts.client, said_.envelope)) {
    ++said_.recipients_refused;
    return {replies::kNotByReturn};
  }
  if (auto refusal = SendingRights(around.facts).count_recipient(taken.address); !refusal.empty()) {
    ++said_.recipients_refused;
    return {around.reply.set(std::move(refusal))};
  }
  // Two names may be one by now.
  has_added_recipient_ = !answer.rewritten || !mail::has_recipient(said_.envelope, taken.address);
  if (has_added_recipient_) {
    said_.octets += octets_of(taken);
    said_.envelope.recipients.push_back(std::move(taken));
  }
  phase_ = Phase::recipients;
  return {replies::kRecipientOk};
}

void SessionTransaction::take_back_recipient(bool was_added) {
  auto& recipients = said_.envelope.recipients;
  ++said_.recipients_refused;
  if (was_added) {
    said_.octets -= octets_of(recipients.back());
    recipients.pop_back();
  }
  if (recipients.empty())
    phase_ = Phase::sender;
}

Step SessionTransaction::look_up(Policy::Question question, mail::MailCommand mail,
                                 std::string_view argument) {
  pending_ = std::make_unique<Pending>(
      Pending{std::move(question), std::move(mail), std::string(argument)});
  return {{}, Next::look_up};
}

// What nobody knows in time is judged by what was known before, if anything was.
SessionTransaction::LookedUp SessionTransaction::on_looked_up(std::optional<Policy::Answer> answer,
                                                              const Around& around) {
  POSTRIDER_ASSERT(pending_ != nullptr);
  const auto asked = std::exchange(pending_, nullptr);
  if (!answer)
    answer = around.facts.policy->judge_now(asked->question, true);
  if (!answer) {
    answer.emplace();
    answer->problem = "looking it up took too long";
  }
  if (asked->question.kind == Policy::Question::Kind::sender)
    return {begin(asked->mail, *answer, around), "MAIL", std::move(asked->argument)};
  return {add(asked->question.recipient, *answer, around), "RCPT", std::move(asked->argument)};
}

Step SessionTransaction::on_data(std::string_view arguments) {
  if (!arguments.empty())
    return {replies::kNoArguments};
  if (phase_ == Phase::chunks) {
    phase_ = Phase::failed;  // RFC 3030 §3
    return {replies::kNoMixing};
  }
  if (phase_ == Phase::sender)
    return said_.recipients_refused > 0 ? Step{replies::kNoValidRecipients}
                                        : Step{"503 5.5.1 Send RCPT first\r\n"};
  if (said_.envelope.body == mail::BodyType::binary_mime)
    return {replies::kBinaryNeedsBdat};
  return {replies::kSendContent, Next::read_data};
}

// Whatever the answer, the octets that follow belong to the chunk (RFC 3030 §2): they are taken or
// skipped. Where their number is not known, or absurd, only hanging up keeps the two sides in step.
Step SessionTransaction::on_bdat(std::string_view arguments, const Around& around) {
  const auto chunk = mail::parse_bdat(arguments);
  if (!chunk)
    return {around.reply.set(chunk.error()), Next::hang_up};
  if (chunk->size / 2 > around.facts.policy->settings().message_size)
    return {replies::kTooLarge, Next::hang_up};
  chunk_ = *chunk;
  if (phase_ == Phase::sender && said_.recipients_refused > 0)
    return {replies::kNoValidRecipients, Next::skip_chunk};
  if (phase_ == Phase::failed)
    return {"503 5.5.1 The message has failed already; send RSET\r\n", Next::skip_chunk};
  if (phase_ != Phase::recipients && phase_ != Phase::chunks)
    return {"503 5.5.1 Send MAIL and RCPT first\r\n", Next::skip_chunk};
  phase_ = Phase::chunks;
  return {{}, Next::read_chunk};
}

bool SessionTransaction::has_tiny_chunk() const {
  return !chunk_.last && chunk_.size < kTinyChunk;
}

std::string_view SessionTransaction::refusal_of(const ContentSummary& content,
                                                const Around& around) const {
  const auto& policy = *around.facts.policy;
  if (content.too_large)
    return replies::kTooLarge;
  if (content.facts.poisoned() && said_.envelope.body != mail::BodyType::binary_mime)
    return replies::kBadContent;
  if (content.header_too_large)
    return replies::kHeaderTooLarge;
  if (mail::goes_in_circle(content.received_fields, policy.limits().received_fields))
    return replies::kLoop;
  if (content.storage == Storage::no_room)
    return replies::kNoRoom;
  if (content.storage == Storage::failed)
    return around.reply.temporary_failure(kStorageTrouble, around.facts.id);
  return {};
}

}  // namespace postrider::smtpd
