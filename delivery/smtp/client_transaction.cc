// The messages of a conversation: envelope, content, and what the replies mean for them.
#include "delivery/smtp/client_transaction.h"

#include "base/assert.h"
#include "delivery/job/job_outcome.h"

#include <algorithm>

namespace postrider::delivery {

using mail::Reply;
using mail::Stage;

namespace {

// A server must take a hundred (RFC 5321 §4.5.3.1.8); more are not asked for at once.
constexpr std::size_t kMostRecipients = 100;
// Content up to this size follows its envelope unasked: little is wasted if all are refused.
constexpr std::uint64_t kMostOneShot = 64U << 10U;

}  // namespace

Compatibility Client::fitting(const Job& job) const {
  return fit(*job.message, job.recipients, capabilities_, false, remote_);
}

void Client::begin(Job job, std::shared_ptr<const std::string> converted) {
  POSTRIDER_ASSERT(can_begin());
  auto fresh = std::make_unique<Transaction>();
  auto& transaction = *fresh;
  transaction.job = std::move(job);
  transaction.converted = std::move(converted);
  transaction.reused = messages_ > 0;
  transaction.size = transaction.content_size();
  for (const auto index : transaction.job.recipients)
    transaction.recipients.push_back({index, Transaction::At::waiting, {}});
  ++messages_;
  open_.push_back(std::move(fresh));

  const auto& message = *transaction.job.message;
  const bool in_memory = transaction.converted || message.content.bytes;
  const auto fitting = fit(message, transaction.job.recipients, capabilities_,
                           transaction.converted != nullptr, remote_);
  POSTRIDER_ASSERT(fitting.kind != Compatibility::Kind::needs_seven_bit);
  mail::Outcome refusal = fitting.refusal;
  transaction.chunked = capabilities_.chunking;
  transaction.one_shot = transaction.chunked && capabilities_.pipelining && in_memory &&
                         dialect_ == Dialect::smtp && transaction.size <= kMostOneShot;
  bool refused = fitting.kind == Compatibility::Kind::refused;
  if (!refused && !transaction.chunked && in_memory) {
    LineScanner lines;
    lines.feed(transaction.converted ? *transaction.converted : message.content.trace);
    if (!transaction.converted)
      lines.feed(*message.content.bytes);
    lines.finish();
    transaction.has_leading_dot = lines.has_leading_dot();
    refused = lines.has_bare_line_end();
    if (refused)
      refusal = bare_line_end(remote_);
  }
  if (refused) {
    if (fitting.is_of_host)
      transaction.unsettle_all(Transaction::At::waiting, refusal);
    else
      transaction.settle_all(Transaction::At::waiting, refusal);
    end(transaction);
    return;
  }
  advance();
}

// Starts the message, or the next round of it, once all that was written before is answered.
void Client::advance() {
  if (is_ready() && expected_.empty() && !open_.empty() && !open_.front()->started)
    start(*open_.front());
}

void Client::start(Transaction& transaction) {
  using At = Transaction::At;
  if (std::exchange(dirty_, false)) {
    say("RSET\r\n");
    expect(Command::rset);
    if (!capabilities_.pipelining)
      return;  // its reply comes back to advance()
  }
  transaction.started = true;
  transaction.answered = transaction.mail_refused = false;
  transaction.content_queued = transaction.content_written = false;
  transaction.next_rcpt = transaction.rcpt_answers = 0;
  transaction.round.clear();
  const std::size_t most =
      capabilities_.most_recipients > 0 ? capabilities_.most_recipients : kMostRecipients;
  for (std::size_t i = 0; i < transaction.recipients.size(); ++i)
    if (transaction.recipients[i].at == At::waiting && transaction.round.size() < most)
      transaction.round.push_back(i);
  append_mail(*transaction.job.message, capabilities_, transaction.converted != nullptr,
              transaction.size, tail());
  expect(Command::mail, &transaction);
  if (!capabilities_.pipelining)
    return;
  for (const auto position : transaction.round)
    send_rcpt(transaction, position);
  if (!transaction.chunked || transaction.one_shot)
    send_data_or_chunk(transaction);
}

void Client::send_rcpt(Transaction& transaction, std::size_t position) {
  auto& recipient = transaction.recipients[position];
  recipient.at = Transaction::At::named;
  append_rcpt(*transaction.job.message, recipient.index, capabilities_, tail());
  expect(Command::rcpt, &transaction, position);
}

void Client::send_data_or_chunk(Transaction& transaction) {
  if (!transaction.chunked) {
    say("DATA\r\n");
    expect(Command::data, &transaction);
    return;
  }
  say("BDAT " + std::to_string(transaction.size) + " LAST\r\n");
  send_body(transaction);
}

void Client::send_body(Transaction& transaction) {
  tail();  // a piece whose body is still free
  Body body;
  body.message = transaction.job.message;
  body.converted = transaction.converted;
  body.chunked = transaction.chunked;
  body.has_leading_dot = transaction.has_leading_dot;
  output_.back().body = std::move(body);
  transaction.content_queued = true;
  writing_.push_back(&transaction);
  expect_body_end(transaction);
}

// LMTP answers for each accepted recipient (RFC 2033 §4.2), SMTP once for all.
void Client::expect_body_end(Transaction& transaction) {
  transaction.body_answers_left = 0;
  if (dialect_ == Dialect::smtp) {
    transaction.body_answers_left = 1;
    expect(Command::body_end, &transaction, kAll);
    return;
  }
  for (const auto position : transaction.round) {
    if (transaction.recipients[position].at != Transaction::At::accepted)
      continue;
    ++transaction.body_answers_left;
    expect(Command::body_end, &transaction, position);
  }
}

// Another host, or this one on a new connection: no verdict on the message yet.
bool Client::may_be_of_another_mind(Stage stage, const Reply& reply) const {
  return is_about_host(stage, reply) || (has_carried_ && is_about_connection(stage, reply));
}

void Client::on_mail(Transaction& transaction, const Reply& reply) {
  using At = Transaction::At;
  if (reply.is_positive()) {
    dirty_ = false;
    if (!capabilities_.pipelining)
      send_rcpt(transaction, transaction.round[transaction.next_rcpt++]);
    return;
  }
  transaction.mail_refused = true;
  const auto outcome = judge(Stage::mail, reply, remote_);
  for (const auto at : {At::waiting, At::named}) {
    if (may_be_of_another_mind(Stage::mail, reply))
      transaction.unsettle_all(at, outcome);
    else
      transaction.settle_all(at, outcome);
  }
  if (!capabilities_.pipelining)
    finish_round(transaction);
}

void Client::on_rcpt(Transaction& transaction, std::size_t position, const Reply& reply) {
  using At = Transaction::At;
  auto& recipient = transaction.recipients[position];
  ++transaction.rcpt_answers;
  if (!transaction.mail_refused) {
    if (reply.is_positive()) {
      recipient.at = At::accepted;
    } else if (is_too_many_recipients(reply) && transaction.count(At::accepted) > 0) {
      recipient.at = At::later;
    } else {
      auto outcome = judge(Stage::rcpt, reply, remote_);
      if (may_be_of_another_mind(Stage::rcpt, reply)) {
        recipient.at = At::unsettled;
        transaction.why = std::move(outcome);
      } else {
        transaction.settle(recipient, std::move(outcome));
      }
    }
  }
  if (!capabilities_.pipelining && transaction.next_rcpt < transaction.round.size())
    send_rcpt(transaction, transaction.round[transaction.next_rcpt++]);
  else if (transaction.rcpt_answers == transaction.round.size())
    on_envelope_answered(transaction);
}

void Client::on_envelope_answered(Transaction& transaction) {
  const bool data_is_under_way =
      capabilities_.pipelining && (!transaction.chunked || transaction.one_shot);
  if (data_is_under_way)
    return;
  if (transaction.count(Transaction::At::accepted) > 0) {
    send_data_or_chunk(transaction);
    return;
  }
  dirty_ = !transaction.mail_refused;
  finish_round(transaction);
}

Result<void> Client::on_data(Transaction& transaction, const Reply& reply) {
  using At = Transaction::At;
  if (reply.is_positive())
    return malformed("a " + std::to_string(reply.code) + " reply to DATA");
  if (reply.is_intermediate()) {
    if (transaction.count(At::accepted) > 0) {
      send_body(transaction);
    } else {
      // RFC 2920 §3.1: nobody was accepted, and yet the remote waits for content.
      say(".\r\n");
      transaction.content_written = true;
      transaction.body_answers_left = 1;
      expect(Command::body_end, &transaction, kAll);
    }
    return {};
  }
  const auto outcome = judge(Stage::data, reply, remote_);
  if (!may_be_of_another_mind(Stage::data, reply))
    transaction.settle_all(At::accepted, outcome);
  else if (transaction.count(At::accepted) > 0)  // otherwise what refused them stands
    transaction.unsettle_all(At::accepted, outcome);
  dirty_ = !transaction.mail_refused;
  finish_round(transaction);
  return {};
}

Result<void> Client::on_body_end(Transaction& transaction, std::size_t position,
                                 const Reply& reply) {
  using At = Transaction::At;
  if (reply.is_positive() && !transaction.content_written)
    return malformed("a " + std::to_string(reply.code) + " reply in the middle of the content");
  if (transaction.chunked && (reply.code == 500 || reply.code == 502)) {
    refuse_chunking(transaction, reply);
    return {};
  }
  auto outcome = judge(Stage::body_end, reply, remote_);
  outcome.relayed_to_non_dsn = reply.is_positive() && !capabilities_.dsn;
  has_carried_ = has_carried_ || (reply.is_positive() && transaction.count(At::accepted) > 0);
  if (position != kAll) {
    if (reply.code == 421 && !dismissed_)
      dismissed_ = outcome;
    transaction.settle(transaction.recipients[position], std::move(outcome));
  } else if (is_about_host(Stage::body_end, reply)) {
    if (transaction.count(At::accepted) > 0)
      transaction.unsettle_all(At::accepted, outcome);
  } else {
    transaction.settle_all(At::accepted, outcome);
  }
  const bool cut_short = !transaction.content_written;
  if (!reply.is_positive() && transaction.chunked)
    dirty_ = true;  // RFC 3030 §2: after a chunk that failed, all fail until RSET
  if (--transaction.body_answers_left == 0) {
    if (dismissed_) {
      failure_ = *dismissed_;
      state_ = State::closing;
    }
    finish_round(transaction);
  }
  if (cut_short) {
    // Refused before its end: the rest cannot be taken back, so the conversation is over.
    lost(Error(Errc::stopped, "content"));
  }
  return {};
}

// No verdict on the message: the command is not known.
void Client::refuse_chunking(Transaction& transaction, const Reply& reply) {
  failure_ = judge(Stage::body_end, reply, remote_);
  failure_.verdict = mail::Verdict::retry;
  failure_.status.klass = 4;
  failure_.tls = tls_state_;
  chunking_refused_ = true;
  transaction.unsettle_all(Transaction::At::accepted, failure_);
  state_ = State::closing;
  may_quit_ = false;
  end_all(failure_);
}

void Client::finish_round(Transaction& transaction) {
  using At = Transaction::At;
  for (auto& recipient : transaction.recipients)
    if (recipient.at == At::later)
      recipient.at = At::waiting;
  if (transaction.count(At::waiting) > 0)
    transaction.started = false;
  else
    end(transaction);
  advance();
}

}  // namespace postrider::delivery
