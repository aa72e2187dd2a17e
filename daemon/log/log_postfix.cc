#include "daemon/log/log_postfix.h"

#include "base/text.h"

#include <algorithm>
#include <optional>
#include <unistd.h>

namespace postrider::daemon {

namespace {

std::string clean(std::string_view value) {
  return escaped(value, kMostValue);
}

// "unknown[192.0.2.1]", or with the name that leads back to the address.
std::string client_of(const LogEvent& event) {
  const auto client = event.value("client");
  if (client.empty() || client == "local")
    return "localhost[127.0.0.1]";
  const auto name = event.value("client_name");
  return (name.empty() ? "unknown" : clean(name)) + "[" + clean(client) + "]";
}

class Lines {
 public:
  Lines(const LogEvent& event, LogLines& lines) : event_(event), lines_(lines) {}

  // program: "smtpd", "qmgr"; empty for what Postfix has no line for.
  std::string& begin(std::string_view program) { return begin(program, event_.level()); }
  // A line that Postfix logs as a warning is one of that priority, whatever the event is to us.
  std::string& begin_warning(std::string_view program) {
    return begin(program, std::max(event_.level(), Level::warn)).append("warning: ");
  }
  std::string& begin_message(std::string_view program) {
    return begin(program).append(clean(event_.id())).append(": ");
  }

 private:
  std::string& begin(std::string_view program, Level level) {
    if (program.empty())
      return lines_.begin("postrider", level);
    return lines_.begin(std::string("postfix/").append(program), level);
  }

  const LogEvent& event_;
  LogLines& lines_;
};

std::string bracketed(std::string_view address) {
  return "<" + clean(address) + ">";
}

// A raw argument of RCPT has its brackets already.
std::string bracketed_once(std::string_view address) {
  return address.starts_with('<') ? clean(address) : bracketed(address);
}

// Whose address a refusal is about, by the first two parts behind the class of its enhanced code:
// "7.1" is policy, "1.x" an address, "3.0" a table that cannot be read.
bool is_about_address(std::string_view enhanced) {
  const auto detail = enhanced.substr(std::min<std::size_t>(enhanced.size(), 2));
  return detail == "7.1" || detail == "3.0" || detail.starts_with("1.");
}

// What a list in the DNS has, and of what: ours is "Service unavailable; WHAT is listed by ZONE:
// TEXT", Postfix's "Service unavailable; Client host [...] blocked using ZONE; TEXT".
std::string listed_text(const LogEvent& event, std::string_view text) {
  const auto by = text.find(" is listed by ");
  if (by == std::string_view::npos)
    return clean(text);
  const auto what = text.substr(0, by);
  const auto zone = text.substr(by + std::string_view(" is listed by ").size());
  const auto end = std::min(zone.find(':'), zone.size());
  std::string said = "Service unavailable; ";
  if (what.ends_with("the sender's domain"))
    said += "Sender address [" + clean(event.value("from")) + "]";
  else if (what.ends_with("the name in EHLO"))
    said += "Helo command [" + clean(event.value("helo")) + "]";
  else
    said += "Client host [" + clean(event.value("client")) + "]";
  said += " blocked using " + clean(zone.substr(0, end));
  return end < zone.size() ? said + ";" + clean(zone.substr(end + 1)) : said;
}

// What one of our checks refused, by the name that it has in `problem`. Nothing: none of them, or
// one that speaks of an address.
std::optional<std::string> text_of_check(const LogEvent& event, std::string_view text) {
  const auto check = event.value("problem");
  if (check == "listed")
    return listed_text(event, text);
  if (check == "table" || check.ends_with("_per_hour"))
    return "<" + client_of(event) + ">: Client host rejected: " + clean(text);
  if (check == "name")
    return std::string("Client host rejected: cannot find your ") +
           (text.ends_with("has no name in the DNS") ? "reverse " : "") + "hostname, [" +
           clean(event.value("client")) + "]";
  if (check == "helo")
    return bracketed(event.value("helo")) + ": Helo command rejected: " + clean(text);
  const auto stage = event.value("stage");
  if (check == "policy service" && stage == "DATA")
    return "<DATA>: Data command rejected: " + clean(text);
  if (check == "policy service" && stage == "END-OF-MESSAGE")
    return "<END-OF-MESSAGE>: End-of-data rejected: " + clean(text);
  if ((check == "policy service" || check == "greylisted") && stage == "RCPT")
    return bracketed_once(event.value("to")) + ": Recipient address rejected: " + clean(text);
  if (check.starts_with("milter "))
    return clean(text);
  return std::nullopt;
}

// The tools that read Postfix's log look for its own words, so a refusal gets those of its cause;
// the reply's code, enhanced code and text stay ours.
std::string refusal_text(const LogEvent& event) {
  const auto reply = event.value("reply");
  const auto code = reply.substr(0, reply.find(' '));
  const auto rest = reply.substr(std::min(reply.size(), code.size() + 1));
  const auto enhanced = rest.substr(0, rest.find(' '));
  const auto text = rest.substr(std::min(rest.size(), enhanced.size() + 1));
  const auto codes = clean(code) + " " + clean(enhanced) + " ";
  if (const auto said = text_of_check(event, text))
    return codes + *said;
  if (!is_about_address(enhanced))
    return clean(reply);
  if (event.value("stage") == "MAIL")
    return codes + bracketed_once(event.value("from")) +
           ": Sender address rejected: " + clean(text);
  if (event.value("stage") != "RCPT")
    return clean(reply);
  const auto to = bracketed_once(event.value("to"));
  if (reply == "550 5.7.1 Relaying denied")
    return codes + to + ": Relay access denied";
  if (reply == "550 5.1.1 No such user here")
    return codes + to + ": Recipient address rejected: User unknown in local recipient table";
  return codes + to + ": Recipient address rejected: " + clean(text);
}

void other(const LogEvent& event, Lines& lines);

void connected(const LogEvent& event, Lines& lines) {
  lines.begin("smtpd").append("connect from ").append(client_of(event));
}

void encrypted(const LogEvent& event, Lines& lines) {
  const auto verify = event.value("verify");
  auto& out = lines.begin("smtpd");
  out.append(verify == "trusted" ? "Trusted" : verify == "none" ? "Anonymous" : "Untrusted");
  out.append(" TLS connection established from ").append(client_of(event)).append(": ");
  out.append(clean(event.value("tls_protocol"))).append(" with cipher ");
  out.append(clean(event.value("cipher"))).append(" (");
  const auto bits = clean(event.value("bits"));
  out.append(bits).append("/").append(bits).append(" bits)");
}

void tls_failed(const LogEvent& event, Lines& lines) {
  lines.begin("smtpd").append("SSL_accept error from ").append(client_of(event)).append(": -1");
  lines.begin_warning("smtpd").append("TLS library problem: ").append(clean(event.value("error")));
}

// A command that was not understood, or came at the wrong time, is no mail that was refused: Postfix has no line for it.
bool is_about_command(std::string_view reply) {
  return reply.starts_with("500 ") || reply.starts_with("502 ") || reply.starts_with("503 ");
}

void rejected(const LogEvent& event, Lines& lines) {
  if (is_about_command(event.value("reply")) && event.value("problem").empty())
    return other(event, lines);
  auto& out = lines.begin("smtpd").append(event.value("problem").starts_with("milter ")
                                              ? "NOQUEUE: milter-reject: "
                                              : "NOQUEUE: reject: ");
  out.append(clean(event.value("stage"))).append(" from ").append(client_of(event)).append(": ");
  out.append(refusal_text(event)).append(";");
  const bool in_transaction = !event.value("to").empty() || !event.value("from").empty();
  if (in_transaction)
    out.append(" from=").append(bracketed_once(event.value("from")));
  if (!event.value("to").empty())
    out.append(" to=").append(bracketed_once(event.value("to")));
  out.append(" proto=").append(clean(event.value("protocol")));
  out.append(" helo=").append(bracketed(event.value("helo")));
}

std::string login_of(const LogEvent& event) {
  if (event.value("user").empty())
    return {};
  return ", sasl_method=" + clean(event.value("mechanism")) +
         ", sasl_username=" + clean(event.value("user"));
}

// As qmgr says of each message that it takes up.
void active(const LogEvent& event, std::string& out) {
  out.append("from=").append(bracketed(event.value("from")));
  out.append(", size=").append(clean(event.value("size")));
  out.append(", nrcpt=").append(clean(event.value("nrcpt"))).append(" (queue active)");
}

void accepted(const LogEvent& event, Lines& lines) {
  const auto protocol = event.value("protocol");
  const bool is_submitted = protocol == "local" || protocol == "drop";
  if (!is_submitted && protocol != "notice")
    lines.begin_message("smtpd").append("client=").append(client_of(event)).append(login_of(event));
  else if (is_submitted)
    lines.begin_message("pickup")
        .append("uid=")
        .append(clean(event.value("uid")))
        .append(" from=")
        .append(bracketed(event.value("from")));
  const auto message_id = event.value("message_id");
  lines.begin_message("cleanup")
      .append("message-id=")
      .append(message_id.empty() ? "<>" : clean(message_id));
  active(event, lines.begin_message("qmgr"));
}

void disconnected(const LogEvent& event, Lines& lines) {
  const auto reason = event.value("reason");
  if (reason == "refused")
    lines.begin("smtpd").append("too many errors after UNKNOWN from ").append(client_of(event));
  if ((reason == "lost" || reason == "timeout") && event.value("commands") == "0")
    lines.begin("smtpd")
        .append(reason == "lost" ? "lost connection" : "timeout")
        .append(" after CONNECT from ")
        .append(client_of(event));
  // Without Postfix's counts behind it: pflogsumm reads an IPv6 client only at the line's end.
  lines.begin("smtpd").append("disconnect from ").append(client_of(event));
}

void turned_away(const LogEvent& event, Lines& lines) {
  lines.begin_warning("smtpd")
      .append("Connection concurrency limit exceeded: from ")
      .append(client_of(event))
      .append(" (")
      .append(clean(event.value("reason")))
      .append(")");
}

// "expanded to 2 recipients as ID1, ID2": what Postfix says of it is counted as forwarded, not as delivered.
std::string local_reason(std::string_view reason) {
  constexpr std::string_view kAs = " as ";
  const auto at = reason.starts_with("expanded to ") ? reason.find(kAs) : reason.npos;
  return at == reason.npos ? clean(reason)
                           : "forwarded as " + clean(reason.substr(at + kAs.size()));
}

// One recipient of one attempt, as Postfix's delivery agents write it.
void to_line(const LogEvent& event, Lines& lines, const char* program, std::string_view status,
             const char* before = "") {
  const auto value_or = [&](const char* key, const char* otherwise) {
    return event.value(key).empty() ? std::string(otherwise) : clean(event.value(key));
  };
  const bool is_local = event.value("relay") == "local";
  const auto reason = is_local ? local_reason(event.value("reason")) : clean(event.value("reason"));
  auto& out = lines.begin_message(program).append("to=").append(bracketed(event.value("to")));
  if (!event.value("orig_to").empty())
    out.append(", orig_to=").append(bracketed(event.value("orig_to")));
  out.append(", relay=")
      .append(value_or("relay", "none"))
      .append(", delay=")
      .append(value_or("delay", "0"))
      .append(", delays=")
      .append(value_or("delays", "0/0/0/0"))
      .append(", dsn=")
      .append(value_or("dsn", "4.0.0"))
      .append(", status=")
      .append(clean(status))
      .append(" (")
      .append(before)
      .append(reason)
      .append(")");
}

void attempted(const LogEvent& event, Lines& lines) {
  to_line(event, lines, event.value("relay") == "local" ? "local" : "smtp", event.value("verdict"));
}

// As Postfix says of mail behind a site that does not answer.
void deferred(const LogEvent& event, Lines& lines) {
  to_line(event, lines, "error", "deferred", "delivery temporarily suspended: ");
}

// Given up without an attempt: the lifetime has ended, or an administrator said so.
void bounced(const LogEvent& event, Lines& lines) {
  to_line(event, lines, "error", "bounced");
}

void removed(const LogEvent& event, Lines& lines) {
  lines.begin_message(event.value("by") == "administrator" ? "postsuper" : "qmgr")
      .append("removed");
}

void notice_created(const LogEvent& event, Lines& lines) {
  const auto kind = event.value("kind");
  const char* words = kind == "delay"           ? "sender delay notification: "
                      : kind == "success"       ? "sender delivery status notification: "
                      : kind == "double-bounce" ? "postmaster non-delivery notification: "
                                                : "sender non-delivery notification: ";
  const auto notice = clean(event.value("notice"));
  lines.begin_message("bounce").append(words).append(notice);
  auto& out = lines.begin("qmgr").append(notice).append(": from=<>, size=");
  out.append(event.value("size").empty() ? "0" : clean(event.value("size")));
  out.append(", nrcpt=1 (queue active)");
}

// Mail that an alias sends on is a message of its own, as with Postfix.
void sent_on(const LogEvent& event, Lines& lines) {
  const auto message = clean(event.value("message"));
  lines.begin("cleanup").append(message).append(": message-id=<>");
  active(event, lines.begin("qmgr").append(message).append(": "));
}

// What a rule on the header did to a message that it did not refuse, as Postfix's cleanup says it. A
// refusal has its line as such.
void header_check(const LogEvent& event, Lines& lines) {
  const auto action = event.value("action");
  const char* word = action == "hold"      ? "hold"
                     : action == "discard" ? "discard"
                     : action == "warn"    ? "warning"
                                           : nullptr;
  if (word == nullptr)
    return other(event, lines);
  auto& out = lines.begin_message("cleanup").append(word).append(": header ");
  out.append(clean(event.value("field"))).append(" from ").append(client_of(event));
  out.append("; from=").append(bracketed(event.value("from")));
  out.append(" to=").append(bracketed(event.value("to")));
  out.append(" proto=").append(clean(event.value("protocol")));
  out.append(" helo=").append(bracketed(event.value("helo")));
  if (!event.value("text").empty())
    out.append(": ").append(clean(event.value("text")));
}

void started(const LogEvent& event, Lines& lines) {
  lines.begin("master")
      .append("daemon started -- version ")
      .append(clean(event.value("version")))
      .append(", configuration ")
      .append(clean(event.value("config")));
}

void stopping(const LogEvent&, Lines& lines) {
  lines.begin("master").append("terminating on signal 15");
}

void reloaded(const LogEvent& event, Lines& lines) {
  lines.begin("master")
      .append("reload -- version ")
      .append(clean(event.value("version")))
      .append(", configuration ")
      .append(clean(event.value("config")));
}

// What Postfix has no line for, under our own program name.
void other(const LogEvent& event, Lines& lines) {
  auto& out = lines.begin("");
  if (event.level() == Level::warn)
    out.append("warning: ");
  if (event.level() == Level::error)
    out.append("error: ");
  if (!event.id().empty())
    out.append(clean(event.id())).append(": ");
  out.append(event.name());
  event.for_each([&](const char* key, std::string_view value) {
    out.append(" ").append(key).append("=\"").append(clean(value)).append("\"");
  });
}

// An administrator's change: as postsuper sums it up, word for word, if it knows the like; and who
// did what to which.
void queue_changed(const LogEvent& event, Lines& lines) {
  const auto verb = event.value("verb");
  const char* words = verb == "remove"    ? "Deleted: "
                      : verb == "hold"    ? "Placed on hold: "
                      : verb == "release" ? "Released from hold: "
                      : verb == "retry"   ? "Requeued: "
                                          : nullptr;
  const auto messages = event.value("messages");
  if (words != nullptr)
    lines.begin("postsuper")
        .append(words)
        .append(clean(messages))
        .append(messages == "1" ? " message" : " messages");
  other(event, lines);
}

// fail2ban's filter (mode = auth) looks for this line.
void auth_failed(const LogEvent& event, Lines& lines) {
  auto& out = lines.begin_warning("smtpd").append(client_of(event));
  out.append(": SASL ").append(clean(event.value("mechanism")));
  out.append(" authentication failed: ").append(clean(event.value("reply")));
  if (!event.value("user").empty())
    out.append(", sasl_username=").append(clean(event.value("user")));
}

// Postfix says it with the message.
void authenticated(const LogEvent&, Lines&) {}

struct Row {
  std::string_view event;
  void (*write)(const LogEvent& event, Lines& lines);
};
constexpr Row kRows[] = {
    {"connected", connected},
    {"encrypted", encrypted},
    {"tls_failed", tls_failed},
    {"rejected", rejected},
    {"accepted", accepted},
    {"disconnected", disconnected},
    {"authenticated", authenticated},
    {"auth_failed", auth_failed},
    {"turned_away", turned_away},
    {"attempted", attempted},
    {"deferred", deferred},
    {"bounced", bounced},
    {"removed", removed},
    {"queue_changed", queue_changed},
    {"notice_created", notice_created},
    {"sent_on", sent_on},
    {"header_check", header_check},
    {"started", started},
    {"stopping", stopping},
    {"reloaded", reloaded},
};

}  // namespace

PostfixFormat::PostfixFormat(std::string_view hostname)
    : hostname_(hostname.substr(0, hostname.find('.'))), pid_(std::to_string(getpid())) {}

void PostfixFormat::write(const LogEvent& event, LogLines& all) const {
  Lines lines(event, all);
  for (const auto& row : kRows)
    if (row.event == event.name())
      return row.write(event, lines);
  other(event, lines);
}

void PostfixFormat::write_stamp(const LogEvent& event, std::string_view program,
                                std::string& line) const {
  line.append(local_stamp(event.when)).append(" ").append(hostname_).append(" ");
  line.append(program).append("[").append(pid_).append("]: ");
}

}  // namespace postrider::daemon
