#include "daemon/control_json.h"

#include "base/text.h"

#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>

namespace postrider::daemon {

namespace {

namespace json = boost::json;

constexpr std::size_t kMostReason = 2000;

// The names that Postfix's queues have.
const char* queue_name(const queue::ListedMessage& message) {
  if (message.status == "held")
    return "hold";
  if (message.status == "active")
    return "active";
  for (const auto& recipient : message.recipients)
    if (recipient.attempts > 0 || recipient.last)
      return "deferred";
  return message.status == "queued" ? "incoming" : "deferred";
}

const char* state_name(const queue::ListedRecipient& recipient) {
  constexpr const char* names[] = {"queued", "held", "bouncing", "delivered", "bounced", "removed"};
  if (recipient.active)
    return "active";
  // Untried, but with a reason: its site is blocked.
  if (recipient.state == queue::RecipientState::queued &&
      (recipient.attempts > 0 || recipient.last))
    return "deferred";
  return names[static_cast<int>(recipient.state)];
}

const char* verdict_name(mail::Verdict verdict) {
  constexpr const char* names[] = {"delivered", "retry", "bounce"};
  return names[static_cast<int>(verdict)];
}

json::object recipient_object(const queue::ListedRecipient& recipient) {
  json::object object;
  object["address"] = json_text(recipient.address);
  if (recipient.last && recipient.last->verdict != mail::Verdict::delivered)
    object["delay_reason"] = json_text(recipient.last->reason());
  object["state"] = state_name(recipient);
  object["domain"] = json_text(recipient.domain);
  if (!recipient.site.empty())
    object["site"] = json_text(recipient.site);
  object["attempts"] = recipient.attempts;
  object["next_attempt"] = json_time(recipient.next_attempt);
  if (recipient.last)
    object["last"] = to_json(*recipient.last);
  return object;
}

}  // namespace

std::string json_text(std::string_view text) {
  if (text.size() <= kMostReason && is_utf8(text))
    return std::string(text);
  return escaped(text, kMostReason);
}

std::int64_t json_time(TimePoint when) {
  return std::chrono::duration_cast<std::chrono::seconds>(when.time_since_epoch()).count();
}

void add_line(const char* name, json::value value, std::string& out) {
  json::object line;
  line[name] = std::move(value);
  out.append(json::serialize(line)).push_back('\n');
}

json::object to_json(const queue::ListedMessage& message) {
  json::object object;
  object["queue_name"] = queue_name(message);
  object["queue_id"] = to_string(message.id);
  object["arrival_time"] = json_time(message.received);
  object["message_size"] = message.size;
  object["forced_expire"] = false;
  object["sender"] = message.sender.empty() ? "MAILER-DAEMON" : json_text(message.sender);
  json::array recipients;
  for (const auto& recipient : message.recipients)
    recipients.push_back(recipient_object(recipient));
  object["recipients"] = std::move(recipients);
  object["status"] = message.status;
  object["envelope_sender"] = json_text(message.sender);
  object["expires"] = json_time(message.expires);
  object["client"] = json_text(message.origin.client);
  object["protocol"] = json_text(message.origin.protocol);
  return object;
}

json::object to_json(const mail::Outcome& outcome) {
  json::object object;
  object["verdict"] = verdict_name(outcome.verdict);
  object["stage"] = mail::phrase(outcome.stage);
  object["status"] = mail::to_string(outcome.status);
  if (!outcome.remote.empty())
    object["remote"] = json_text(outcome.remote);
  if (outcome.reply.code != 0)
    object["reply"] = json_text(outcome.reply.str());
  object["reason"] = json_text(outcome.reason());
  return object;
}

json::object to_json(const queue::SiteState& site) {
  json::object object;
  object["site"] = json_text(site.site);
  object["failures"] = site.failures;
  object["since"] = json_time(site.since);
  object["blocked_until"] = json_time(site.blocked_until);
  object["reason"] = json_text(site.last.reason());
  return object;
}

json::object to_json(const queue::Totals& totals) {
  json::object object;
  object["messages"] = totals.messages;
  object["recipients"] = totals.recipients;
  object["active"] = totals.active;
  object["deferred"] = totals.deferred;
  object["held"] = totals.held;
  object["bytes"] = totals.bytes;
  object["oldest"] = json_time(totals.oldest);
  return object;
}

json::object to_json(const mail::Envelope& envelope) {
  constexpr const char* bodies[] = {"7BIT", "8BITMIME", "BINARYMIME"};
  constexpr const char* returns[] = {"", "FULL", "HDRS"};
  json::object object;
  object["sender"] = json_text(envelope.sender);
  object["recipients"] = envelope.recipients.size();
  object["body"] = bodies[static_cast<int>(envelope.body)];
  object["smtputf8"] = envelope.smtputf8;
  object["ret"] = returns[static_cast<int>(envelope.ret)];
  object["envelope_id"] = json_text(envelope.envelope_id);
  return object;
}

}  // namespace postrider::daemon
