#include "delivery/job/job_outcome.h"

#include "base/assert.h"
#include "mail/notice_text.h"

namespace postrider::delivery {

namespace {

using mail::EnhancedCode;
using mail::Outcome;
using mail::Reply;
using mail::Stage;
using mail::Verdict;

// It is stored with each of thousands of recipients, who may all get the same.
constexpr std::size_t kMostKept = 2000;

bool before_mail(Stage stage) {
  return stage < Stage::mail;
}

// The conversation is not where the message could be judged.
bool is_out_of_order(Stage stage, const Reply& reply) {
  if (reply.code == 503)
    return stage != Stage::rcpt;
  return (reply.code == 530 || reply.code == 538) && stage != Stage::body_end;
}

// RFC 3463: 3.2 system not accepting messages, 4.5 congestion, 5.3 too many.
bool is_of_system(const EnhancedCode& code) {
  return (code.subject == 3 && code.detail == 2) || (code.subject == 4 && code.detail == 5) ||
         (code.subject == 5 && code.detail == 3);
}

Verdict verdict_of(Stage stage, const Reply& reply) {
  if (reply.is_positive() && stage == Stage::body_end)
    return Verdict::delivered;
  if (!reply.is_permanent())
    return Verdict::retry;
  if (before_mail(stage))
    return Verdict::retry;  // about us or the host, not about this message
  if (stage == Stage::rcpt && reply.code == 552 && reply.enhanced == EnhancedCode{5, 5, 3})
    return Verdict::retry;  // RFC 5321 §4.5.3.1.10
  if (is_out_of_order(stage, reply))
    return Verdict::retry;
  return Verdict::bounce;
}

std::uint8_t class_of(Verdict verdict) {
  switch (verdict) {
    case Verdict::delivered:
      return 2;
    case Verdict::retry:
      return 4;
    case Verdict::bounce:
      return 5;
  }
  return 4;
}

// The remote's own code if its class is that of its reply (attacks.md I08), moved into the class
// of our verdict; X.0.0 otherwise.
EnhancedCode status_of(Verdict verdict, const Reply& reply) {
  const auto klass = class_of(verdict);
  if (reply.enhanced && reply.enhanced.klass == reply.code / 100)
    return EnhancedCode{klass, reply.enhanced.subject, reply.enhanced.detail};
  return EnhancedCode{klass, 0, 0};
}

bool is_timeout(const Error& error) {
  return error.code() == boost::system::errc::timed_out;
}

// What this machine lacks, or what we ended for reasons of our own.
bool is_of_this_machine(const Error& error) {
  namespace errc = boost::system::errc;
  const auto& code = error.code();
  for (const auto ours :
       {errc::too_many_files_open, errc::too_many_files_open_in_system, errc::no_buffer_space,
        errc::not_enough_memory, errc::address_not_available})
    if (code == ours)
      return true;
  return code == make_error_code(Errc::stopped) || code == make_error_code(Errc::corrupt);
}

bool is_out_of_step(const Error& error) {
  return error.code() == make_error_code(Errc::malformed) ||
         error.code() == make_error_code(Errc::too_long);
}

}  // namespace

bool is_about_host(Stage stage, const Reply& reply) {
  if (before_mail(stage) || reply.code == 421 || is_out_of_order(stage, reply))
    return true;
  const bool is_of_us = reply.enhanced.subject == 7 && reply.enhanced.detail == 0;
  if (stage == Stage::mail && reply.is_temporary() && (is_of_system(reply.enhanced) || is_of_us))
    return true;
  return reply.enhanced.subject == 7 && reply.enhanced.detail == 25 && !reply.is_positive();
}

bool is_about_connection(Stage stage, const Reply& reply) {
  if (reply.is_positive() || stage > Stage::data)
    return false;
  if (stage == Stage::mail && reply.is_temporary())
    return true;
  return is_about_host(stage, reply) || reply.code == 503 || is_of_system(reply.enhanced);
}

const Outcome& last_word(const Outcome& before, const Outcome& last) {
  const bool may_have_arrived = last.stage == Stage::body_end;
  const bool is_word = last.verdict != Verdict::retry || last.reply.code != 0 || may_have_arrived;
  return is_word || before.reply.code == 0 ? last : before;
}

bool takes_no_mail(Stage stage, const Reply& reply) {
  return stage == Stage::greeting && reply.code == 521;
}

bool is_too_many_recipients(const Reply& reply) {
  if (reply.code != 452 && reply.code != 552)
    return false;
  return !reply.enhanced || (reply.enhanced.subject == 5 && reply.enhanced.detail == 3);
}

Outcome judge(Stage stage, const Reply& reply, const std::string& remote) {
  POSTRIDER_ASSERT(!reply.is_positive() || stage == Stage::body_end);
  Outcome outcome;
  outcome.verdict = verdict_of(stage, reply);
  outcome.stage = stage;
  outcome.status = status_of(outcome.verdict, reply);
  outcome.remote = remote;
  outcome.reply = {reply.code, reply.enhanced, mail::notice::beginning(reply.text, kMostKept)};
  return outcome;
}

Outcome judge(Stage stage, const Error& error, const std::string& remote) {
  Outcome outcome;
  outcome.verdict = Verdict::retry;  // a broken connection never rejects mail
  outcome.stage = stage;
  outcome.remote = remote;
  if (stage == Stage::connect) {
    outcome.status = is_of_this_machine(error) ? EnhancedCode{4, 3, 0} : EnhancedCode{4, 4, 1};
    outcome.text = "connect to " + remote + ": " +
                   (is_timeout(error) ? "Connection timed out" : error.code().message());
    return outcome;
  }
  outcome.status = is_of_this_machine(error) ? EnhancedCode{4, 3, 0}
                   : is_out_of_step(error)   ? EnhancedCode{4, 5, 0}
                                             : EnhancedCode{4, 4, 2};
  if (is_out_of_step(error))
    outcome.text = "unexpected reply from " + remote + " (" + error.step() + ")";
  else if (is_timeout(error))
    outcome.text = "conversation with " + remote + " timed out";
  else if (error.code() == boost::system::errc::device_or_resource_busy)
    outcome.text = "ended the connection with " + remote +
                   ", which was silent while other mail waited for connections,";
  else if (error.code() == boost::system::errc::not_enough_memory)
    outcome.text = "there is no memory now for the connection with " + remote;
  else
    outcome.text = "lost connection with " + remote;
  outcome.text += std::string(" while ") + mail::phrase(stage);
  return outcome;
}

Outcome decide(Verdict verdict, Stage stage, EnhancedCode status, std::string text) {
  Outcome outcome;
  outcome.verdict = verdict;
  outcome.stage = stage;
  outcome.status = status;
  outcome.text = std::move(text);
  return outcome;
}

Outcome went_wrong_here(Stage stage, const std::exception& error) {
  return decide(Verdict::retry, stage, {4, 3, 0},
                std::string("something went wrong here: ") + error.what());
}

bool is_our_fault(const Outcome& outcome) {
  const bool is_unsaid = outcome.verdict == Verdict::retry && outcome.reply.code == 0;
  const bool is_of_token = outcome.stage == Stage::auth && outcome.status.subject == 7;
  return is_unsaid && (outcome.status.subject == 3 || is_of_token);
}

}  // namespace postrider::delivery
