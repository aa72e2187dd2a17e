#include "delivery/local/onward.h"

#include "base/text.h"
#include "delivery/local/agents/local_content.h"
#include "mail/smtp_command.h"

#include <algorithm>
#include <map>

namespace postrider::delivery {

namespace {

using mail::Notify;

constexpr std::size_t kBlock = 128U << 10U;

Notify without_success(Notify notify) {
  if (!notify.success())
    return notify;
  notify.bits = static_cast<std::uint8_t>(notify.bits & ~Notify::kSuccess);
  if (notify.bits == 0)
    notify.bits = Notify::kNever;
  return notify;
}

mail::Recipient onward_recipient(const ExpandedRecipient& to, const mail::Recipient& from,
                                 mail::Notify notify, bool is_list) {
  mail::Recipient recipient;
  recipient.address = to.address;
  auto leaf = to.leaf;
  if (leaf.kind == ResolvedRecipient::Kind::user && equals_ignoring_case(to.address, from.address))
    leaf.kind = ResolvedRecipient::Kind::self;
  recipient.leaf = encode(leaf);
  if (is_list)
    return recipient;
  recipient.original_recipient = from.original_recipient.empty()
                                     ? as_original_recipient(from.address)
                                     : from.original_recipient;
  recipient.notify = notify;
  return recipient;
}

Result<void> copy_body(const mail::Message& original, const OpenBody& open_body,
                       queue::BodyFile& to) {
  auto from = open_body(original);
  if (!from)
    return from.error();
  std::string block(kBlock, '\0');
  for (;;) {
    const auto got = read_block(*from, block);
    if (!got)
      return got.error();
    if (*got == 0)
      return to.sync();
    if (auto written = to.append(std::string_view(block).substr(0, *got)); !written)
      return written.error();
  }
}

}  // namespace

mail::Notify onward_notify(const mail::Recipient& from, const Expansion& expansion) {
  const bool is_single =
      expansion.recipients.size() + expansion.discarded + expansion.repeated == 1;
  return is_single ? from.notify : without_success(from.notify);
}

std::string as_original_recipient(std::string_view address) {
  return is_ascii(address) ? "rfc822;" + mail::encode_xtext(address) : std::string();
}

Result<std::vector<queue::Submission>> make_onward(const mail::Message& original,
                                                   std::uint32_t recipient,
                                                   const std::string& delivered_to,
                                                   const Expansion& expansion, QueuePort& custody,
                                                   const OpenBody& open_body,
                                                   const std::string& on_top) {
  const auto& from = original.envelope.recipients[recipient];
  std::map<std::pair<std::string, std::string>, std::shared_ptr<mail::Message>> by_sender;
  for (const auto& to : expansion.recipients) {
    const bool has_owner = !to.owner.empty() && !original.envelope.sender.empty();
    auto& message = by_sender[{has_owner ? to.owner : std::string(), to.sender}];
    if (!message) {
      message = std::make_shared<mail::Message>();
      message->received = original.received;
      message->origin = original.origin;
      message->envelope = original.envelope;
      message->envelope.recipients.clear();
      message->envelope.release = {};  // that was for the original
      // RFC 2852 §1: it has been delivered, and what becomes of it then is beyond that. A host
      // behind an address here that offers nothing must not return strangers' mail, either.
      message->envelope.deliver_by.reset();
      if (!to.sender.empty())
        message->envelope.sender = to.sender;
      if (has_owner) {
        message->envelope.sender = to.owner;
        message->envelope.envelope_id.clear();
        message->envelope.ret = mail::Return::unspecified;
      }
      message->content = original.content;
      message->content.trace =
          on_top + "Delivered-To: " + one_line(delivered_to) + "\r\n" + original.content.trace;
    }
    message->envelope.smtputf8 = message->envelope.smtputf8 || !is_ascii(to.address);
    message->envelope.recipients.push_back(
        onward_recipient(to, from, onward_notify(from, expansion), has_owner));
  }
  std::vector<queue::Submission> out;
  for (auto& [sender, message] : by_sender) {
    message->id = custody.next_id();
    queue::Submission submission;
    if (!message->content.bytes) {
      auto body = custody.create_body(message->id);
      if (!body)
        return body.error();
      if (auto copied = copy_body(original, open_body, *body); !copied)
        return copied.error().during("copy the body of " + to_string(original.id));
      message->content.file = body->name();
      submission.body = std::move(*body);
    }
    submission.message = std::move(message);
    out.push_back(std::move(submission));
  }
  return out;
}

}  // namespace postrider::delivery
