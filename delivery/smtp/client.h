// One SMTP or LMTP conversation, sending side, without the socket.
//
//   greeting --220--> EHLO --250--> ready --begin()--> MAIL RCPT.. DATA|BDAT content --> ready
//                       `--5xx--> HELO --'              failure, 421, loss anywhere --> closing
//
// Between EHLO and ready: STARTTLS, the handshake by the driver and EHLO again, as Security::tls
// demands; then AUTH, with credentials. What was learned in clear is forgotten after the handshake,
// and bytes that came in clear behind the reply to STARTTLS end the conversation (attacks.md T08).
//
// The driver sends what take_output() gives, feeds what arrives, and collects what has ended. Every
// reply is matched with the command that it answers; a reply that nothing asked for means that the
// conversation is out of step, and then nothing more is believed (attacks.md M17, P).
//
// With PIPELINING an envelope goes out in one piece; with CHUNKING too, a small message goes out
// whole, behind its envelope. Nothing is written behind the end of a message before its reply has
// been read: RFC 2920 would allow the next envelope there, but there are hosts that answer it with
// 503, hang up, or never see it, and what they say then is no verdict on the next message.
#pragma once

#include "base/result.h"
#include "delivery/auth/sasl_client.h"
#include "delivery/job/job.h"
#include "delivery/smtp/compatibility.h"
#include "delivery/tls/tls_policy.h"
#include "mail/reply.h"

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::delivery {

enum class Dialect : std::uint8_t { smtp, lmtp };

// Content on its way: by DATA (dots doubled, ended by ".") or by BDAT (as it is).
struct Body {
  std::shared_ptr<const mail::Message> message;
  std::shared_ptr<const std::string> converted;  // all of it, trace included; null: as it came
  bool chunked = false;
  bool has_leading_dot = true;  // false: nothing to double; only known for content in memory
};

// What to send: text, then the body, if there is one.
struct Piece {
  std::string text;
  std::optional<Body> body;
};

// How a conversation is protected.
struct Security {
  TlsDemand tls = no_tls();
  // Of the handshake that broke on the connection before; then this one stays in clear.
  std::optional<TlsAttempt> broken;
  std::shared_ptr<const Credentials> credentials;  // null: no AUTH
  SaslContext sasl;                                // is_private: of the connection itself
  static TlsDemand no_tls();
};

class Client {
 public:
  // remote: "mx1.example.org[192.0.2.1]:25", for outcomes.
  Client(std::string hostname, std::string remote, Dialect dialect, Security security = {});
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // --- bytes ---
  // An error means out of step or a violated limit: call lost() with it and close.
  Result<void> feed(std::string_view bytes);
  bool has_output() const { return !output_.empty(); }
  std::vector<Piece> take_output() { return std::exchange(output_, {}); }
  // The body of the piece sent first has been written to its end.
  void body_written();
  // The body being sent turned out to be unsendable: its recipients end like this, and the
  // connection must be closed, for the content is cut short.
  void abandon_body(const mail::Outcome& outcome);
  // The connection is gone, or no longer of use. Everything open ends.
  void lost(const Error& error);

  // --- protection: what the driver must do before it reads on ---
  bool wants_handshake() const { return state_ == State::handshake; }
  // How it ended: done or broken.
  void on_handshake(TlsAttempt attempt);
  // A challenge waits: call sasl().step(challenge()), which may take long, then answer().
  bool wants_sasl_step() const { return state_ == State::challenged; }
  std::shared_ptr<SaslClient> sasl() const { return sasl_; }
  const std::string& challenge() const { return challenge_; }
  void answer(Result<std::string> response);
  // For SCRAM-SHA-256-PLUS; before on_handshake().
  void set_channel_binding(std::string tls_exporter) {
    security_.sasl.channel_binding = std::move(tls_exporter);
  }

  // --- messages ---
  bool is_ready() const { return state_ == State::ready; }
  bool is_idle() const { return is_ready() && open_.empty() && expected_.empty(); }
  // The conversation is over: close, after a polite QUIT if may_quit().
  bool is_closing() const { return state_ == State::closing; }
  bool may_quit() const { return may_quit_; }
  // Room for one more message. False for ever once the remote's MAILMAX is reached.
  bool can_begin() const;
  bool is_spent() const;
  // BDAT was announced, and is not known there: the message may be tried by DATA on a new
  // connection, for what was sent as a chunk may have been read as commands.
  bool is_chunking_refused() const { return chunking_refused_; }
  void never_chunk() { may_chunk_ = false; }  // before the answer to EHLO
  // Requires can_begin(). converted: the content in 7 bits, when fitting() asked for it.
  void begin(Job job, std::shared_ptr<const std::string> converted);
  Compatibility fitting(const Job& job) const;
  std::vector<JobEnd> take_ended() { return std::exchange(ended_, {}); }
  // Outcomes that stand while other recipients of their message are still waited for. They do not
  // come again with the end of the job.
  std::vector<JobEnd> take_settled();
  // Queues QUIT. Requires is_idle().
  void quit();
  bool is_quitting() const { return quitting_; }

  // --- facts ---
  // What is waited for now; nothing while idle.
  std::optional<mail::Stage> stage() const;
  // Why a conversation that never became ready failed.
  const mail::Outcome& failure() const { return failure_; }
  const TlsDemand& tls_demand() const { return security_.tls; }
  const TlsAttempt& tls_attempt() const { return tls_attempt_; }
  const TlsVerdict& tls_verdict() const { return tls_verdict_; }
  bool is_tls_settled() const { return tls_state_ != nullptr; }  // the three are set
  // TLS was a wish, the handshake was good, and then the connection broke without a word.
  bool is_cut_off() const { return cut_off_; }
  // TLS was a wish, and the host has not shown yet that it can speak it: no reply since STARTTLS.
  bool is_tls_unsure() const;
  // Our user and password were not accepted: the mechanism and the reply are in failure().
  bool is_auth_refused() const { return auth_refused_; }
  const std::string& auth_detail() const { return auth_detail_; }  // SaslClient::refusal()
  const std::string& helo() const { return helo_; }                // how the remote calls itself
  bool takes_no_mail() const { return takes_no_mail_; }            // RFC 7504: 521 in the greeting
  const Capabilities& capabilities() const { return capabilities_; }
  const std::string& remote() const { return remote_; }
  std::uint32_t messages() const { return messages_; }  // begun so far
  std::uint64_t replies() const { return replies_; }    // read so far: a sign of life

 private:
  enum class State : std::uint8_t { opening, handshake, challenged, ready, closing };
  enum class Command : std::uint8_t {
    greeting,
    ehlo,
    helo,
    starttls,
    auth,
    rset,
    mail,
    rcpt,
    data,
    body_end,
    quit
  };
  struct Transaction;
  struct Expected {
    Command command;
    Transaction* transaction;
    std::size_t position;  // in the transaction's recipients; kAll: every accepted one
  };

  void say(std::string_view text);
  std::string& tail();
  void expect(Command command, Transaction* transaction = nullptr, std::size_t position = 0);
  Result<void> on_reply(const mail::Reply& reply);
  Result<void> on_session_reply(Command command, const mail::Reply& reply);
  void on_greeting(const mail::Reply& reply);
  void on_hello(Command command, const mail::Reply& reply);
  void fail_session(mail::Stage stage, const mail::Reply& reply);
  bool is_for_one_recipient(const mail::Reply& reply) const;
  void become_ready();

  // client_security.cc
  void say_hello();
  void secure();
  void authenticate();
  std::string pick_mechanism() const;
  std::string why_not_private() const;
  void start_mechanism(const std::string& name);
  void on_challenge(const mail::Reply& reply);
  void on_authenticated();
  void on_starttls(const mail::Reply& reply);
  void on_auth(const mail::Reply& reply);
  void settle_tls(TlsAttempt attempt);
  bool is_waiting_for_tls() const;
  void give_up_tls(std::string why);
  void fail_tls();
  void fail_auth(mail::EnhancedCode status, const std::string& text);

  void advance();
  void start(Transaction& transaction);
  void send_rcpt(Transaction& transaction, std::size_t position);
  void send_data_or_chunk(Transaction& transaction);
  void send_body(Transaction& transaction);
  void expect_body_end(Transaction& transaction);
  bool may_be_of_another_mind(mail::Stage stage, const mail::Reply& reply) const;
  void on_mail(Transaction& transaction, const mail::Reply& reply);
  void on_rcpt(Transaction& transaction, std::size_t position, const mail::Reply& reply);
  void on_envelope_answered(Transaction& transaction);
  Result<void> on_data(Transaction& transaction, const mail::Reply& reply);
  Result<void> on_body_end(Transaction& transaction, std::size_t position,
                           const mail::Reply& reply);
  void refuse_chunking(Transaction& transaction, const mail::Reply& reply);
  void finish_round(Transaction& transaction);
  void end(Transaction& transaction);
  void end_all(const mail::Outcome& why);
  static mail::Stage stage_of(Command command);

  std::string hostname_;
  std::string remote_;
  Dialect dialect_;
  Security security_;
  State state_ = State::opening;
  TlsAttempt tls_attempt_;
  TlsVerdict tls_verdict_;
  std::shared_ptr<const std::string> tls_state_;  // null: not settled yet
  std::string helo_;
  std::shared_ptr<SaslClient> sasl_;
  std::vector<std::string> refused_mechanisms_;
  std::string challenge_;
  std::optional<std::string> initial_;  // too long for the line of AUTH: waits for a challenge
  std::string sasl_failure_;            // why we cancelled
  bool authenticated_ = false;
  bool auth_refused_ = false;
  std::string auth_detail_;
  bool cut_off_ = false;
  bool may_chunk_ = true;
  bool chunking_refused_ = false;
  bool may_quit_ = true;
  bool takes_no_mail_ = false;
  bool dirty_ = false;  // the remote may still hold a transaction: RSET before the next MAIL
  Capabilities capabilities_;
  mail::Outcome failure_;
  mail::ReplyParser parser_;
  std::vector<Piece> output_;
  std::deque<Expected> expected_;
  std::deque<std::unique_ptr<Transaction>> open_;
  std::optional<mail::Outcome> dismissed_;  // a 421 came before the last of LMTP's replies
  std::deque<Transaction*> writing_;  // whose bodies are queued, in order; null: already ended
  std::vector<JobEnd> ended_;
  std::uint32_t messages_ = 0;
  bool has_carried_ = false;  // a message that was taken
  std::uint64_t replies_ = 0;
  bool quitting_ = false;
};

}  // namespace postrider::delivery
