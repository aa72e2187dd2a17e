#include "smtpd/accepted_message.h"

#include "base/net/tls/tls.h"
#include "base/text.h"
#include "mail/header.h"
#include "smtpd/receiving_log.h"
#include "smtpd/tls_wish.h"

#include <utility>

namespace postrider::smtpd {

std::string missing_fields(const HeaderWatch& header, mail::MessageId id,
                           const std::string& hostname, TimePoint now) {
  std::string fields;
  if (!header.has_date())
    fields += "Date: " + mail::format_date(now) + "\r\n";
  if (!header.has_message_id())
    fields += "Message-ID: " + mail::make_message_id(id, hostname) + "\r\n";
  return fields;
}

std::shared_ptr<const mail::Message> compose_message(Session& session,
                                                     const IncomingContent& content,
                                                     mail::MessageId id, FinishedBody& body,
                                                     const std::string& on_top,
                                                     const std::string& next_hop, TimePoint now) {
  const auto& facts = session.facts();
  const auto& header = content.header();
  const auto& hostname = facts.policy->settings().hostname;
  const bool is_submission = facts.role == Role::submission;
  auto message = std::make_shared<mail::Message>();
  message->id = id;
  message->received = now;
  message->origin.protocol = protocol_of(session);
  message->origin.user = facts.client.authenticated;
  message->origin.next_hop = next_hop;
  message->origin.client = facts.helo + facts.client.address.literal();
  // A user of this machine shares with others as one, by whichever door the mail comes; root is many programs.
  if (const auto user = facts.client.local_user;
      user && *user != 0 && facts.client.authenticated.empty())
    message->origin.client += " uid " + std::to_string(*user);
  message->origin.tls = maillog::tls_summary(session);
  // As it came, whatever filters make of the header. A stranger's would put his mail into traces
  // that are ours.
  if (Policy::may_relay(facts.client))
    message->origin.trace_parent = header.trace_parent();
  mail::TraceInfo trace;
  trace.tls = message->origin.tls;
  if (facts.tls != nullptr)
    trace.tls_cipher = facts.tls->cipher;
  trace.helo = facts.helo;
  trace.client = facts.client.address.literal();
  if (const auto& name = facts.client.name)
    trace.client_name = name->shown();
  trace.by = hostname;
  trace.protocol = message->origin.protocol;
  trace.id = id;
  trace.when = message->received;
  message->envelope = std::move(session.envelope_to_change());
  message->precedence = header.precedence();
  message->envelope.tls =
      tls_wish(message->envelope.tls,
               body.fresh_header() ? mail::header_facts(*body.fresh_header()).tls_not_required
                                   : header.tls_not_required());
  trace.priority = message->envelope.priority;
  if (message->envelope.recipients.size() == 1)
    trace.recipient = message->envelope.recipients.front().address;
  auto& kept = message->content;
  kept.trace = on_top + mail::received_field(trace);
  if (is_submission && !body.is_complete())
    kept.trace += missing_fields(header, id, hostname, now);
  const auto first_line = body.first_line().value_or(header.first_line());
  kept.trace += mail::header_joint(first_line, is_submission || body.has_clean_header());
  const auto& came = content.facts();
  kept.has_8bit = came.has_8bit;
  kept.has_8bit_header = came.has_8bit_header && first_line != mail::HeaderLine::indented;
  if (!is_ascii(on_top))
    kept.has_8bit = kept.has_8bit_header = true;
  kept.longest_line = came.longest_line;
  kept.ends_with_crlf = came.ends_with_crlf;
  body.describe_changes(*message);
  body.describe(kept);
  return message;
}

}  // namespace postrider::smtpd
