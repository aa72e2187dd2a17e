#include "smtpd/session/session_login.h"

#include "base/assert.h"
#include "base/text.h"
#include "smtpd/session/replies.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

namespace postrider::smtpd {

namespace {

// attacks.md X12: never a fifth try in one session.
constexpr std::uint32_t kMostAuthFailures = 3;

}  // namespace

std::string SessionLogin::offer(const SessionFacts& facts) const {
  const auto* asked = facts.authenticator();
  const auto names = asked != nullptr && facts.client.authenticated.empty()
                         ? asked->offered(channel_)
                         : std::vector<std::string>();
  if (names.empty())
    return {};
  std::string line = "250-AUTH";
  for (const auto& name : names)
    line.append(" ").append(name);
  return line.append("\r\n");
}

std::uint32_t SessionLogin::line_limit(const SessionFacts& facts) const {
  const auto usual = facts.policy->limits().command_length;
  if (facts.authenticator() == nullptr || !facts.client.authenticated.empty())
    return usual;
  return std::max<std::uint32_t>(usual, auth::AuthExchange::kMostLine);
}

SessionLogin::Outcome SessionLogin::begin(std::string_view arguments, const SessionFacts& facts,
                                          bool is_allowed) {
  const auto refused = [](std::string_view reply) {
    return Outcome{Kind::refused, std::string(reply)};
  };
  auto* asked = facts.authenticator();
  if (asked == nullptr)
    return refused(replies::kNotOffered);
  if (!is_allowed)
    return refused("503 5.5.1 After EHLO, and not within a transaction\r\n");
  if (!facts.client.authenticated.empty())
    return refused("503 5.5.1 Already authenticated\r\n");
  if (!channel_.is_private)
    return refused(replies::kEncryptionNeeded);
  const auto space = arguments.find(' ');
  const auto name = arguments.substr(0, space);
  const auto names = asked->offered(channel_);
  const auto found = std::find_if(names.begin(), names.end(), [&](const std::string& offered) {
    return equals_ignoring_case(offered, name);
  });
  if (name.empty())
    return refused(replies::kArgumentNeeded);
  if (found == names.end())
    return refused("504 5.5.4 Mechanism not offered\r\n");
  mechanism_ = *found;
  exchange_ = std::make_unique<auth::AuthExchange>(asked->make(*found, channel_));
  std::optional<std::string_view> initial;
  if (space != std::string_view::npos)
    initial = trim(arguments.substr(space));
  return outcome_of(exchange_->begin(initial));
}

SessionLogin::Outcome SessionLogin::on_line(std::string_view line) {
  return outcome_of(exchange_->on_line(line));
}

SessionLogin::Outcome SessionLogin::on_answer(const auth::Answer& answer) {
  POSTRIDER_ASSERT(exchange_ != nullptr);
  return outcome_of(exchange_->on_answer(answer));
}

bool SessionLogin::drop() {
  return std::exchange(exchange_, nullptr) != nullptr;
}

const auth::Question& SessionLogin::question() const {
  POSTRIDER_ASSERT(exchange_ != nullptr);
  return exchange_->question();
}

SessionLogin::Outcome SessionLogin::outcome_of(auth::AuthExchange::Step step) {
  using Move = auth::AuthExchange::Kind;
  if (step.kind == Move::ask)
    return {Kind::ask};
  if (step.kind == Move::reply)
    return {Kind::reply, std::move(step.reply)};
  const auto ended = std::exchange(exchange_, nullptr);
  Outcome outcome{Kind::failed, std::move(step.reply)};
  outcome.claimed = ended->claimed();
  if (step.kind == Move::passed) {
    outcome.kind = Kind::passed;
    outcome.user = ended->user();
  }
  outcome.is_last = step.kind == Move::failed && ++failures_ >= kMostAuthFailures;
  return outcome;
}

}  // namespace postrider::smtpd
