#include "smtpd/auth/auth_exchange.h"

#include "base/base64.h"

namespace postrider::smtpd::auth {

AuthExchange::Step AuthExchange::begin(std::optional<std::string_view> initial) {
  if (!initial)
    return on_move(mechanism_->start());
  if (*initial == "=")  // present, and empty
    return on_move(mechanism_->on_response({}));
  return on_line(*initial);
}

AuthExchange::Step AuthExchange::on_line(std::string_view line) {
  said_ += line.size();
  if (line == "*")
    return {Kind::over, "501 5.7.0 Authentication cancelled\r\n"};
  const auto response = decode_base64(line);
  if (!response)
    return {Kind::over, "501 5.5.2 Not base64\r\n"};
  return on_move(mechanism_->on_response(*response));
}

AuthExchange::Step AuthExchange::on_answer(const Answer& answer) {
  return on_move(mechanism_->on_answer(answer));
}

AuthExchange::Step AuthExchange::on_move(Move move) {
  switch (move.kind) {
    case Move::Kind::challenge:
      return {Kind::reply, "334 " + encode_base64(move.bytes) + "\r\n"};
    case Move::Kind::ask:
      question_ = std::move(move.question);
      return {Kind::ask, {}};
    case Move::Kind::granted:
      user_ = std::move(move.user);
      return {Kind::passed, "235 2.7.0 Authentication successful\r\n"};
    case Move::Kind::refused:
      return {Kind::failed, "535 5.7.8 Authentication failed\r\n"};
    case Move::Kind::limited:
      return {Kind::over, "454 4.7.0 Too many failed attempts, try again later\r\n"};
    case Move::Kind::unavailable:
      return {Kind::over, "454 4.7.0 Cannot authenticate now, try again later\r\n"};
    case Move::Kind::malformed:
      break;
  }
  return {Kind::over, "501 5.5.2 Malformed authentication exchange\r\n"};
}

}  // namespace postrider::smtpd::auth
