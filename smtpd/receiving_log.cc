#include "smtpd/receiving_log.h"

#include "base/net/tls/tls.h"

namespace postrider::smtpd::maillog {

namespace {

std::string name_of(const IpAddress& client) {
  return client.is_none() ? "local" : client.str();
}

std::string_view first_line(std::string_view reply) {
  return reply.substr(0, reply.find('\r'));
}

const char* name_of(End end) {
  constexpr const char* names[] = {"quit", "lost", "timeout", "refused", "stopping"};
  return names[static_cast<int>(end)];
}

void add_if(LogEvent& event, const char* key, std::string_view value) {
  if (!value.empty())
    event.add(key, value);
}

void add_client(LogEvent& event, const Client& client) {
  event.add("client", name_of(client.address));
  if (client.name)
    event.add("client_name", client.name->shown());
}

}  // namespace

void connected(Log& log, std::string_view session, const Client& client, const IpAddress& proxy) {
  if (!log.enabled(Level::info))
    return;
  LogEvent event(Level::info, "connected");
  event.add("session", session);
  add_client(event, client);
  event.add("port", std::to_string(client.port));
  add_if(event, "proxy", proxy.str());
  log.write(std::move(event));
}

void rejected(Log& log, const Session& session, const Refusal& refusal) {
  if (!log.enabled(Level::info))
    return;
  LogEvent event(Level::info, "rejected");
  event.add("session", session.facts().id)
      .add("stage", refusal.stage)
      .add("reply", first_line(refusal.reply));
  add_client(event, session.facts().client);
  add_if(event, "helo", session.facts().helo);
  if (session.transaction().is_begun() || !refusal.sender.empty())
    event.add("from", refusal.sender);
  add_if(event, "to", refusal.recipient);
  event.add("protocol", protocol_of(session));
  add_if(event, "problem", refusal.problem);
  log.write(std::move(event));
}

void alias_circle(Log& log, const Session& session, const Refusal& refusal) {
  log.write(LogEvent(Level::warn, "alias_circle")
                .add("session", session.facts().id)
                .add("to", refusal.recipient));
}

LogEvent accepted(const Session& session, const mail::Message& message,
                  std::string_view header_message_id) {
  const auto& envelope = message.envelope;
  LogEvent event(Level::info, "accepted", to_string(message.id));
  event.add("session", session.facts().id);
  add_client(event, session.facts().client);
  add_if(event, "helo", session.facts().helo);
  add_if(event, "user", session.facts().client.authenticated);
  if (!session.facts().client.authenticated.empty())
    event.add("mechanism", session.facts().client.mechanism);
  event.add("protocol", message.origin.protocol);
  if (const auto* tls = session.facts().tls)
    event.add("tls", tls->protocol + ":" + tls->cipher);
  event.add("from", envelope.sender);
  event.add("nrcpt", std::to_string(envelope.recipients.size()));
  event.add("to", envelope.recipients.front().address);
  event.add("size", std::to_string(message.content.size));
  add_if(event, "message_id", header_message_id);
  add_if(event, "dsn_id", envelope.envelope_id);
  add_if(event, "traceparent", message.origin.trace_parent);
  return event;
}

void discarded(Log& log, const Session& session, mail::MessageId id) {
  if (!log.enabled(Level::info))
    return;
  const auto& envelope = session.transaction().envelope();
  LogEvent event(Level::info, "discarded", to_string(id));
  event.add("session", session.facts().id);
  add_client(event, session.facts().client);
  event.add("from", envelope.sender);
  event.add("nrcpt", std::to_string(envelope.recipients.size()));
  log.write(std::move(event));
}

// user: only what somebody claims, until they are authenticated.
void auth_ended(Log& log, const Session& session, const AuthEnd& end) {
  if (!log.enabled(Level::info))
    return;
  LogEvent event(Level::info, end.passed ? "authenticated" : "auth_failed");
  event.add("session", session.facts().id);
  add_client(event, session.facts().client);
  event.add("mechanism", end.mechanism);
  add_if(event, "user",
         end.passed ? std::string_view(session.facts().client.authenticated) : end.user);
  if (!end.passed)
    event.add("reply", first_line(end.reply));
  log.write(std::move(event));
}

void disconnected(Log& log, const Session& session, const Summary& summary) {
  if (!log.enabled(Level::info))
    return;
  LogEvent event(Level::info, "disconnected");
  event.add("session", session.facts().id);
  add_client(event, session.facts().client);
  event.add("reason", name_of(summary.end));
  event.add("commands", std::to_string(summary.commands));
  event.add("messages", std::to_string(summary.messages));
  add_if(event, "helo", session.facts().helo);
  if (summary.error.code())
    event.add("error", summary.error.describe());
  log.write(std::move(event));
}

namespace {

const char* verdict_on(const Session& session) {
  if (session.facts().tls->fingerprint.empty())
    return "none";
  return session.facts().has_trusted_certificate ? "trusted" : "unverified";
}

}  // namespace

void encrypted(Log& log, const Session& session) {
  if (!log.enabled(Level::info))
    return;
  const auto& tls = *session.facts().tls;
  LogEvent event(Level::info, "encrypted");
  event.add("session", session.facts().id);
  add_client(event, session.facts().client);
  event.add("tls_protocol", tls.protocol);
  event.add("cipher", tls.cipher).add("bits", std::to_string(tls.bits));
  add_if(event, "group", tls.group);
  event.add("resumed", tls.resumed ? "yes" : "no").add("verify", verdict_on(session));
  add_if(event, "sni", tls.sni);
  add_if(event, "alpn", tls.alpn);
  add_if(event, "certificate", tls.fingerprint);
  add_if(event, "subject", tls.peer_subject);
  log.write(std::move(event));
}

void tls_failed(Log& log, const Session& session, const TlsFacts* facts, const Error& error) {
  if (!log.enabled(Level::info))
    return;
  LogEvent event(Level::info, "tls_failed");
  event.add("session", session.facts().id);
  add_client(event, session.facts().client);
  if (facts != nullptr)
    add_if(event, "sni", facts->sni);
  event.add("error", error.describe());
  log.write(std::move(event));
}

std::string tls_summary(const Session& session) {
  const auto* tls = session.facts().tls;
  if (tls == nullptr)
    return {};
  std::string text = "using " + tls->protocol + " with cipher " + tls->cipher + " " +
                     std::to_string(tls->bits) + " bits";
  if (tls->fingerprint.empty())
    return text.append(", no client certificate");
  return text.append(", client certificate ").append(verdict_on(session));
}

void turned_away(Log& log, const IpAddress& client, std::string_view reason,
                 std::string_view reply) {
  if (!log.enabled(Level::info))
    return;
  LogEvent event(Level::info, "turned_away");
  event.add("client", name_of(client)).add("reason", reason).add("reply", first_line(reply));
  log.write(std::move(event));
}

void trouble(Log& log, std::string_view session, std::string_view what, const Error& error) {
  LogEvent event(Level::warn, "trouble");
  add_if(event, "session", session);
  event.add("what", what).add("error", error.describe());
  log.write(std::move(event));
}

void listening(Log& log, std::string_view address, const ListenerSettings& settings) {
  LogEvent event(Level::info, "listening");
  event.add("address", address).add("role", settings.role == Role::mx ? "mx" : "submission");
  event.add("tls", settings.tls == TlsStart::never      ? "off"
                   : settings.tls == TlsStart::starttls ? "starttls"
                                                        : "implicit");
  log.write(std::move(event));
}

}  // namespace postrider::smtpd::maillog
