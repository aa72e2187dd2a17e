#include "delivery/notices.h"

#include "base/text.h"
#include "delivery/delivery_log.h"
#include "delivery/local/agents/command_exit.h"
#include "mail/header.h"
#include "mail/notice.h"

#include <algorithm>

namespace postrider::delivery {

namespace {

using mail::Message;
using mail::NoticeKind;
using mail::NoticeRecipient;
using mail::Outcome;
using mail::Verdict;
using queue::Lease;
using queue::Record;

using Recipients = std::vector<NoticeRecipient>;

const mail::Recipient& recipient_of(const Lease& lease, std::uint32_t index) {
  return lease.message->envelope.recipients[index];
}

// RFC 3461 §5.2.2, §5.2.3: success is ours to tell when we delivered, or when the next host does
// not understand the wish.
bool tells_success(const mail::Recipient& recipient, const Outcome& outcome) {
  if (outcome.onward == Outcome::Onward::forwarded)
    return false;
  return recipient.notify.success() && outcome.verdict == Verdict::delivered &&
         (outcome.stage == mail::Stage::local || outcome.relayed_to_non_dsn);
}

bool may_hear(const mail::Recipient& recipient) {
  return recipient.notify.bits != mail::Notify::kNever;
}

// RFC 2852 §4.1: each host that has it, if it is to be traced, or the one behind which nobody tells
// that it is late. Who names the occasions, and a delay among them, has named all.
bool tells_passing(const mail::Envelope& envelope, const mail::Recipient& recipient,
                   const Outcome& outcome) {
  const auto& by = envelope.deliver_by;
  const bool is_passed_on = outcome.verdict == Verdict::delivered &&
                            outcome.stage != mail::Stage::local && !outcome.remote.starts_with('/');
  if (!by || !is_passed_on || !may_hear(recipient))
    return false;
  if (by->traces)
    return true;
  const bool has_named_all =
      (recipient.notify.bits & mail::Notify::kDelay) != 0 && !recipient.notify.success();
  return !by->returns && outcome.relayed_to_non_dsn && !has_named_all;
}

bool tells_success(const Lease& lease, const Record::Result& result) {
  const auto& recipient = recipient_of(lease, result.index);
  return tells_success(recipient, result.outcome) ||
         tells_passing(lease.message->envelope, recipient, result.outcome);
}

// What the sender may read, who may be anybody. The text of a delivery on this machine that is to
// be tried again, or that succeeded, may name paths, commands and keys of the configuration: the
// log has them. One without was made for the sender.
Outcome for_sender(Outcome outcome) {
  constexpr const char* kBlank = "it cannot be delivered on this machine now";
  constexpr mail::EnhancedCode kFull{4, 2, 2};
  const bool is_local = outcome.remote == "local" && outcome.reply.code == 0;
  const auto own_size = std::min(outcome.text.find(kCommandOutput), outcome.text.size());
  const auto own = std::string_view(outcome.text).substr(0, own_size);
  const bool is_ours =
      own.find('/') != std::string_view::npos || own.find("local.") != std::string_view::npos;
  if (!is_local || !is_ours)
    return outcome;
  const auto words = outcome.text.substr(own_size);
  if (outcome.stage == mail::Stage::expired)
    outcome.text = std::string("the message was too long in the queue; last: ") + kBlank + words;
  else if (outcome.stage == mail::Stage::local && outcome.verdict != Verdict::bounce)
    outcome.text = outcome.verdict == Verdict::delivered ? "delivered"
                   : outcome.status == kFull             ? "the mailbox is full" + words
                                                         : kBlank + words;
  return outcome;
}

Recipients failed(const Lease& lease, const Record& record, TimePoint now) {
  Recipients found;
  for (const auto& result : record.results) {
    const auto& recipient = recipient_of(lease, result.index);
    if (result.outcome.verdict == Verdict::bounce && recipient.notify.failure())
      found.push_back({recipient, for_sender(result.outcome), now, {}, "failed"});
  }
  return found;
}

Recipients succeeded(const Lease& lease, const Record& record, TimePoint now) {
  Recipients found;
  for (const auto& result : record.results) {
    const auto& recipient = recipient_of(lease, result.index);
    if (!tells_success(lease, result))
      continue;
    const bool is_local = result.outcome.stage == mail::Stage::local;
    const bool is_expanded = result.outcome.onward == Outcome::Onward::expanded;
    const char* action = is_expanded ? "expanded" : is_local ? "delivered" : "relayed";
    found.push_back({recipient, for_sender(result.outcome), now, {}, action});
  }
  return found;
}

Outcome untried() {
  Outcome outcome;
  outcome.status = {4, 4, 7};
  outcome.text = "it could not be tried yet";
  return outcome;
}

// Mode N of RFC 2852: its time has passed, and who wanted it by then hears of that.
bool is_late(const Message& message, TimePoint now) {
  const auto& by = message.envelope.deliver_by;
  return by && !by->returns && by->time > message.received && by->time <= now;
}

Recipients delayed(const Lease& lease, const NoticeContext& context) {
  Recipients found;
  if (lease.reason != Lease::Reason::delay_notice)
    return found;
  const auto& message = *lease.message;
  const bool late = is_late(message, context.now);
  const auto until =
      std::max(message.received, message.envelope.release) + context.settings.lifetime;
  for (const auto& leased : lease.recipients) {
    const auto& recipient = recipient_of(lease, leased.index);
    if (late ? !may_hear(recipient) : !recipient.notify.delay())
      continue;
    auto outcome = for_sender(leased.last.value_or(untried()));
    if (late)
      outcome.status = {4, 4, 7};
    found.push_back({recipient, std::move(outcome), context.now, until, "delayed"});
  }
  return found;
}

std::string make_boundary(mail::MessageId id, Random& random) {
  return mail::to_string(id) + "." + std::to_string(random.next()) + "/postrider";
}

void add_notice(NoticeKind kind, const char* word, std::string to, Recipients recipients,
                const Lease& lease, std::string_view original, Record& record,
                NoticeContext& context) {
  mail::NoticeInput input;
  input.kind = kind;
  input.original = lease.message.get();
  input.original_text = original;
  input.original_complete = original.size() == lease.message->content.size;
  input.recipients = std::move(recipients);
  input.reporting_mta = context.settings.own.hostname;
  input.id = context.custody.next_id();
  input.boundary = make_boundary(input.id, context.random);
  input.now = context.now;
  input.to = to;
  queue::Submission notice;
  notice.message =
      mail::notice_message(mail::compose_notice(input), input.id, to, context.now,
                           lease.message->envelope.tls, lease.message->envelope.priority);
  maillog::notice_created(context.log, *lease.message, *notice.message, word, to);
  record.notices.push_back(std::move(notice));
}

// "postmaster" alone is that of this host.
bool is_same_receiver(const std::string& recipient, const std::string& postmaster,
                      const std::string& hostname) {
  const bool is_bare = postmaster.find('@') == std::string::npos;
  return equals_ignoring_case(recipient, postmaster) ||
         (is_bare && equals_ignoring_case(recipient, postmaster + "@" + hostname));
}

// Why the administrator does not get this one as it is; null: he does.
const char* reason_to_drop(const Recipients& recipients, std::string_view original,
                           NoticeContext& context) {
  const auto& postmaster = context.settings.double_bounce;
  if (postmaster.empty())
    return "undeliverable, its sender is null, and delivery.double_bounces_to is empty";
  const bool is_to_postmaster =
      std::any_of(recipients.begin(), recipients.end(), [&](const NoticeRecipient& failed) {
        return is_same_receiver(failed.recipient.address, postmaster,
                                context.settings.own.hostname);
      });
  if (is_to_postmaster)
    return "undeliverable, its sender is null, and it was for delivery.double_bounces_to itself";
  if (mail::is_about_double_bounces(original))
    return "undeliverable, its sender is null, and it told of notices that are undeliverable";
  if (context.double_bounces.may_tell(context.now))
    return nullptr;
  for (const auto& failed : recipients)
    context.double_bounces.count(failed.recipient.address, failed.outcome, context.now);
  return "undeliverable, its sender is null; counted for the digest";
}

std::string addresses_of(const Recipients& recipients) {
  std::string all;
  for (const auto& failed : recipients)
    all.append(all.empty() ? "" : " ").append(failed.recipient.address);
  return all;
}

// Whether less of the same message might be taken. 552 without a code of its own says no more.
bool is_for_size(const Outcome& outcome) {
  constexpr mail::EnhancedCode kTooLarge[] = {{5, 3, 4}, {5, 2, 3}, {5, 2, 2}};
  const auto& said = outcome.status;
  return outcome.reply.code == 552 || std::any_of(std::begin(kTooLarge), std::end(kTooLarge),
                                                  [&](const auto& code) { return said == code; });
}

// A notice of ours that was too large for where its sender is goes there once more, with the
// headers of the original alone: that it cannot be made any smaller ends it. False: it is no such.
bool was_sent_shorter(const Recipients& recipients, const Lease& lease, std::string_view original,
                      Record& record, NoticeContext& context) {
  if (lease.message->origin.protocol != mail::kNoticeProtocol || recipients.size() != 1 ||
      !is_for_size(recipients.front().outcome))
    return false;
  auto shorter = mail::without_body(original);
  if (!shorter)
    return false;
  const auto id = context.custody.next_id();
  auto to = recipients.front().recipient.address;
  queue::Submission notice;
  notice.message =
      mail::notice_message(*std::move(shorter), id, to, context.now, lease.message->envelope.tls);
  maillog::notice_created(context.log, *lease.message, *notice.message, "failure", to);
  record.notices.push_back(std::move(notice));
  return true;
}

// A notice that cannot be delivered goes to the administrator alone, and once.
void add_double_bounce(Recipients recipients, const Lease& lease, std::string_view original,
                       Record& record, NoticeContext& context) {
  if (const char* const why = reason_to_drop(recipients, original, context))
    return maillog::notice_dropped(context.log, *lease.message, addresses_of(recipients), why,
                                   recipients.front().outcome);
  add_notice(NoticeKind::failure, "double-bounce", context.settings.double_bounce,
             std::move(recipients), lease, original, record, context);
}

}  // namespace

bool needs_notice(const Lease& lease, const Record::Result& result) {
  return result.outcome.verdict == Verdict::bounce || tells_success(lease, result);
}

bool needs_notice(const Lease& lease, const Record& record) {
  if (lease.reason == Lease::Reason::delay_notice)
    return true;
  return std::any_of(record.results.begin(), record.results.end(),
                     [&](const auto& result) { return needs_notice(lease, result); });
}

void add_notices(const Lease& lease, std::string_view original, Record& record,
                 NoticeContext context) {
  const auto sender =
      notified_sender(context.settings.local.book.get(), lease.message->envelope.sender);
  auto failures = failed(lease, record, context.now);
  if (sender.empty()) {
    if (!failures.empty() && !was_sent_shorter(failures, lease, original, record, context))
      add_double_bounce(std::move(failures), lease, original, record, context);
    return;
  }
  if (!failures.empty())
    add_notice(NoticeKind::failure, "failure", sender, std::move(failures), lease, original, record,
               context);
  if (auto late = delayed(lease, context); !late.empty())
    add_notice(NoticeKind::delay, "delay", sender, std::move(late), lease, original, record,
               context);
  if (auto done = succeeded(lease, record, context.now); !done.empty())
    add_notice(NoticeKind::success, "success", sender, std::move(done), lease, original, record,
               context);
}

}  // namespace postrider::delivery
