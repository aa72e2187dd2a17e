#include "delivery/local/local_delivery.h"

#include "base/text.h"
#include "delivery/local/account.h"
#include "delivery/local/local_content.h"
#include "delivery/local/local_file.h"
#include "delivery/local/mailbox_pattern.h"
#include "mail/address.h"

namespace postrider::delivery {

namespace {

using mail::Outcome;
using mail::Verdict;

// The header section, as much of it as fits: enough to find our own field.
constexpr std::size_t kMostHeader = 128U << 10U;

Outcome no_user(const std::string& address) {
  return local_end(Verdict::bounce, {5, 1, 1}, "there is no user " + escaped(address));
}

// A wrong pattern is ours to mend; a name that does not fit is the sender's.
Outcome no_target(const Error& error, const std::string& address) {
  if (error.code() == make_error_code(Errc::refused))
    return no_user(address);
  return local_end(Verdict::retry, {4, 3, 5}, error.describe());
}

}  // namespace

Outcome deliver_to_target(const LocalDelivery& delivery, const Target& target,
                          LocalEnvelope envelope) {
  const auto& message = *delivery.message;
  LocalJob job;
  job.target = target;
  job.envelope = std::move(envelope);
  job.envelope.id = to_string(message.id);
  job.envelope.sender = message.envelope.sender;
  job.envelope.hostname = delivery.hostname;
  job.envelope.now = delivery.now;
  job.trace = message.content.trace;
  job.size = message.content.size;
  LocalBody body;
  body.bytes = message.content.bytes;
  if (!body.bytes) {
    auto file = delivery.open_body(message);
    if (!file)
      return local_failure(file.error());
    body.file = std::move(*file);
  }
  return delivery.performer->perform(job, std::move(body));
}

Outcome deliver_locally(const LocalDelivery& delivery) {
  const auto& message = *delivery.message;
  const auto& recipient = message.envelope.recipients[delivery.recipient];
  const auto& address = recipient.address;
  const auto given = mail::domain_of(address);
  const auto domain = given.empty() ? delivery.hostname : given;
  const auto local_part = mail::unquoted_local_part(mail::local_part_of(address));
  const auto names = mailbox_names(local_part, domain);
  auto answer = mail::Directory::Answer::unknown;
  if (!names.user.empty())
    answer = delivery.directory->lookup(local_part, domain);
  if (answer == mail::Directory::Answer::unknown)
    return no_user(address);
  if (answer == mail::Directory::Answer::cannot_tell)
    return local_end(Verdict::retry, {4, 3, 0},
                     "cannot tell whether there is a user " + escaped(address));
  auto target = mailbox_target(delivery.mailbox, names);
  if (!target)
    return no_target(target.error(), address);
  auto user = acting_user(names.user, delivery.minimum_uid);
  if (!user)
    return local_end(Verdict::retry, {4, 3, 0}, user.error().describe());
  target->user = std::move(*user);
  const auto beginning = load_bytes(message, delivery.open_body, kMostHeader);
  if (!beginning)
    return local_failure(beginning.error());
  if (was_delivered_to(*beginning, one_line(address)))
    return local_end(Verdict::bounce, {5, 4, 6}, "mail for " + escaped(address) + " loops");
  LocalEnvelope envelope;
  envelope.delivered_to = address;
  envelope.original_recipient = address;
  envelope.local_part = names.local;
  envelope.extension = names.extension;
  envelope.domain = names.domain;
  return deliver_to_target(delivery, *target, std::move(envelope));
}

}  // namespace postrider::delivery
