#include "delivery/smtp/client_wire.h"

#include "base/text.h"
#include "delivery/smtp/mail_transaction.h"

namespace postrider::delivery {

using mail::Stage;

std::string quoted(std::string_view said) {
  constexpr std::size_t kMostQuoted = 200;
  while (!said.empty() && (said.back() == '\n' || said.back() == '\r'))
    said.remove_suffix(1);
  return "\"" + escaped(said, kMostQuoted) + "\"";
}

Stage ClientWire::stage_of(Command command) {
  switch (command) {
    case Command::greeting:
      return Stage::greeting;
    case Command::ehlo:
    case Command::helo:
      return Stage::ehlo;
    case Command::starttls:
      return Stage::starttls;
    case Command::auth:
      return Stage::auth;
    case Command::rset:
    case Command::mail:
      return Stage::mail;
    case Command::rcpt:
      return Stage::rcpt;
    case Command::data:
      return Stage::data;
    case Command::body_end:
    case Command::quit:
      return Stage::body_end;
  }
  return Stage::mail;
}

std::string& ClientWire::tail() {
  if (output_.empty() || output_.back().body)
    output_.emplace_back();
  return output_.back().text;
}

void ClientWire::attach(Body body) {
  tail();  // a piece whose body is still free
  output_.back().body = std::move(body);
}

std::vector<Piece> ClientWire::take_output() {
  for (auto expected = expected_.rbegin(); expected != expected_.rend(); ++expected) {
    if (expected->is_handed_out)
      break;
    expected->is_handed_out = true;
  }
  return std::exchange(output_, {});
}

std::optional<Stage> ClientWire::stage() const {
  if (expected_.empty())
    return std::nullopt;
  const auto& front = expected_.front();
  if (front.command == Command::body_end && front.transaction != nullptr &&
      !front.transaction->is_written())
    return Stage::body;
  return stage_of(front.command);
}

}  // namespace postrider::delivery
