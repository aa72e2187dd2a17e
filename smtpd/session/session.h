// One SMTP conversation, server side, without the socket (RFC 5321; pure: no clock, no I/O, no
// log). A line goes in, a step comes out: the reply, and what the driver must do next.
//
//   start --EHLO--> ready --MAIL--> sender --RCPT--> recipients --DATA--> (content) --> ready
//                                                        |
//                                                        +--BDAT--> chunks --BDAT LAST--> ready
//                                       a refused chunk:  chunks --> failed --RSET--> ready
//   ready --STARTTLS--> (handshake) --> start, with nothing known of the client but its address
//
// RSET and a new EHLO or HELO return to ready; QUIT, NOOP, HELP and VRFY change nothing. A refused
// command changes nothing but the error counts.
//
// The session keeps the order of commands and what is known of the client, SessionFacts. Each of
// its parts owns one subject: SessionTransaction what was said since MAIL, SessionLogin the AUTH
// exchange, FilterGate the command that waits for the filters, Patience the counts of errors.
#pragma once

#include "smtpd/session/command_rules.h"
#include "smtpd/session/composed_reply.h"
#include "smtpd/session/filter_gate.h"
#include "smtpd/session/patience.h"
#include "smtpd/session/session_facts.h"
#include "smtpd/session/session_login.h"
#include "smtpd/session/session_step.h"
#include "smtpd/session/session_transaction.h"

#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace postrider::smtpd {

// A command or a message was refused. The views live as long as the call.
struct Refusal {
  std::string_view stage;         // the verb, "END-OF-MESSAGE", "CONNECT" or "UNKNOWN"
  std::string_view reply;         // as sent
  std::string_view sender;        // of the transaction; for MAIL: what it named, unchecked
  std::string_view recipient;     // for RCPT: what it named, unchecked
  std::string_view problem = {};  // ours, for the log alone
};

// An AUTH has ended. The views live as long as the call.
struct AuthEnd {
  std::string_view mechanism;
  std::string_view user;   // as claimed, unchecked; may be empty
  std::string_view reply;  // as sent
  bool passed = false;
};

class Observer {
 public:
  virtual ~Observer() = default;
  virtual void authenticated(const AuthEnd&) {}
  virtual void refused(const Refusal& refusal) = 0;
};

class Session {
 public:
  using State = SessionState;
  using Next = smtpd::Next;
  using Step = smtpd::Step;

  // id: of the session, in replies that are our fault. observer may be null.
  Session(std::shared_ptr<const Policy> policy, Client client, Role role, std::string id,
          Observer* observer);

  Conditions& conditions() { return conditions_; }
  // STARTTLS is offered, until on_tls().
  void offer_starttls() { facts_.offers_starttls = true; }
  // What the driver knows of the connection below; before greet().
  void set_channel(auth::Channel channel) { login_.set_channel(std::move(channel)); }
  // Where Next::filter is wanted: before a command is answered that the session accepts.
  void set_filtered(filter::Stages stages) { filter_gate_.set_stages(stages); }
  // As soon as it is known.
  void set_client_name(ClientName name) { facts_.client.name = std::move(name); }

  Step greet();
  // line: without CRLF. more_follows: further octets have arrived behind it.
  Step on_line(std::string_view line, bool more_follows);
  // A line that is none: too long, bare LF, a foreign protocol. Counted as an error.
  Step on_bad_line(std::string_view reply, bool hang_up);
  // DATA's end, or the end of a chunk.
  Step on_content_end(const ContentSummary& content);
  // Storage::open: the message is safe.
  Step on_stored(Storage result, mail::MessageId id);
  // The message that was to be stored is refused by a filter, or thrown away with a reply as if it
  // were stored.
  Step on_refused(filter::Verdict verdict);
  // After Next::ask, to the login's question().
  Step on_answer(const auth::Answer& answer);
  // After Next::look_up, to the transaction's question(). None: it took too long.
  Step on_looked_up(std::optional<Policy::Answer> answer);
  // After Next::filter.
  Step on_filtered(filter::Verdict verdict);
  // The handshake is done: before greet(), or after Next::start_tls. RFC 3207 §4.2: what was said
  // in clear is forgotten. tls outlives the session.
  void on_tls(const TlsFacts& tls, auth::Channel channel);

  const SessionFacts& facts() const { return facts_; }
  State state() const;
  bool has_quit() const { return has_quit_; }
  const SessionTransaction& transaction() const { return transaction_; }
  // For filters, and for whoever takes the message.
  mail::Envelope& envelope_to_change() { return transaction_.envelope_to_change(); }
  const SessionLogin& login() const { return login_; }
  const FilterGate& filter_gate() const { return filter_gate_; }

 private:
  Step run(const CommandRule& command, std::string_view arguments, bool more_follows);
  Step carry_out(Verb verb, std::string_view arguments);
  Step greeted(std::string_view arguments, bool is_extended);
  std::string future_release_offer() const;
  Step on_login_line(std::string_view line, bool more_follows);
  Step after_login(SessionLogin::Outcome outcome);
  Step count_and_report(Step step, std::string_view stage, std::string_view argument);
  SessionTransaction::Around around() { return {facts_, conditions_, reply_}; }

  SessionFacts facts_;
  Conditions conditions_;
  Observer* observer_;
  bool is_greeted_ = false;  // by EHLO or HELO
  bool has_quit_ = false;
  bool is_reported_ = false;  // the refusal at hand, as the end of an AUTH
  Patience patience_;
  ComposedReply reply_;
  SessionTransaction transaction_;
  SessionLogin login_;
  FilterGate filter_gate_;
};

// The keyword of RFC 3848 and 6531 for Received.
std::string protocol_of(const Session& session);

}  // namespace postrider::smtpd
