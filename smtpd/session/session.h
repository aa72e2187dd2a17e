// One SMTP conversation, server side, without the socket (RFC 5321; pure: no clock, no I/O, no
// log). A line goes in, a step comes out: the reply, and what the driver must do next.
//
//   start --EHLO--> ready --MAIL--> sender --RCPT--> recipients --DATA--> (content) --> ready
//                                                        |
//                                                        +--BDAT--> chunks --BDAT LAST--> ready
//                                       a refused chunk:  chunks --> failed --RSET--> ready
//   ready --STARTTLS--> (handshake) --> start, with nothing known of the client but its address
//
// RSET and a new EHLO or HELO return to ready; QUIT, NOOP, HELP and VRFY change nothing. What was
// said since MAIL is the transaction, a struct of its own, replaced as a whole. A refused command
// changes nothing but the error counts.
#pragma once

#include "mail/body_reader.h"
#include "mail/envelope.h"
#include "mail/smtp_command.h"
#include "smtpd/auth/auth_exchange.h"
#include "smtpd/auth/authenticator.h"
#include "smtpd/session/filter_verdict.h"
#include "smtpd/session/policy.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace postrider {
struct TlsFacts;
}

namespace postrider::smtpd {

// What the world is like, as far as a session cares. The driver keeps it up to date.
// refused: the header names an author who is somebody else.
enum class Storage : std::uint8_t { open, no_room, failed, refused };
struct Conditions {
  Storage storage = Storage::open;
  bool stopping = false;  // finish what is begun, begin nothing
  bool stressed = false;  // slots run low: no patience with strangers
  bool crowded = false;   // the client has its share of the memory: no more recipients now
};

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
  enum class State : std::uint8_t { start, ready, sender, recipients, chunks, failed };
  enum class Next : std::uint8_t {
    read_command,
    read_data,   // content up to CRLF.CRLF, then on_content_end()
    read_chunk,  // chunk_size() octets, then on_content_end()
    skip_chunk,  // chunk_size() octets that nobody wants, then the reply
    store,       // take custody of the message, then on_stored()
    ask,         // question() goes to the authenticator, then on_answer()
    look_up,     // address_question() to whoever may take long, then on_looked_up(); no reply yet
    filter,      // filter_stage() to the filters, then on_filtered(); no reply yet
    start_tls,   // the reply, then a handshake and on_tls(), or the end; nothing may wait unread
    hang_up,
  };
  // reply: for the wire, may be empty; good until the next call.
  struct Step {
    std::string_view reply;
    Next next = Next::read_command;
  };
  // What became of the content, beside its own facts.
  struct Content {
    mail::BodyFacts facts;
    bool too_large = false;
    bool header_too_large = false;
    std::size_t received_fields = 0;
    Storage storage = Storage::open;  // of the spool file of a large message
  };

  // id: of the session, in replies that are our fault. observer may be null.
  Session(std::shared_ptr<const Policy> policy, Client client, Role role, std::string id,
          Observer* observer);

  Conditions& conditions() { return conditions_; }

  Step greet();
  // line: without CRLF. more_follows: further octets have arrived behind it.
  Step on_line(std::string_view line, bool more_follows);
  // A line that is none: too long, bare LF, a foreign protocol. Counted as an error.
  Step on_bad_line(std::string_view reply, bool hang_up);
  // DATA's end, or the end of a chunk.
  Step on_content_end(const Content& content);
  // Whether the authors that a header section names may be checked, and may all be this client's:
  // From and Sender, every address in them, by the sender map.
  bool checks_authors() const;
  bool may_write_as(std::string_view header_section) const;
  // Storage::open: the message is safe.
  Step on_stored(Storage result, mail::MessageId id);
  // To question(), after Next::ask.
  Step on_answer(const auth::Answer& answer);

  // The policy's answer to address_question(), after Next::look_up. None: it took too long.
  Step on_looked_up(std::optional<Policy::Answer> answer);

  // Where Next::filter is wanted: before a command is answered that the session accepts.
  void set_filtered(filter::Stages stages) { filtered_ = stages; }
  filter::Stage filter_stage() const { return held_->stage; }
  Step on_filtered(filter::Verdict verdict);
  // The message that was to be stored is refused by a filter, or thrown away with a reply as if it
  // were stored.
  Step on_refused(filter::Verdict verdict);

  // STARTTLS is offered, until on_tls().
  void offer_starttls() { offers_starttls_ = true; }
  // The handshake is done: before greet(), or after Next::start_tls. RFC 3207 §4.2: what was said
  // in clear is forgotten. The facts outlive the session.
  void on_tls(const TlsFacts& facts, auth::Channel channel);
  // Null: in clear.
  const TlsFacts* tls() const { return tls_; }
  // The client's certificate is one of those that may relay.
  bool has_trusted_certificate() const { return has_trusted_certificate_; }
  // What the driver knows of the connection below; before greet(), and again after a handshake.
  void set_channel(auth::Channel channel) { channel_ = std::move(channel); }
  const auth::Channel& channel() const { return channel_; }
  // AUTH has begun and not ended.
  bool is_authenticating() const { return dialogue_ != nullptr; }
  // Of memory, as far as the client's part of it makes it grow.
  std::size_t authentication_octets() const { return dialogue_ ? dialogue_->octets() : 0; }
  const auth::Question& question() const;
  const std::string& auth_mechanism() const { return auth_mechanism_; }
  const Policy::Question& address_question() const { return asking_->question; }
  // The longest command line, with CRLF, that can be of use now.
  std::uint32_t line_limit() const;

  State state() const { return state_; }
  const Policy& policy() const { return *policy_; }
  const Client& client() const { return client_; }
  void set_client_name(ClientName name) { client_.name = std::move(name); }
  Role role() const { return role_; }
  const std::string& id() const { return id_; }
  const std::string& helo() const { return helo_; }
  bool has_quit() const { return has_quit_; }
  bool in_transaction() const { return state_ >= State::sender; }
  // The keyword of RFC 3848 and 6531 for Received.
  std::string protocol() const;
  std::uint64_t chunk_size() const { return chunk_size_; }
  bool last_chunk() const { return last_chunk_; }
  std::uint64_t declared_size() const { return transaction_.declared_size; }
  const mail::Envelope& envelope() const { return transaction_.envelope; }
  // Of memory, as far as recipients make it grow.
  std::size_t envelope_octets() const { return transaction_.octets; }
  mail::Envelope take_envelope() { return std::move(transaction_.envelope); }
  // For filters, before the message is stored.
  mail::Envelope& envelope_to_change() { return transaction_.envelope; }

 private:
  // A command that is accepted, while the filters are asked.
  struct Held {
    filter::Stage stage;
    std::string_view verb;
    std::string argument;
    std::string reply;
    Next next = Next::read_command;
    bool adds_recipient = false;
  };
  struct Transaction {
    mail::Envelope envelope;
    std::uint64_t declared_size = 0;
    std::uint32_t recipients_refused = 0;
    std::uint32_t recipients_beyond = 0;  // the limit
    std::size_t octets = 0;               // of the recipients
  };
  // MAIL or RCPT, while it is looked up.
  struct Asking {
    Policy::Question question;
    mail::MailCommand mail;  // without its sender
    std::string argument;
  };
  static constexpr std::uint8_t kEndsGroup = 1;  // RFC 2920 §3.1: nothing may follow in the group
  static constexpr std::uint8_t kIsJunk = 2;     // does not move mail: limited in number
  static constexpr std::uint8_t kMay8Bit = 4;    // reads its own octets above 127
  static constexpr std::uint8_t kAlways = 8;     // even while stopping
  struct Command {
    std::string_view verb;
    std::uint8_t allowed_in;   // bits of State
    std::string_view refusal;  // reply when not allowed now
    Step (Session::*handle)(std::string_view arguments);
    std::uint8_t traits;
  };
  static const Command kCommands[];
  static const Command* find(std::string_view verb);

  Step on_ehlo(std::string_view arguments);
  Step on_helo(std::string_view arguments);
  Step on_mail(std::string_view arguments);
  Step on_rcpt(std::string_view arguments);
  Step on_data(std::string_view arguments);
  Step on_bdat(std::string_view arguments);
  Step on_rset(std::string_view arguments);
  Step on_noop(std::string_view arguments);
  Step on_vrfy(std::string_view arguments);
  Step on_help(std::string_view arguments);
  Step on_quit(std::string_view arguments);
  Step on_auth(std::string_view arguments);
  Step on_starttls(std::string_view arguments);
  Step on_not_offered(std::string_view arguments);

  Step run(const Command& command, std::string_view arguments, bool more_follows);
  Step greeted(std::string_view arguments, bool extended);
  Step refuse(const mail::Reply& reply);
  Step look_up(Policy::Question question, mail::MailCommand mail, std::string_view argument);
  Step judged_sender(mail::MailCommand& mail, Policy::Answer& answer);
  Step judged_recipient(mail::Recipient& recipient, Policy::Answer& answer);
  // A reply that ends with the session's id, because the fault may be ours.
  // A temporary refusal of our own making; `problem` is for the log.
  Step ours(std::string_view text, std::string problem = {});
  std::string_view content_refusal(const Content& content);
  // The one place that counts and reports refusals, and ends a session that has too many.
  Step judged(Step step, std::string_view stage, std::string_view argument);
  bool is_out_of_patience() const;
  Step held(Step step, std::string_view verb, std::string_view argument);
  void take_back(const Held& held);

  // session_auth.cc
  auth::Authenticator* gate() const;  // null: AUTH is not offered here
  std::string_view with_auth(const std::string& ehlo_reply);
  Step on_auth_line(std::string_view line, bool more_follows);
  Step on_auth_step(auth::AuthExchange::Step step);
  std::string_view submission_refusal(std::string_view sender);
  std::string_view count_message();
  std::string_view recipient_refusal(std::string_view recipient);
  std::string_view limit_refusal(std::string_view limit);
  void reset();  // the transaction

  std::shared_ptr<const Policy> policy_;
  Client client_;
  Role role_;
  State state_ = State::start;
  bool extended_ = false;  // EHLO, not HELO
  bool has_quit_ = false;
  std::uint32_t errors_ = 0;
  std::uint32_t junk_ = 0;
  std::uint64_t chunk_size_ = 0;  // of the BDAT at hand
  bool last_chunk_ = false;
  Conditions conditions_;
  std::string id_;
  std::string helo_;
  std::string scratch_;  // the reply at hand, when it had to be composed
  Observer* observer_;
  Transaction transaction_;
  const TlsFacts* tls_ = nullptr;
  bool offers_starttls_ = false;
  bool has_trusted_certificate_ = false;
  auth::Channel channel_;
  std::unique_ptr<Asking> asking_;
  filter::Stages filtered_ = 0;
  std::unique_ptr<Held> held_;
  bool added_recipient_ = false;                  // by the RCPT at hand
  std::unique_ptr<auth::AuthExchange> dialogue_;  // while AUTH is under way
  std::string auth_mechanism_;                    // the last one asked for
  std::uint32_t auth_failures_ = 0;
  std::string problem_;         // of the refusal at hand
  bool auth_reported_ = false;  // the refusal at hand, as the end of an AUTH
};

}  // namespace postrider::smtpd
