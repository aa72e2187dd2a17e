#include "delivery/smtp/transactions.h"

#include "base/assert.h"
#include "delivery/job/job_outcome.h"

#include <algorithm>
#include <iterator>

namespace postrider::delivery {

using mail::Reply;
using mail::Stage;
using Phase = MailTransaction::Phase;
using Way = MailTransaction::Way;

namespace {

// A server must take a hundred (RFC 5321 §4.5.3.1.8); more are not asked for at once.
constexpr std::size_t kMostRecipients = 100;
// Content up to this size follows its envelope unasked: little is wasted if all are refused.
constexpr std::uint64_t kMostOneShot = 64U << 10U;

}  // namespace

Compatibility Transactions::fitting(const Job& job) const {
  return fit(*job.message, job.recipients, capabilities(), false, remote_, now_);
}

void Transactions::begin(Job job, std::shared_ptr<const std::string> converted) {
  POSTRIDER_ASSERT(!are_open() && !over_);
  auto fresh = std::make_unique<MailTransaction>();
  auto& transaction = *fresh;
  transaction.job = std::move(job);
  transaction.converted = std::move(converted);
  transaction.reused = messages_ > 0;
  transaction.size = transaction.content_size();
  for (const auto index : transaction.job.recipients)
    transaction.recipients.push_back({index, MailTransaction::At::waiting, {}});
  ++messages_;
  open_.push_back(std::move(fresh));

  const auto& message = *transaction.job.message;
  const bool in_memory = transaction.converted || message.content.bytes;
  const auto fitting = fit(message, transaction.job.recipients, capabilities(),
                           transaction.converted != nullptr, remote_, now_);
  POSTRIDER_ASSERT(fitting.kind != Compatibility::Kind::needs_seven_bit ||
                   !is_binary(message, transaction.converted != nullptr));
  mail::Outcome refusal = fitting.refusal;
  const bool is_whole = capabilities().pipelining && in_memory && dialect_ == Dialect::smtp &&
                        transaction.size <= kMostOneShot;
  const bool is_as_it_came = is_binary(message, transaction.converted != nullptr);
  if (capabilities().chunking && (has_carried_ || is_as_it_came))
    transaction.way = is_whole && has_carried_ ? Way::one_shot : Way::chunk;
  bool refused = fitting.kind == Compatibility::Kind::refused;
  if (!refused && in_memory && !(transaction.is_chunked() && is_as_it_came)) {
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
      transaction.unsettle_all(MailTransaction::At::waiting, refusal);
    else
      transaction.settle_all(MailTransaction::At::waiting, refusal);
    end(transaction);
    return;
  }
  advance();
}

void Transactions::advance() {
  const bool may_start = !over_ && !wire_.is_waiting() && !open_.empty();
  if (may_start && open_.front()->phase == Phase::waiting)
    start(*open_.front());
}

void Transactions::start(MailTransaction& transaction) {
  using At = MailTransaction::At;
  if (std::exchange(dirty_, false)) {
    wire_.say("RSET\r\n");
    wire_.expect(Command::rset);
    if (!capabilities().pipelining)
      return;  // its reply comes back to advance()
  }
  transaction.phase = Phase::envelope;
  transaction.answered = transaction.mail_refused = false;
  transaction.next_rcpt = transaction.rcpt_answers = 0;
  transaction.round.clear();
  std::size_t most =
      capabilities().most_recipients > 0 ? capabilities().most_recipients : kMostRecipients;
  if (transaction.most_in_round > 0)
    most = std::min(most, transaction.most_in_round);
  for (std::size_t i = 0; i < transaction.recipients.size(); ++i)
    if (transaction.recipients[i].at == At::waiting && transaction.round.size() < most)
      transaction.round.push_back(i);
  append_mail(*transaction.job.message, capabilities(), transaction.converted != nullptr,
              transaction.size, now_, wire_.tail());
  wire_.expect(Command::mail, &transaction);
  if (!capabilities().pipelining)
    return;
  for (const auto position : transaction.round)
    send_rcpt(transaction, position);
  if (!transaction.is_chunked() || transaction.way == MailTransaction::Way::one_shot)
    send_data_or_chunk(transaction);
}

void Transactions::send_rcpt(MailTransaction& transaction, std::size_t position) {
  auto& recipient = transaction.recipients[position];
  recipient.at = MailTransaction::At::named;
  append_rcpt(*transaction.job.message, recipient.index, capabilities(), wire_.tail());
  wire_.expect(Command::rcpt, &transaction, position);
}

void Transactions::send_data_or_chunk(MailTransaction& transaction) {
  if (!transaction.is_chunked()) {
    wire_.say("DATA\r\n");
    wire_.expect(Command::data, &transaction);
    return;
  }
  wire_.say("BDAT " + std::to_string(transaction.size) + " LAST\r\n");
  send_body(transaction);
}

void Transactions::send_body(MailTransaction& transaction) {
  Body body;
  body.message = transaction.job.message;
  body.converted = transaction.converted;
  body.chunked = transaction.is_chunked();
  body.has_leading_dot = transaction.has_leading_dot;
  wire_.attach(std::move(body));
  transaction.phase = Phase::content;
  writing_.push_back(&transaction);
  expect_body_end(transaction);
}

// LMTP answers for each accepted recipient (RFC 2033 §4.2), SMTP once for all.
void Transactions::expect_body_end(MailTransaction& transaction) {
  transaction.body_answers_left = 0;
  if (dialect_ == Dialect::smtp) {
    transaction.body_answers_left = 1;
    wire_.expect(Command::body_end, &transaction, kAll);
    return;
  }
  for (const auto position : transaction.round) {
    if (transaction.recipients[position].at != MailTransaction::At::accepted)
      continue;
    ++transaction.body_answers_left;
    wire_.expect(Command::body_end, &transaction, position);
  }
}

// Another host, or this one on a new connection: no verdict on the message yet.
bool Transactions::may_be_of_another_mind(Stage stage, const Reply& reply) const {
  return is_about_host(stage, reply) || (has_carried_ && is_about_connection(stage, reply));
}

Result<void> Transactions::on_reply(const ClientWire::Expected& expected, const Reply& reply) {
  auto& transaction = *expected.transaction;
  transaction.answered = true;
  switch (expected.command) {
    case Command::mail:
      on_mail(transaction, reply);
      return {};
    case Command::rcpt:
      on_rcpt(transaction, expected.position, reply);
      return {};
    case Command::data:
      return on_data(transaction, reply);
    default:
      return on_body_end(transaction, expected.position, reply);
  }
}

void Transactions::on_mail(MailTransaction& transaction, const Reply& reply) {
  using At = MailTransaction::At;
  if (reply.is_positive()) {
    dirty_ = false;
    if (!capabilities().pipelining)
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
  if (!capabilities().pipelining)
    finish_round(transaction);
}

void Transactions::on_rcpt(MailTransaction& transaction, std::size_t position, const Reply& reply) {
  using At = MailTransaction::At;
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
  if (!capabilities().pipelining && transaction.next_rcpt < transaction.round.size())
    send_rcpt(transaction, transaction.round[transaction.next_rcpt++]);
  else if (transaction.rcpt_answers == transaction.round.size())
    on_envelope_answered(transaction);
}

void Transactions::on_envelope_answered(MailTransaction& transaction) {
  const bool data_is_under_way =
      capabilities().pipelining &&
      (!transaction.is_chunked() || transaction.way == MailTransaction::Way::one_shot);
  if (data_is_under_way)
    return;
  if (transaction.count(MailTransaction::At::accepted) > 0) {
    send_data_or_chunk(transaction);
    return;
  }
  dirty_ = !transaction.mail_refused;
  finish_round(transaction);
}

// Some hosts refuse a message of which they have called recipients too many: no verdict on those
// that were accepted, who are named again without the others. A round gets smaller each time.
bool Transactions::goes_in_smaller_rounds(MailTransaction& transaction, const Reply& reply) {
  using At = MailTransaction::At;
  const auto accepted = transaction.count(At::accepted);
  if (!reply.is_permanent() || accepted == 0 || transaction.count(At::later) == 0)
    return false;
  transaction.most_in_round = accepted;
  for (auto& recipient : transaction.recipients)
    if (recipient.at == At::accepted)
      recipient.at = At::later;
  return true;
}

Result<void> Transactions::on_data(MailTransaction& transaction, const Reply& reply) {
  using At = MailTransaction::At;
  if (reply.is_positive())
    return malformed(quoted(reply.str()) + " instead of a 354");
  if (reply.is_intermediate()) {
    if (transaction.count(At::accepted) > 0) {
      send_body(transaction);
    } else {
      // RFC 2920 §3.1: nobody was accepted, and yet the remote waits for content.
      wire_.say(".\r\n");
      transaction.phase = MailTransaction::Phase::written;
      transaction.body_answers_left = 1;
      wire_.expect(Command::body_end, &transaction, kAll);
    }
    return {};
  }
  const auto outcome = judge(Stage::data, reply, remote_);
  if (goes_in_smaller_rounds(transaction, reply)) {
    dirty_ = true;
    finish_round(transaction);
    return {};
  }
  if (!may_be_of_another_mind(Stage::data, reply))
    transaction.settle_all(At::accepted, outcome);
  else if (transaction.count(At::accepted) > 0)  // otherwise what refused them stands
    transaction.unsettle_all(At::accepted, outcome);
  dirty_ = !transaction.mail_refused;
  finish_round(transaction);
  return {};
}

// The remote sends none of its own: it knows nothing of DSN, or not by when the message is wanted.
// Of a mailbox that matters only to who asked for word of success.
bool Transactions::ends_reports(const MailTransaction& transaction, std::size_t position) const {
  const auto& envelope = transaction.job.message->envelope;
  const bool is_timed = envelope.deliver_by && !envelope.deliver_by->returns;
  if (!is_timed)
    return !capabilities().dsn;
  if (!capabilities().is_mailbox)
    return !capabilities().dsn || !capabilities().deliver_by;
  return !capabilities().dsn && position != kAll &&
         envelope.recipients[transaction.recipients[position].index].notify.success();
}

Result<void> Transactions::on_body_end(MailTransaction& transaction, std::size_t position,
                                       const Reply& reply) {
  using At = MailTransaction::At;
  if (reply.is_positive() && !transaction.is_written())
    return malformed(quoted(reply.str()) + " in the middle of the content");
  if (is_of_an_address(transaction, reply))
    return malformed(quoted(reply.str()) + ", which is of a recipient");
  if (is_about_chunking(transaction, position, reply)) {
    refuse_chunking(transaction, reply);
    return {};
  }
  auto outcome = judge(Stage::body_end, reply, remote_);
  outcome.relayed_to_non_dsn = reply.is_positive() && ends_reports(transaction, position);
  if (reply.is_positive() && transaction.count(At::accepted) > 0)
    note_usual(reply);
  if (position != kAll) {
    if (reply.code == 421 && !dismissed_)
      dismissed_ = outcome;
    transaction.settle(transaction.recipients[position], std::move(outcome));
  } else if (transaction.is_written() && goes_in_smaller_rounds(transaction, reply)) {
    // They are named again when this round has ended.
  } else if (is_about_host(Stage::body_end, reply)) {
    if (transaction.count(At::accepted) > 0)
      transaction.unsettle_all(At::accepted, outcome);
  } else {
    transaction.settle_all(At::accepted, outcome);
  }
  const bool cut_short = !transaction.is_written();
  if (!reply.is_positive() && transaction.is_chunked())
    dirty_ = true;  // RFC 3030 §2: after a chunk that failed, all fail until RSET
  if (--transaction.body_answers_left == 0) {
    if (dismissed_)
      over_ = Over{*dismissed_, true};
    finish_round(transaction);
    if (dismissed_ && are_open())  // there is no next round here
      end_all(over_->why);
  }
  // Refused before its end: the rest cannot be taken back, so the conversation is over.
  if (cut_short && (!over_ || are_open())) {
    over_ =
        Over{judge(wire_.stage().value_or(Stage::mail), Error(Errc::stopped, "content"), remote_),
             false};
    over_->why.tls = handshake_.tls_state();
    end_all(over_->why);
  }
  return {};
}

void Transactions::note_usual(const Reply& reply) {
  if (!std::exchange(has_carried_, true) && reply.enhanced)
    usual_subject_ = reply.enhanced.subject;
}

// RFC 3463 §3.2: X.1 is about an address. By a chunk such a reply may be one to a recipient that
// came late, unless the host says so of every message.
bool Transactions::is_of_an_address(const MailTransaction& transaction, const Reply& reply) const {
  constexpr std::uint16_t kOfAddress = 1;
  return transaction.is_chunked() && reply.is_positive() && reply.enhanced &&
         reply.enhanced.subject == kOfAddress && usual_subject_.value_or(kOfAddress) != kOfAddress;
}

// Not known, not with these parameters, not here (RFC 5321 §4.2.2, 555 of §4.1.1.11; RFC 3463 §3.6):
// DATA may do. Where nobody was accepted, or of one recipient alone, it says no such thing.
bool Transactions::is_about_chunking(const MailTransaction& transaction, std::size_t position,
                                     const Reply& reply) {
  if (!transaction.is_chunked() || transaction.count(MailTransaction::At::accepted) == 0)
    return false;
  constexpr std::uint16_t kCodes[] = {500, 501, 502, 504, 555};
  if (std::find(std::begin(kCodes), std::end(kCodes), reply.code) != std::end(kCodes))
    return true;
  constexpr std::uint16_t kOfProtocol = 5;
  constexpr std::uint16_t kTooManyRecipients = 3;
  return position == kAll && reply.is_permanent() && reply.code != 503 && reply.enhanced &&
         reply.enhanced.subject == kOfProtocol && reply.enhanced.detail != kTooManyRecipients;
}

// No verdict on the message: the command is not for this host.
void Transactions::refuse_chunking(MailTransaction& transaction, const Reply& reply) {
  auto why = judge(Stage::body_end, reply, remote_);
  why.verdict = mail::Verdict::retry;
  why.status.klass = 4;
  why.tls = handshake_.tls_state();
  chunking_refused_ = true;
  transaction.unsettle_all(MailTransaction::At::accepted, why);
  over_ = Over{why, false};
  end_all(why);
}

void Transactions::finish_round(MailTransaction& transaction) {
  using At = MailTransaction::At;
  for (auto& recipient : transaction.recipients)
    if (recipient.at == At::later)
      recipient.at = At::waiting;
  if (transaction.count(At::waiting) > 0)
    transaction.phase = Phase::waiting;
  else
    end(transaction);
  advance();
}

// Content that was sent to its end and not answered may have been accepted: that is not tried
// again at once (attacks.md M15). Unless nothing at all was answered: then the usual cause is that
// the remote had closed an idle connection before it saw our message.
void Transactions::end_all(const mail::Outcome& why) {
  using At = MailTransaction::At;
  for (const auto& open : open_) {
    auto& transaction = *open;
    const bool may_have_arrived = transaction.is_written() && transaction.answered;
    auto outcome = why;
    if (may_have_arrived && why.reply.code == 0) {
      const auto reset = boost::system::errc::connection_reset;
      outcome = judge(Stage::body_end, Error(make_error_code(reset), ""), remote_);
      outcome.text = why.text;
      if (is_our_fault(why))
        outcome.status = why.status;
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
  wire_.forget_replies();
}

void Transactions::dismiss(const mail::Outcome& why) {
  if (!dismissed_)
    dismissed_ = why;
}

bool Transactions::is_sent_in_one_piece() const {
  return !open_.empty() && open_.front()->way == Way::one_shot &&
         (open_.front()->phase == Phase::content || open_.front()->is_written());
}

void Transactions::body_written() {
  POSTRIDER_ASSERT(!writing_.empty());
  if (writing_.front() != nullptr)
    writing_.front()->phase = Phase::written;
  writing_.pop_front();
}

void Transactions::abandon_body(const mail::Outcome& outcome) {
  POSTRIDER_ASSERT(!writing_.empty());
  if (auto* transaction = writing_.front(); transaction != nullptr)
    transaction->settle_all(MailTransaction::At::accepted, outcome);
}

bool Transactions::is_spent() const {
  return capabilities().most_messages > 0 && messages_ >= capabilities().most_messages;
}

std::vector<JobEnd> Transactions::take_settled() {
  using At = MailTransaction::At;
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
      recipient.outcome.tls = handshake_.tls_state();
      part.results.push_back({recipient.index, std::move(recipient.outcome)});
    }
  }
  return taken;
}

void Transactions::end(MailTransaction& transaction) {
  using At = MailTransaction::At;
  JobEnd ended;
  for (auto& recipient : transaction.recipients) {
    if (recipient.at == At::settled) {
      recipient.outcome.tls = handshake_.tls_state();
      ended.results.push_back({recipient.index, std::move(recipient.outcome)});
    } else if (recipient.at == At::told) {
      ended.was_heard = true;
    } else {
      ended.unsettled.push_back(recipient.index);
    }
  }
  ended.why = std::move(transaction.why);
  ended.why.tls = handshake_.tls_state();
  ended.reused = transaction.reused;
  ended.job = std::move(transaction.job);
  ended_.push_back(std::move(ended));
  for (auto*& writing : writing_)
    if (writing == &transaction)
      writing = nullptr;
  std::erase_if(open_, [&](const auto& open) { return open.get() == &transaction; });
}

}  // namespace postrider::delivery
