#include "delivery/delivery_log.h"

#include "base/text.h"
#include "mail/verdict_word.h"

#include <cstdint>

namespace postrider::delivery::maillog {

namespace {

// "0.01", "12", as Postfix writes them: two digits of what matters.
void append_seconds(Duration value, std::string& out) {
  std::uint64_t ms = value.count() < 0 ? 0 : static_cast<std::uint64_t>(value.count());
  if (ms < 10000) {
    std::uint64_t unit = 1;
    while (ms / unit >= 100)
      unit *= 10;
    ms = (ms + unit / 2) / unit * unit;
  }
  out.append(std::to_string(ms / 1000));
  auto rest = ms < 10000 ? ms % 1000 : 0;
  if (rest == 0)
    return;
  out.push_back('.');
  for (; rest > 0; rest = rest * 10 % 1000)
    out.push_back(static_cast<char>('0' + rest / 100));
}

std::string seconds(Duration value) {
  std::string text;
  append_seconds(value, text);
  return text;
}

std::string four(const Delays& delays) {
  std::string text;
  for (const auto part : {delays.before, delays.waiting, delays.connecting, delays.sending}) {
    if (!text.empty())
      text.push_back('/');
    append_seconds(part, text);
  }
  return text;
}

// Whom it was for, before an alias, a list or a .forward here sent it on: our own trace says so, above what the message
// came with.
std::string_view alias_of(const mail::Message& message) {
  constexpr std::string_view kField = "Delivered-To: ";
  const std::string_view trace = message.content.trace;
  const auto received = trace.find("Received:");
  const auto at = trace.substr(0, received).starts_with(kField)
                      ? 0
                      : trace.substr(0, received).find("\nDelivered-To: ");
  if (at == trace.npos)
    return {};
  const auto value = trace.substr(at + (at == 0 ? 0 : 1) + kField.size());
  return value.substr(0, value.find('\r'));
}

// The trace of the sending application, if there is one.
void add_trace(LogEvent& event, const mail::Message& message) {
  if (!message.origin.trace_parent.empty())
    event.add("traceparent", message.origin.trace_parent);
}

}  // namespace

void attempted(Log& log, const mail::Message& message, const mail::Recipient& recipient,
               const mail::Outcome& outcome, const Delays& delays, bool reused) {
  if (!log.enabled(Level::info))
    return;
  const auto total = delays.before + delays.waiting + delays.connecting + delays.sending;
  LogEvent event(Level::info, "attempted", mail::to_string(message.id));
  event.add("verdict", mail::verdict_word(outcome.verdict)).add("from", message.envelope.sender);
  event.add("to", recipient.address);
  if (const auto alias = alias_of(message); !alias.empty())
    event.add("orig_to", alias);
  event.add("relay", outcome.remote.empty() ? "none" : outcome.remote);
  event.add("delay", seconds(total)).add("delays", four(delays));
  event.add("dsn", mail::to_string(outcome.status));
  if (outcome.tls)
    event.add("tls", *outcome.tls);
  event.add("reused", reused ? "yes" : "no").add("reason", outcome.reason());
  add_trace(event, message);
  log.write(std::move(event));
}

LogEvent deferred_line(const mail::Message& message, const mail::Recipient& recipient,
                       const mail::Outcome& why) {
  LogEvent event(Level::info, "deferred", mail::to_string(message.id));
  event.add("from", message.envelope.sender).add("to", recipient.address).add("relay", "none");
  event.add("dsn", mail::to_string(why.status)).add("reason", why.reason());
  add_trace(event, message);
  return event;
}

void deferred(Log& log, const mail::Message& message, const mail::Recipient& recipient,
              const mail::Outcome& why) {
  if (log.enabled(Level::info))
    log.write(deferred_line(message, recipient, why));
}

void credentials_refused(Log& log, std::string_view site, std::string_view user,
                         const mail::Outcome& why, std::string_view detail) {
  LogEvent event(Level::error, "credentials_refused");
  event.add("site", site).add("user", user).add("reason", why.reason());
  if (!detail.empty())
    event.add("detail", detail);
  log.write(std::move(event));
}

void no_token(Log& log, std::string_view site, std::string_view user, const mail::Outcome& why) {
  LogEvent event(Level::error, "no_token");
  event.add("site", site).add("user", user).add("reason", why.reason());
  log.write(std::move(event));
}

void bounced(Log& log, const mail::Message& message, const mail::Recipient& recipient,
             const mail::Outcome& outcome) {
  LogEvent event(Level::info, "bounced", mail::to_string(message.id));
  event.add("from", message.envelope.sender).add("to", recipient.address);
  event.add("dsn", mail::to_string(outcome.status)).add("reason", outcome.reason());
  add_trace(event, message);
  log.write(std::move(event));
}

void notice_created(Log& log, const mail::Message& about, const mail::Message& notice,
                    const char* kind, std::string_view to) {
  LogEvent event(Level::info, "notice_created", mail::to_string(about.id));
  event.add("notice", mail::to_string(notice.id)).add("kind", kind).add("to", to);
  event.add("size", std::to_string(notice.content.size));
  log.write(std::move(event));
}

void sent_on(Log& log, const mail::Message& about, const mail::Message& onward) {
  const auto& envelope = onward.envelope;
  LogEvent event(Level::info, "sent_on", mail::to_string(about.id));
  event.add("message", mail::to_string(onward.id)).add("from", envelope.sender);
  event.add("nrcpt", std::to_string(envelope.recipients.size()));
  event.add("to", envelope.recipients.front().address);
  event.add("size", std::to_string(onward.content.size));
  log.write(std::move(event));
}

void address_problem(Log& log, const mail::Message& message, const mail::Recipient& recipient,
                     std::string_view problem) {
  LogEvent event(Level::warn, "address_problem", mail::to_string(message.id));
  event.add("to", recipient.address).add("problem", problem);
  log.write(std::move(event));
}

void notice_dropped(Log& log, const mail::Message& about, std::string_view to, const char* why,
                    const mail::Outcome& failure) {
  LogEvent event(Level::warn, "notice_dropped", mail::to_string(about.id));
  event.add("from", about.envelope.sender).add("to", to).add("reason", why);
  event.add("failure", failure.reason());
  log.write(std::move(event));
}

void site_blocked(Log& log, std::string_view site, const mail::Outcome& why, TimePoint until,
                  unsigned failures) {
  LogEvent event(Level::warn, "site_blocked");
  event.add("site", site).add("until", format_rfc3339(until));
  event.add("failures", std::to_string(failures)).add("reason", why.reason());
  log.write(std::move(event));
}

void site_open(Log& log, std::string_view site) {
  LogEvent event(Level::info, "site_open");
  event.add("site", site);
  log.write(std::move(event));
}

}  // namespace postrider::delivery::maillog
