// The AUTH command of one session (RFC 4954): where it is offered, the exchange under way, and how
// often it has failed (pure). Who has logged in stands in the session's facts.
#pragma once

#include "smtpd/auth/auth_exchange.h"
#include "smtpd/auth/authenticator.h"
#include "smtpd/session/session_facts.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace postrider::smtpd {

class SessionLogin {
 public:
  enum class Kind : std::uint8_t {
    refused,  // AUTH may not begin; the reply says why
    reply,    // of the exchange, which goes on
    ask,      // question() goes to the authenticator; no reply
    passed,   // `user` has logged in
    failed,   // without success
  };
  struct Outcome {
    Kind kind = Kind::refused;
    std::string reply = {};    // with CRLF
    std::string user = {};     // of passed
    std::string claimed = {};  // of an end: who tried, unchecked; may be empty
    bool is_last = false;      // of failed: it has failed too often
  };

  // What the driver knows of the connection below.
  void set_channel(auth::Channel channel) { channel_ = std::move(channel); }
  const auth::Channel& channel() const { return channel_; }

  // "250-AUTH PLAIN LOGIN" with CRLF; empty: it is not offered to this client now.
  std::string offer(const SessionFacts& facts) const;
  // The longest command line, with CRLF, that can be of use now.
  std::uint32_t line_limit(const SessionFacts& facts) const;

  // arguments: of AUTH. is_allowed: after EHLO, and not within a transaction.
  Outcome begin(std::string_view arguments, const SessionFacts& facts, bool is_allowed);
  // While it is under way: the client's answer to 334, and the authenticator's to question().
  Outcome on_line(std::string_view line);
  Outcome on_answer(const auth::Answer& answer);
  // Ends without a verdict. False: none was under way.
  bool drop();

  bool is_under_way() const { return exchange_ != nullptr; }
  // Requires: on_line() or begin() has asked.
  const auth::Question& question() const;
  // The last one asked for, in capitals.
  const std::string& mechanism() const { return mechanism_; }
  // Of memory, as far as the client's part of it makes it grow.
  std::size_t octets() const { return exchange_ ? exchange_->octets() : 0; }

 private:
  Outcome outcome_of(auth::AuthExchange::Step step);

  auth::Channel channel_;
  std::unique_ptr<auth::AuthExchange> exchange_;  // while AUTH is under way
  std::string mechanism_;
  std::uint32_t failures_ = 0;
};

}  // namespace postrider::smtpd
