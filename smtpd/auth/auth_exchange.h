// The AUTH command's dialogue (RFC 4954 §4), from its arguments to its end: base64, "=" and "*",
// and what each move of the mechanism means on the wire. Pure.
#pragma once

#include "smtpd/auth/sasl.h"

#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace postrider::smtpd::auth {

class AuthExchange {
 public:
  static constexpr std::size_t kMostLine = 12288;  // octets with CRLF (RFC 4954 §4)

  enum class Kind : std::uint8_t {
    reply,   // send it and read the next line: a 334
    ask,     // the authenticator; then on_answer()
    passed,  // user() has logged in
    failed,  // the reply says so; a try
    over,    // ended without a verdict: cancelled, or not the mechanism's language
  };
  struct Step {
    Kind kind = Kind::over;
    std::string reply;  // with CRLF; empty when asking
  };

  explicit AuthExchange(std::unique_ptr<Mechanism> mechanism) : mechanism_(std::move(mechanism)) {}

  // initial: the second word of AUTH, if there was one.
  Step begin(std::optional<std::string_view> initial);
  // line: without CRLF.
  Step on_line(std::string_view line);
  Step on_answer(const Answer& answer);

  const Question& question() const { return question_; }
  const std::string& user() const { return user_; }
  // Of memory, at most: what was said is kept by the mechanism and goes with the question.
  std::size_t octets() const { return 2 * said_; }
  // Who tries, as far as was said; for the log.
  const std::string& claimed() const { return question_.user; }

 private:
  Step on_move(Move move);

  std::unique_ptr<Mechanism> mechanism_;
  Question question_;
  std::string user_;
  std::size_t said_ = 0;  // octets of lines
};

}  // namespace postrider::smtpd::auth
