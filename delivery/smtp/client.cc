#include "delivery/smtp/client.h"

#include "base/assert.h"
#include "delivery/job/job_outcome.h"

namespace postrider::delivery {

using mail::Reply;
using mail::Stage;

namespace {

// Rather than of what was said on it, or of us.
bool is_of_connection(const Error& error) {
  return error.code() != make_error_code(Errc::malformed) &&
         error.code() != make_error_code(Errc::too_long) &&
         error.code() != make_error_code(Errc::stopped) &&
         error.code() != boost::system::errc::device_or_resource_busy;
}

}  // namespace

Client::Client(std::string hostname, std::string remote, Dialect dialect, Security security)
    : remote_(std::move(remote)),
      handshake_(wire_, std::move(hostname), remote_, dialect, std::move(security)),
      transactions_(wire_, handshake_, remote_, dialect) {}

std::optional<Stage> Client::stage() const {
  if (wants_handshake())
    return Stage::starttls;
  if (wants_sasl_step())
    return Stage::auth;
  return wire_.stage();
}

const mail::Outcome& Client::failure() const {
  if (handshake_.state() == Handshake::State::failed)
    return handshake_.failure();
  return transactions_.over() ? transactions_.over()->why : failure_;
}

bool Client::may_quit() const {
  return may_quit_ && handshake_.may_quit() &&
         (!transactions_.over() || transactions_.over()->may_quit);
}

Result<void> Client::feed(std::string_view bytes) {
  while (!bytes.empty() && !is_closing()) {
    if (wants_handshake()) {
      TlsAttempt attempt;
      attempt.step = TlsAttempt::Step::injected;
      on_handshake(std::move(attempt));
      break;
    }
    std::size_t used = 0;
    auto reply = parser_.feed(bytes, used,
                              waits_for_verdict() ? mail::ReplyParser::Noise::read_over
                                                  : mail::ReplyParser::Noise::refused);
    if (!reply) {
      out_of_step_ = trouble_stage();
      return reply.error();
    }
    const auto part = bytes.substr(0, used);
    bytes.remove_prefix(used);
    if (!*reply) {
      // The rest of it would be taken for the beginning of the next reply.
      if (is_ready() && !wire_.is_waiting())
        return malformed("a reply to nothing: " + quoted(part));
      break;
    }
    if (auto taken = on_reply(**reply); !taken)
      return taken.error();
  }
  return {};
}

// The command that a reply which is out of step was for: one too many is for the command answered
// last. That of a whole message is no trouble of the message behind it.
Stage Client::trouble_stage() const {
  const bool is_asked =
      wire_.is_waiting() && (wire_.next().transaction == nullptr || wire_.next().is_handed_out);
  if (is_asked || !answered_ || *answered_ == Command::body_end)
    return stage().value_or(Stage::mail);
  return ClientWire::stage_of(*answered_);
}

Result<void> Client::on_reply(const Reply& reply) {
  out_of_step_ = trouble_stage();
  auto taken = take(reply);
  if (taken)
    out_of_step_.reset();
  return taken;
}

Result<void> Client::take(const Reply& reply) {
  if (reply.code == 421 && handshake_.is_waiting_for_tls()) {
    handshake_.give_up_tls(reply.str());
    return {};
  }
  // RFC 5321 §3.8: the remote closes, whatever was asked. But where the whole of a message is with it
  // already, its verdict may be on the way, and who does not read it sends the message once more.
  if (reply.code == 421 && !is_for_one_recipient(reply)) {
    const auto why = judge(stage().value_or(Stage::mail), reply, remote_);
    if (!is_content_ahead()) {
      close(why);
      return {};
    }
    transactions_.dismiss(why);
  }
  if (!wire_.is_waiting())
    return malformed("a reply to nothing: " + quoted(reply.str()));
  const auto expected = wire_.next();
  // Where one reply came too many, the next ones would be taken for those of other commands.
  if (expected.transaction != nullptr && !expected.is_handed_out)
    return malformed("a reply too many: " + quoted(reply.str()));
  // No verdict, and one that is missed means that the message is sent once more.
  if (reply.is_intermediate() && expected.command == Command::body_end)
    return {};
  if (reply.is_intermediate() && expected.command != Command::data &&
      expected.command != Command::auth) {
    if (!is_content_ahead())
      return malformed(quoted(reply.str()));
    // As for 421: the verdict on the message is on its way, and it is the last one here.
    transactions_.dismiss(judge(stage().value_or(Stage::mail), reply, remote_));
  }
  wire_.pop();
  ++replies_;
  answered_ = expected.command;
  if (expected.transaction != nullptr)
    return transactions_.on_reply(expected, reply);
  switch (expected.command) {
    case Command::rset:
      transactions_.advance();  // its reply says nothing; the next MAIL will
      break;
    case Command::quit:
      state_ = State::closing;
      may_quit_ = false;
      break;
    default:
      handshake_.on_reply(expected.command, reply);
  }
  return {};
}

// Behind the content LMTP answers for each recipient: what one of them hears is not the answer to
// those whose replies may be on their way.
bool Client::is_for_one_recipient(const Reply& reply) const {
  return reply.code == 421 && wire_.waits_for(Command::body_end) && wire_.next().position != kAll;
}

// What is waited for is of the envelope, or of before, and the content was sent with it.
bool Client::is_content_ahead() const {
  return wire_.is_waiting() && !wire_.waits_for(Command::body_end) &&
         transactions_.is_sent_in_one_piece();
}

void Client::close(mail::Outcome why) {
  failure_ = std::move(why);
  failure_.tls = handshake_.tls_state();
  state_ = State::closing;
  transactions_.end_all(failure_);
}

// All of a message has been sent, and nothing behind it.
bool Client::waits_for_verdict() const {
  return wire_.waits_for(Command::body_end) && wire_.next().transaction->is_written();
}

// Who says "250" behind the content has it, whatever the rest of the reply would have been.
void Client::take_unfinished() {
  if (!waits_for_verdict())
    return;
  const auto reply = parser_.unfinished();
  if (reply && reply->is_positive())
    (void)on_reply(*reply);
}

void Client::lost(const Error& error) {
  if (is_closing() && !transactions_.are_open())
    return;
  take_unfinished();
  const auto is_noise = waits_for_verdict() && !parser_.noise().empty();
  auto why = transactions_.dismissed() && transactions_.is_sent_in_one_piece()
                 ? *transactions_.dismissed()
                 : judge(out_of_step_ ? *out_of_step_ : stage().value_or(Stage::mail),
                         is_noise ? malformed(parser_.noise()) : error, remote_);
  if (handshake_.is_waiting_for_tls()) {
    handshake_.give_up_tls(why.text);
    return;
  }
  const auto step = handshake_.tls_attempt().step;
  // Some close behind a refused STARTTLS.
  const bool was_asked = step == TlsAttempt::Step::done || step == TlsAttempt::Step::declined;
  cut_off_ = handshake_.is_tls_a_wish() && was_asked && is_of_connection(error);
  may_quit_ = false;
  close(std::move(why));
}

void Client::abandon_body(const mail::Outcome& outcome) {
  transactions_.abandon_body(outcome);
  lost(Error(Errc::stopped, "content"));
}

bool Client::can_begin() const {
  return is_ready() && !is_spent() && state_ == State::open && !transactions_.are_open();
}

void Client::begin(Job job, std::shared_ptr<const std::string> converted) {
  POSTRIDER_ASSERT(can_begin());
  transactions_.begin(std::move(job), std::move(converted));
}

void Client::quit() {
  POSTRIDER_ASSERT(is_idle());
  state_ = State::quitting;
  wire_.say("QUIT\r\n");
  wire_.expect(Command::quit);
}

}  // namespace postrider::delivery
