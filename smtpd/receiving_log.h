// The mail log of the receiving side: one function per event. Event names and keys are an
// interface (formats, log watchers, the manual page): changing one is a breaking change.
//
// event         id        keys
// connected     session   client port [proxy]
// encrypted     session   client tls_protocol cipher bits [group] resumed verify [sni] [alpn]
//                         [certificate subject]
// tls_failed    session   client [sni] error
// alias_circle  session   to (warn)
// rejected      session   stage reply client [helo] [from] [to] protocol
// accepted      message   session client [helo] [user mechanism] protocol from nrcpt [to] size
//                         [message_id] [dsn_id] [traceparent]
// discarded     message   session client from nrcpt        (taken and thrown away, by a filter)
// disconnected  session   client reason commands messages [helo] [error]
// turned_away   -         client reason reply
// authenticated session   client mechanism user
// auth_failed   session   client mechanism [user] reply
// log_limited   -         event suppressed                              (more than is written)
// trouble       session   what error                                    (warn: ours, not theirs)
// listening     -         address role tls                              (at start)
//
// client: "192.0.2.1", "2001:db8::1" or "local"; behind it client_name, once it was looked up: the
// name that leads back to the address, or "unknown". stage: the verb,
// CONNECT, END-OF-MESSAGE or UNKNOWN. reply: the first line as sent, without CRLF. from and to: the
// addresses without brackets, from empty for the null sender; of `rejected` they may be malformed.
// verify: of the client's certificate: none, unverified, trusted (in accept.relay_certificates);
// certificate: its SHA-256; subject: its common name.
// to of `accepted` is the first recipient. message_id: the header's, with its brackets.
// traceparent: W3C Trace Context, of those who may relay.
// reason: quit, lost, timeout, refused, stopping. commands: lines read; error: why it was lost.
#pragma once

#include "base/log.h"
#include "mail/message.h"
#include "smtpd/server_settings.h"
#include "smtpd/session/session.h"

#include <string_view>

namespace postrider::smtpd::maillog {

void connected(Log& log, std::string_view session, const Client& client, const IpAddress& proxy);
void rejected(Log& log, const Session& session, const Refusal& refusal);
void alias_circle(Log& log, const Session& session, const Refusal& refusal);
// Made before the message is stored, written once it is.
LogEvent accepted(const Session& session, const mail::Message& message,
                  std::string_view header_message_id);

void discarded(Log& log, const Session& session, mail::MessageId id);

void auth_ended(Log& log, const Session& session, const AuthEnd& end);

enum class End : std::uint8_t { quit, lost, timeout, refused, stopping };
struct Summary {
  End end = End::lost;
  std::uint64_t commands = 0;
  std::uint64_t messages = 0;
  Error error;  // if it was lost
};
void disconnected(Log& log, const Session& session, const Summary& summary);
void turned_away(Log& log, const IpAddress& client, std::string_view reason,
                 std::string_view reply);
void trouble(Log& log, std::string_view session, std::string_view what, const Error& error);
void listening(Log& log, std::string_view address, const ListenerSettings& settings);
void encrypted(Log& log, const Session& session);
void tls_failed(Log& log, const Session& session, const TlsFacts* facts, const Error& error);
// "using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256 bits), client certificate trusted": for
// Received and for the listing. Empty in clear.
std::string tls_summary(const Session& session);

}  // namespace postrider::smtpd::maillog
