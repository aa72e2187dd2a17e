#include "daemon/control/control_json.h"

#include "base/shell_word.h"
#include "base/text.h"
#include "mail/envelope.h"
#include "mail/verdict_word.h"

#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>

#include <charconv>
#include <utility>

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

const char* state_name(const queue::ListedRecipient& recipient,
                       const queue::ListedMessage& message) {
  constexpr const char* names[] = {"queued", "held", "bouncing", "delivered", "bounced", "removed"};
  if (recipient.active)
    return "active";
  // Untried, but with a reason: its site is blocked. Never anything else than its message says.
  if (recipient.state == queue::RecipientState::queued &&
      (recipient.attempts > 0 || (recipient.last && message.status != "queued")))
    return "deferred";
  return names[static_cast<int>(recipient.state)];
}

// Appends to one object; the caller writes its brackets.
class Members {
 public:
  explicit Members(std::string& out) : out_(out) {}
  std::string& name(std::string_view name) {
    out_.append(std::exchange(first_, false) ? "\"" : ",\"").append(name).append("\":");
    return out_;
  }
  void text(std::string_view name_of_it, std::string_view value) {
    auto& out = name(name_of_it);
    if (is_plain(value))
      out.append("\"").append(value).append("\"");
    else
      out.append(json::serialize(json::string(json_text(value))));
  }
  void number(std::string_view name_of_it, std::int64_t value) {
    char digits[24];
    const auto end = std::to_chars(digits, digits + sizeof digits, value).ptr;
    name(name_of_it).append(digits, end);
  }

 private:
  static bool is_plain(std::string_view value) {
    for (const char c : value) {
      const auto octet = static_cast<unsigned char>(c);
      if (octet < 32 || octet >= 127 || octet == '"' || octet == '\\')
        return false;
    }
    return value.size() <= kMostReason;
  }

  std::string& out_;
  bool first_ = true;
};

void add_recipient(const queue::ListedRecipient& recipient, const queue::ListedMessage& message,
                   std::string& out) {
  out.push_back('{');
  Members members(out);
  members.text("address", recipient.address);
  if (recipient.last && recipient.last->verdict != mail::Verdict::delivered)
    members.text("delay_reason", recipient.last->reason());
  members.text("state", state_name(recipient, message));
  members.text("domain", recipient.domain);
  if (!recipient.site.empty())
    members.text("site", recipient.site);
  members.number("attempts", recipient.attempts);
  members.number("next_attempt", json_time(recipient.next_attempt));
  if (!recipient.next_hop.empty())
    members.text("next_hop", recipient.next_hop);
  if (recipient.paused)
    members.name("paused").append("true");
  if (recipient.last)
    members.text("dsn", mail::to_string(recipient.last->status));
  out.push_back('}');
}

}  // namespace

void add_histogram(json::object& object, std::string_view name, const Histogram& histogram) {
  const auto figures = histogram.figures();
  json::object one;
  one["bounds"] = json::array(figures.bounds.begin(), figures.bounds.end());
  one["counts"] = json::array(figures.counts.begin(), figures.counts.end());
  one["sum"] = figures.sum;
  auto& all = object["histograms"];
  if (!all.is_object())
    all = json::object();
  all.as_object()[name] = std::move(one);
}

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

void add_message_line(const queue::ListedMessage& message, std::string& out) {
  out.append("{\"message\":{");
  Members members(out);
  members.text("queue_name", queue_name(message));
  members.text("queue_id", to_string(message.id));
  members.number("arrival_time", json_time(message.received));
  members.number("message_size", static_cast<std::int64_t>(message.size));
  members.name("forced_expire").append("false");
  members.text("sender", message.sender.empty() ? "MAILER-DAEMON" : message.sender);
  members.name("recipients").push_back('[');
  for (const auto& recipient : message.recipients) {
    if (&recipient != &message.recipients.front())
      out.push_back(',');
    add_recipient(recipient, message, out);
  }
  out.push_back(']');
  members.text("status", message.status);
  members.text("envelope_sender", message.sender);
  members.number("expires", json_time(message.expires));
  members.text("client", message.origin.client);
  members.text("protocol", message.origin.protocol);
  if (!message.origin.tls.empty())
    members.text("tls", message.origin.tls);
  out.append("}}\n");
}

void add_dropped_line(const DroppedMessage& message, std::string& out) {
  out.append("{\"message\":{");
  Members members(out);
  members.text("queue_name", message.status == "refused" ? "corrupt" : "maildrop");
  members.text("queue_id", message.id);
  members.number("arrival_time", json_time(message.received));
  members.number("message_size", static_cast<std::int64_t>(message.size));
  members.name("forced_expire").append("false");
  members.text("sender", message.sender.empty() ? "MAILER-DAEMON" : message.sender);
  members.name("recipients").push_back('[');
  for (const auto& address : message.recipients) {
    out.append(&address == &message.recipients.front() ? "{" : ",{");
    Members of_recipient(out);
    of_recipient.text("address", address);
    of_recipient.text("delay_reason", message.reason);
    of_recipient.text("state", message.status);
    of_recipient.text("domain", mail::domain_of(address));
    out.push_back('}');
  }
  out.push_back(']');
  members.text("status", message.status);
  members.text("envelope_sender", message.sender);
  members.text("reason", message.reason);
  members.text("file", message.file);
  members.number("uid", static_cast<std::int64_t>(message.uid));
  out.append("}}\n");
}

json::object to_json(const DropTotals& totals) {
  json::object object;
  object["waiting"] = totals.waiting;
  object["refused"] = totals.refused;
  object["oldest"] = json_time(totals.oldest);
  return object;
}

json::object to_json(const mail::Outcome& outcome) {
  json::object object;
  object["verdict"] = mail::verdict_word(outcome.verdict);
  object["stage"] = mail::phrase(outcome.stage);
  object["status"] = mail::to_string(outcome.status);
  if (!outcome.remote.empty())
    object["remote"] = json_text(outcome.remote);
  if (outcome.reply.code != 0)
    object["reply"] = json_text(outcome.reply.str());
  if (outcome.tls)
    object["tls"] = json_text(*outcome.tls);
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
  object["queued"] = totals.queued;
  object["deferred"] = totals.deferred;
  object["held"] = totals.held;
  object["quarantined"] = totals.quarantined;
  object["ages"] = json::array(totals.ages.begin(), totals.ages.end());
  object["bytes"] = totals.bytes;
  object["oldest"] = json_time(totals.oldest);
  return object;
}

json::object to_json(const queue::Pause& pause) {
  constexpr const char* kinds[] = {"all", "domain", "sender"};
  json::object object;
  object["kind"] = kinds[static_cast<int>(pause.of)];
  object["name"] = json_text(pause.name);
  object["since"] = json_time(pause.since);
  object["until"] = json_time(pause.until);
  object["uid"] = pause.by.uid;
  object["user"] = json_text(pause.by.name);
  return object;
}

json::object to_json(const queue::Summary::Group& group) {
  json::object object;
  object["key"] = json_text(group.key);
  object["messages"] = group.messages;
  object["recipients"] = group.recipients;
  object["bytes"] = group.bytes;
  object["oldest"] = group.messages == 0 ? 0 : json_time(group.oldest);
  object["ages"] = json::array(group.ages.begin(), group.ages.end());
  return object;
}

json::object to_json(const queue::Changed& changed) {
  json::object object;
  object["messages"] = changed.messages;
  object["recipients"] = changed.recipients;
  if (changed.under_way_messages > 0) {
    object["under_way_messages"] = changed.under_way_messages;
    object["under_way_recipients"] = changed.under_way_recipients;
  }
  const auto add = [&](const char* messages, const char* recipients,
                       const queue::Changed::Kept& kept) {
    if (kept.recipients == 0)
      return;
    object[messages] = kept.messages;
    object[recipients] = kept.recipients;
  };
  add("held_messages", "held_recipients", changed.held);
  add("paused_messages", "paused_recipients", changed.paused);
  add("unreleased_messages", "unreleased_recipients", changed.unreleased);
  return object;
}

std::string pause_sentence(const queue::Pause& pause) {
  const bool is_of_sender = pause.of == queue::Pause::Of::sender;
  std::string text = pause.of == queue::Pause::Of::all ? "all mail"
                     : is_of_sender                    ? "mail from " + escaped(pause.name, 320)
                                                       : "mail to " + escaped(pause.name, 320);
  text.append(" is paused");
  if (!pause.by.name.empty())
    text.append(" by ").append(escaped(pause.by.name, 64));
  return text.append(": `").append(resume_order(pause)).append("`");
}

std::string resume_order(const queue::Pause& pause) {
  const std::string order = "postrider queue resume ";
  if (pause.of == queue::Pause::Of::all)
    return order + "--all";
  const auto name = shell_word(escaped(pause.name, 320));
  // What begins as an option does is none behind a sign.
  const auto valued = [&](const char* option) {
    return order + option + (pause.name.starts_with('-') ? "=" : " ") + name;
  };
  if (pause.of == queue::Pause::Of::sender)
    return valued("--from");
  return pause.name.find('.') == pause.name.npos || pause.name.starts_with('-') ? valued("--domain")
                                                                                : order + name;
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
  if (const auto& by = envelope.deliver_by) {
    object["deliver_by"] = json_time(by->time);
    object["deliver_by_mode"] =
        std::string(by->returns ? "return" : "notify") + (by->traces ? " trace" : "");
  }
  if (envelope.release > TimePoint())
    object["release"] = json_time(envelope.release);
  if (envelope.priority != 0)
    object["priority"] = envelope.priority;
  return object;
}

}  // namespace postrider::daemon
