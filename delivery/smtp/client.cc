#include "delivery/smtp/client.h"

#include "base/assert.h"
#include "delivery/job/job_outcome.h"
#include "delivery/smtp/client_transaction.h"

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
    : hostname_(std::move(hostname)),
      remote_(std::move(remote)),
      dialect_(dialect),
      security_(std::move(security)) {
  expect(Command::greeting);
  if (security_.tls.implicit)
    state_ = State::handshake;
  else if (security_.tls.mode == TlsMode::off || security_.broken)
    settle_tls(security_.broken.value_or(TlsAttempt()));
}

Client::~Client() = default;

Stage Client::stage_of(Command command) {
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

std::string& Client::tail() {
  if (output_.empty() || output_.back().body)
    output_.emplace_back();
  return output_.back().text;
}

void Client::say(std::string_view text) {
  tail().append(text);
}

void Client::expect(Command command, Transaction* transaction, std::size_t position) {
  expected_.push_back({command, transaction, position});
}

std::optional<Stage> Client::stage() const {
  if (state_ == State::handshake)
    return Stage::starttls;
  if (state_ == State::challenged)
    return Stage::auth;
  if (expected_.empty())
    return std::nullopt;
  const auto& front = expected_.front();
  if (front.command == Command::body_end && front.transaction != nullptr &&
      !front.transaction->content_written)
    return Stage::body;
  return stage_of(front.command);
}

Result<void> Client::feed(std::string_view bytes) {
  while (!bytes.empty() && state_ != State::closing) {
    if (state_ == State::handshake) {
      TlsAttempt attempt;
      attempt.step = TlsAttempt::Step::injected;
      on_handshake(std::move(attempt));
      break;
    }
    std::size_t used = 0;
    auto reply = parser_.feed(bytes, used);
    if (!reply)
      return reply.error();
    bytes.remove_prefix(used);
    if (!*reply) {
      // The rest of it would be taken for the beginning of the next reply.
      if (is_ready() && expected_.empty())
        return malformed("a reply to nothing");
      break;
    }
    if (auto taken = on_reply(**reply); !taken)
      return taken.error();
  }
  return {};
}

Result<void> Client::on_reply(const Reply& reply) {
  if (reply.code == 421 && is_waiting_for_tls()) {
    give_up_tls(reply.str());
    return {};
  }
  if (reply.code == 421 &&
      !is_for_one_recipient(reply)) {  // RFC 5321 §3.8: the remote closes, whatever was asked
    fail_session(stage().value_or(Stage::mail), reply);
    return {};
  }
  if (expected_.empty())
    return malformed("a reply to nothing");
  const auto expected = expected_.front();
  if (reply.is_intermediate() && expected.command != Command::data &&
      expected.command != Command::auth)
    return malformed("a " + std::to_string(reply.code) + " reply");
  expected_.pop_front();
  ++replies_;
  if (expected.transaction == nullptr)
    return on_session_reply(expected.command, reply);
  auto& transaction = *expected.transaction;
  transaction.answered = true;
  switch (expected.command) {
    case Command::mail:
      on_mail(transaction, reply);
      break;
    case Command::rcpt:
      on_rcpt(transaction, expected.position, reply);
      break;
    case Command::data:
      return on_data(transaction, reply);
    default:
      return on_body_end(transaction, expected.position, reply);
  }
  return {};
}

// Behind the content LMTP answers for each recipient: what one is told is not the answer to those
// whose replies may be on their way.
bool Client::is_for_one_recipient(const Reply& reply) const {
  return reply.code == 421 && !expected_.empty() &&
         expected_.front().command == Command::body_end && expected_.front().position != kAll;
}

Result<void> Client::on_session_reply(Command command, const Reply& reply) {
  switch (command) {
    case Command::greeting:
      on_greeting(reply);
      break;
    case Command::ehlo:
    case Command::helo:
      on_hello(command, reply);
      break;
    case Command::starttls:
      on_starttls(reply);
      break;
    case Command::auth:
      on_auth(reply);
      break;
    case Command::quit:
      state_ = State::closing;
      may_quit_ = false;
      break;
    default:
      advance();  // RSET: its reply says nothing; the next MAIL will
  }
  return {};
}

void Client::on_greeting(const Reply& reply) {
  if (!reply.is_positive()) {
    takes_no_mail_ = delivery::takes_no_mail(Stage::greeting, reply);
    fail_session(Stage::greeting, reply);
    return;
  }
  say_hello();
}

void Client::on_hello(Command command, const Reply& reply) {
  if (reply.is_positive()) {
    helo_ = reply.text.substr(0, reply.text.find_first_of(" \n"));
    if (command == Command::ehlo)
      capabilities_ = parse_capabilities(reply);
    capabilities_.chunking = capabilities_.chunking && may_chunk_;
    capabilities_.is_mailbox = dialect_ == Dialect::lmtp;
    secure();
    return;
  }
  const bool may_fall_back =
      command == Command::ehlo && dialect_ == Dialect::smtp && reply.is_permanent();
  if (!may_fall_back) {
    fail_session(Stage::ehlo, reply);
    return;
  }
  say("HELO " + hostname_ + "\r\n");  // RFC 5321 §3.2
  expect(Command::helo);
}

void Client::become_ready() {
  state_ = State::ready;
  advance();
}

// A refusal that is about the host, and so about everything open.
void Client::fail_session(Stage stage, const Reply& reply) {
  failure_ = judge(stage, reply, remote_);
  failure_.tls = tls_state_;
  state_ = State::closing;
  end_all(failure_);
}

void Client::lost(const Error& error) {
  if (state_ == State::closing && open_.empty())
    return;
  failure_ = judge(stage().value_or(Stage::mail), error, remote_);
  if (is_waiting_for_tls()) {
    give_up_tls(failure_.text);
    return;
  }
  const bool was_wish = !security_.tls.needs_tls() && !security_.tls.implicit;
  cut_off_ = was_wish && tls_attempt_.step == TlsAttempt::Step::done && is_of_connection(error);
  failure_.tls = tls_state_;
  state_ = State::closing;
  may_quit_ = false;
  end_all(failure_);
}

// Content that was sent to its end and not answered may have been accepted: that is not tried
// again at once (attacks.md M15). Unless nothing at all was answered: then the usual cause is that
// the remote had closed an idle connection before it saw our message.
void Client::end_all(const mail::Outcome& why) {
  using At = Transaction::At;
  for (const auto& open : open_) {
    auto& transaction = *open;
    const bool may_have_arrived = transaction.content_written && transaction.answered;
    auto outcome = why;
    if (may_have_arrived && why.reply.code == 0) {
      outcome = judge(Stage::body_end, Error(Errc::stopped, ""), remote_);
      outcome.text = why.text;
      outcome.stage = Stage::body_end;
    }
    for (auto& recipient : transaction.recipients) {
      if (recipient.at == At::settled || recipient.at == At::told || recipient.at == At::unsettled)
        continue;
      if (may_have_arrived && recipient.at == At::accepted)
        transaction.settle(recipient, outcome);
      else
        recipient.at = At::unsettled;
    }
    transaction.why = why;
  }
  while (!open_.empty())
    end(*open_.front());
  expected_.clear();
}

void Client::body_written() {
  POSTRIDER_ASSERT(!writing_.empty());
  if (writing_.front() != nullptr)
    writing_.front()->content_written = true;
  writing_.pop_front();
}

void Client::abandon_body(const mail::Outcome& outcome) {
  POSTRIDER_ASSERT(!writing_.empty());
  if (auto* transaction = writing_.front(); transaction != nullptr)
    transaction->settle_all(Transaction::At::accepted, outcome);
  lost(Error(Errc::stopped, "content"));
}

bool Client::is_spent() const {
  return capabilities_.most_messages > 0 && messages_ >= capabilities_.most_messages;
}

bool Client::can_begin() const {
  return is_ready() && !is_spent() && !quitting_ && open_.empty();
}

void Client::quit() {
  POSTRIDER_ASSERT(is_idle());
  quitting_ = true;
  say("QUIT\r\n");
  expect(Command::quit);
}

std::vector<JobEnd> Client::take_settled() {
  using At = Transaction::At;
  std::vector<JobEnd> taken;
  for (const auto& open : open_) {
    auto& transaction = *open;
    if (!transaction.has_news)
      continue;
    const auto known = transaction.count(At::settled) + transaction.count(At::told);
    if (known == transaction.recipients.size())
      continue;  // the rest comes with the end of the job
    transaction.has_news = false;
    auto& part = taken.emplace_back();
    part.job = transaction.job;
    part.reused = transaction.reused;
    part.goes_on = true;
    for (auto& recipient : transaction.recipients) {
      if (recipient.at != At::settled)
        continue;
      recipient.at = At::told;
      recipient.outcome.tls = tls_state_;
      part.results.push_back({recipient.index, std::move(recipient.outcome)});
    }
  }
  return taken;
}

void Client::end(Transaction& transaction) {
  using At = Transaction::At;
  JobEnd ended;
  for (auto& recipient : transaction.recipients) {
    if (recipient.at == At::settled) {
      recipient.outcome.tls = tls_state_;
      ended.results.push_back({recipient.index, std::move(recipient.outcome)});
    } else if (recipient.at == At::told) {
      ended.was_heard = true;
    } else {
      ended.unsettled.push_back(recipient.index);
    }
  }
  ended.why = std::move(transaction.why);
  ended.why.tls = tls_state_;
  ended.reused = transaction.reused;
  ended.job = std::move(transaction.job);
  ended_.push_back(std::move(ended));
  for (auto*& writing : writing_)
    if (writing == &transaction)
      writing = nullptr;
  std::erase_if(open_, [&](const auto& open) { return open.get() == &transaction; });
}

}  // namespace postrider::delivery
