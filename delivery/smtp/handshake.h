// The beginning of a conversation, up to where messages may be sent.
//
//   opening --220, EHLO 250--> [STARTTLS 220 --> handshaking --> EHLO] --> [AUTH <--> challenged]
//   --> ready
//      `---------------- a refusal, or TLS or AUTH that must be and cannot ----------------> failed
//
// EHLO that is refused for good is followed by HELO. With TLS at once the handshake comes first.
// What was learned in clear is forgotten after the handshake, and bytes that came in clear behind
// the reply to STARTTLS end the conversation (attacks.md T08).
#pragma once

#include "base/result.h"
#include "delivery/auth/sasl_client.h"
#include "delivery/smtp/client_wire.h"
#include "delivery/smtp/compatibility.h"
#include "delivery/tls/tls_policy.h"
#include "mail/reply.h"

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace postrider::delivery {

// How a conversation is protected.
struct Security {
  TlsDemand tls = no_tls();
  // Of the handshake that broke on the connection before; then this one stays in clear.
  std::optional<TlsAttempt> broken;
  std::shared_ptr<const Credentials> credentials;  // null: no AUTH
  SaslContext sasl;                                // is_private: of the connection itself
  static TlsDemand no_tls();
};

class Handshake {
 public:
  enum class State : std::uint8_t { opening, handshaking, challenged, ready, failed };

  // The wire outlives it.
  Handshake(ClientWire& wire, std::string hostname, std::string remote, Dialect dialect,
            Security security);

  State state() const { return state_; }
  void on_reply(Command command, const mail::Reply& reply);
  void on_tls(TlsAttempt attempt);  // requires: handshaking
  void set_channel_binding(std::string tls_exporter) {
    security_.sasl.channel_binding = std::move(tls_exporter);
  }
  void answer(Result<std::string> response);  // requires: challenged
  void never_chunk() { may_chunk_ = false; }
  // STARTTLS was said and is not answered: the connection's end is an answer, too.
  bool is_waiting_for_tls() const;
  void give_up_tls(std::string why);

  // --- facts ---
  const mail::Outcome& failure() const { return failure_; }
  bool may_quit() const { return may_quit_; }
  const Capabilities& capabilities() const { return capabilities_; }
  const TlsDemand& tls_demand() const { return security_.tls; }
  const TlsAttempt& tls_attempt() const { return tls_attempt_; }
  const TlsVerdict& tls_verdict() const { return tls_verdict_; }
  const std::shared_ptr<const std::string>& tls_state() const { return tls_state_; }
  bool is_tls_a_wish() const { return !security_.tls.needs_tls() && !security_.tls.implicit; }
  bool is_tls_unsure() const;
  const std::shared_ptr<SaslClient>& sasl() const { return sasl_; }
  const std::string& challenge() const { return challenge_; }
  bool is_auth_refused() const { return auth_refused_; }
  const std::string& auth_detail() const { return auth_detail_; }
  const std::string& helo() const { return helo_; }
  bool takes_no_mail() const { return takes_no_mail_; }

 private:
  void on_greeting(const mail::Reply& reply);
  void say_hello();
  void on_hello(Command command, const mail::Reply& reply);
  void secure();
  void on_starttls(const mail::Reply& reply);
  void settle_tls(TlsAttempt attempt);
  void fail_tls();
  void authenticate();
  std::string pick_mechanism() const;
  std::string why_not_private() const;
  void start_mechanism(const std::string& name);
  void on_auth(const mail::Reply& reply);
  void on_challenge(const mail::Reply& reply);
  void on_authenticated();
  void fail_auth(mail::EnhancedCode status, const std::string& text);
  void fail(mail::Outcome why);

  ClientWire& wire_;
  std::string hostname_;
  std::string remote_;
  Dialect dialect_;
  Security security_;
  State state_ = State::opening;
  TlsAttempt tls_attempt_;
  TlsVerdict tls_verdict_;
  std::shared_ptr<const std::string> tls_state_;  // null: not settled yet
  std::string helo_;
  Capabilities capabilities_;
  std::shared_ptr<SaslClient> sasl_;
  std::vector<std::string> refused_mechanisms_;
  std::string challenge_;
  std::optional<std::string> initial_;  // too long for the line of AUTH: waits for a challenge
  std::string sasl_failure_;            // why we cancelled
  std::string auth_detail_;
  bool authenticated_ = false;
  bool auth_refused_ = false;
  bool may_chunk_ = true;
  bool may_quit_ = true;
  bool takes_no_mail_ = false;
  mail::Outcome failure_;
};

}  // namespace postrider::delivery
