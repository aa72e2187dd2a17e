#include "smtpd/session/session.h"

#include "base/text.h"
#include "smtpd/session/replies.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace postrider::smtpd {

namespace {

struct OctetKinds {
  bool control = false;
  bool above_127 = false;
};

OctetKinds octets_in(std::string_view line) {
  OctetKinds octets;
  for (const char c : line) {
    const auto octet = static_cast<unsigned char>(c);
    octets.control |= (octet < ' ' && octet != '\t') || octet == 0x7f;
    octets.above_127 |= octet > 0x7f;
  }
  return octets;
}

// attacks.md P06, P07: a browser made to speak to us by a hostile page.
bool is_http(std::string_view verb) {
  constexpr std::string_view kMethods[] = {"GET",     "POST",    "PUT",   "HEAD",  "DELETE",
                                           "OPTIONS", "CONNECT", "PATCH", "TRACE", "PRI"};
  return std::any_of(std::begin(kMethods), std::end(kMethods),
                     [&](std::string_view method) { return equals_ignoring_case(verb, method); });
}

// "TO:<a@b> NOTIFY=NEVER" names a@b, however broken it may be.
std::string_view named_address(std::string_view argument) {
  const auto open = argument.find('<');
  if (open == std::string_view::npos)
    return argument;
  argument.remove_prefix(open + 1);
  return argument.substr(0, argument.rfind('>'));
}

// Tells nobody who exists (attacks.md A20). RFC 6531 §3.7.4.2: UTF-8 needs the parameter.
std::string_view reply_to_vrfy(std::string_view arguments) {
  if (arguments.empty())
    return replies::kArgumentNeeded;
  if (!is_ascii(arguments) &&
      !(ends_with_ignoring_case(arguments, " SMTPUTF8") && is_utf8(arguments)))
    return replies::kNeedsSmtpUtf8;
  return replies::kCannotVerify;
}

std::string_view refusal_of_starttls(std::string_view arguments, const SessionFacts& facts,
                                     SessionState state) {
  if (facts.tls != nullptr)
    return "503 5.5.1 TLS is active already\r\n";
  if (!facts.offers_starttls)
    return replies::kNotOffered;
  if (!arguments.empty())
    return replies::kNoArguments;
  // GNU SASL asks for it before EHLO, and nothing speaks against that; HELO says that no
  // extension is known.
  if (state != SessionState::start && (state != SessionState::ready || !facts.is_extended))
    return "503 5.5.1 After EHLO, and not within a transaction\r\n";
  if (!facts.client.authenticated.empty())
    return "503 5.5.1 Not after AUTH\r\n";
  return {};
}

}  // namespace

Session::Session(std::shared_ptr<const Policy> policy, Client client, Role role, std::string id,
                 Observer* observer)
    : facts_{std::move(policy), std::move(client), role, std::move(id)}, observer_(observer) {}

Session::State Session::state() const {
  switch (transaction_.phase()) {
    case SessionTransaction::Phase::none:
      break;
    case SessionTransaction::Phase::sender:
      return State::sender;
    case SessionTransaction::Phase::recipients:
      return State::recipients;
    case SessionTransaction::Phase::chunks:
      return State::chunks;
    case SessionTransaction::Phase::failed:
      return State::failed;
  }
  return is_greeted_ ? State::ready : State::start;
}

std::string protocol_of(const Session& session) {
  const auto& facts = session.facts();
  std::string keyword = session.transaction().envelope().smtputf8 ? "UTF8SMTP"
                        : facts.is_extended                       ? "ESMTP"
                                                                  : "SMTP";
  if (keyword == "SMTP")
    return keyword;  // there is no SMTPS, nor SMTPA
  keyword.append(facts.tls != nullptr ? "S" : "");
  return keyword.append(facts.client.authenticated.empty() ? "" : "A");
}

Step Session::greet() {
  if (conditions_.stopping)
    return {replies::kStopping, Next::hang_up};
  return filter_gate_.pass({facts_.policy->greeting()}, "CONNECT", {}, false);
}

Step Session::on_line(std::string_view line, bool more_follows) {
  const auto octets = octets_in(line);
  if (octets.control)
    return on_bad_line(replies::kBadLine, false);
  if (login_.is_under_way())
    return on_login_line(line, more_follows);
  const auto [verb, arguments] = mail::split_command(line);
  const auto* command = find_command(verb);
  if (command == nullptr)
    return is_http(verb) ? on_bad_line(replies::kNotHttp, true)
                         : on_bad_line(replies::kUnknownCommand, false);
  if (octets.above_127 && !command->may_have_8bit())
    return on_bad_line(replies::kBadLine, false);
  if (conditions_.stopping && !transaction_.is_begun() && !command->is_always_served())
    return {replies::kStopping, Next::hang_up};
  if (line.size() + 2 > facts_.policy->limits().command_length && command->verb != Verb::auth)
    return on_bad_line(replies::kLineTooLong, false);
  const auto step =
      count_and_report(run(*command, arguments, more_follows), command->name, arguments);
  return filter_gate_.pass(step, command->name, arguments, transaction_.has_added_recipient());
}

Step Session::on_bad_line(std::string_view reply, bool hang_up) {
  if (login_.drop() && reply == replies::kLineTooLong)
    reply = replies::kAuthLineTooLong;
  return count_and_report({reply, hang_up ? Next::hang_up : Next::read_command}, "UNKNOWN", {});
}

Step Session::run(const CommandRule& command, std::string_view arguments, bool more_follows) {
  // A client that cannot have seen our offer of PIPELINING, or does not wait where RFC 2920 §3.1
  // tells it to, is not speaking to us alone (attacks.md P02, P03).
  const bool must_wait = command.ends_group() || !facts_.is_extended;
  if (more_follows && must_wait && !command.is_always_served())
    return {replies::kOutOfStep, Next::hang_up};
  if (command.is_junk())
    patience_.count_junk(facts_.policy->limits());
  if (!command.is_allowed_in(state()))
    return {command.refusal};
  return carry_out(command.verb, arguments);
}

Step Session::carry_out(Verb verb, std::string_view arguments) {
  switch (verb) {
    case Verb::mail:
      return transaction_.on_mail(arguments, around());
    case Verb::rcpt:
      return transaction_.on_rcpt(arguments, around());
    case Verb::data:
      return transaction_.on_data(arguments);
    case Verb::bdat: {
      const auto step = transaction_.on_bdat(arguments, around());
      if (step.next == Next::read_chunk && transaction_.has_tiny_chunk())
        patience_.count_junk(facts_.policy->limits());
      return step;
    }
    case Verb::ehlo:
    case Verb::helo:
      return greeted(arguments, verb == Verb::ehlo);
    case Verb::quit:
      if (!arguments.empty())
        return {replies::kNoArguments};
      has_quit_ = true;
      return {replies::kBye, Next::hang_up};
    case Verb::rset:
      if (!arguments.empty())
        return {replies::kNoArguments};
      transaction_.reset();
      return {replies::kOk};
    case Verb::noop:
      return {replies::kOk};
    case Verb::vrfy:
      return {reply_to_vrfy(arguments)};
    case Verb::help:
      return {replies::kHelp};
    case Verb::expn:
      return {replies::kNotOffered};
    case Verb::starttls:
      if (const auto refusal = refusal_of_starttls(arguments, facts_, state()); !refusal.empty())
        return {refusal};
      return {replies::kStartTls, Next::start_tls};
    case Verb::auth:
      return after_login(
          login_.begin(arguments, facts_, state() == State::ready && facts_.is_extended));
  }
  return {replies::kUnknownCommand};
}

// The one place that counts and reports refusals, and ends a session that has too many.
Step Session::count_and_report(Step step, std::string_view stage, std::string_view argument) {
  const char kind = step.reply.empty() ? '2' : step.reply.front();
  // A temporary refusal may be our fault: it is not held against the client.
  if (kind == '5')
    patience_.count_error();
  // RFC 5321 §3.8 and RFC 7504: whoever says so, a filter or a table, nothing comes behind it.
  if (step.reply.starts_with("421") || step.reply.starts_with("521"))
    step.next = Next::hang_up;
  const bool has_none = conditions_.stressed && !facts_.client.trusted;
  if (step.next != Next::hang_up && patience_.is_exhausted(facts_.policy->limits(), has_none))
    step = {replies::kTooManyErrors, Next::hang_up};
  const bool is_reported = std::exchange(is_reported_, false);
  const auto problem = reply_.take_problem();
  if (observer_ == nullptr || is_reported || step.reply.empty() || step.reply.front() < '4')
    return step;
  Refusal refusal{stage, step.reply, transaction_.envelope().sender, {}, problem};
  if (stage == "MAIL" && !transaction_.is_begun())
    refusal.sender = named_address(argument);
  else if (stage == "RCPT")
    refusal.recipient = named_address(argument);
  observer_->refused(refusal);
  return step;
}

Step Session::greeted(std::string_view arguments, bool is_extended) {
  auto name = mail::parse_helo(arguments);
  if (!name)
    return {reply_.set(name.error())};
  facts_.helo = *std::move(name);
  facts_.is_extended = is_extended;
  is_greeted_ = true;
  transaction_.reset();  // RFC 5321 §4.1.4
  const auto& policy = *facts_.policy;
  if (!is_extended)
    return {policy.helo_reply()};
  const auto& reply = facts_.tls != nullptr    ? policy.ehlo_reply_in_tls()
                      : facts_.offers_starttls ? policy.ehlo_reply_with_starttls()
                                               : policy.ehlo_reply();
  const auto offer = future_release_offer() + login_.offer(facts_);
  if (offer.empty())
    return {reply};
  const auto last_line = reply.rfind("250 ");
  const std::string_view whole = reply;
  return {reply_.compose({whole.substr(0, last_line), offer, whole.substr(last_line)})};
}

// RFC 4865 §4: by how much, and until when.
std::string Session::future_release_offer() const {
  const auto most = std::chrono::floor<std::chrono::seconds>(facts_.future_release());
  if (most.count() <= 0)
    return {};
  return "250-FUTURERELEASE " + std::to_string(most.count()) + " " +
         mail::format_date_time(conditions_.now + most) + "\r\n";
}

void Session::on_tls(const TlsFacts& tls, auth::Channel channel) {
  facts_.tls = &tls;
  login_.set_channel(std::move(channel));
  transaction_.reset();
  is_greeted_ = false;
  facts_.is_extended = false;
  facts_.helo.clear();
  facts_.has_trusted_certificate =
      facts_.policy->is_trusted_certificate(login_.channel().fingerprint);
  facts_.client.trusted = facts_.client.trusted || facts_.has_trusted_certificate;
}

// The client's answer to 334. Nothing may come behind it: it has not seen what we say to it.
Step Session::on_login_line(std::string_view line, bool more_follows) {
  if (conditions_.stopping) {
    login_.drop();
    return {replies::kStopping, Next::hang_up};
  }
  if (more_follows) {
    login_.drop();
    return count_and_report({replies::kOutOfStep, Next::hang_up}, "AUTH", {});
  }
  const Step step = after_login(login_.on_line(line));
  return step.next == Next::ask ? step : count_and_report(step, "AUTH", {});
}

Step Session::on_answer(const auth::Answer& answer) {
  return count_and_report(after_login(login_.on_answer(answer)), "AUTH", {});
}

Step Session::after_login(SessionLogin::Outcome outcome) {
  using Kind = SessionLogin::Kind;
  if (outcome.kind == Kind::ask)
    return {{}, Next::ask};
  const auto reply = reply_.set(std::move(outcome.reply));
  if (outcome.kind == Kind::refused || outcome.kind == Kind::reply)
    return {reply};
  const bool has_passed = outcome.kind == Kind::passed;
  if (has_passed) {
    facts_.client.authenticated = std::move(outcome.user);
    facts_.client.mechanism = login_.mechanism();
  }
  is_reported_ = !has_passed;
  if (observer_ != nullptr)
    observer_->authenticated({login_.mechanism(), outcome.claimed, reply, has_passed});
  if (outcome.is_last)
    return {replies::kTooManyAuthFailures, Next::hang_up};
  return {reply};
}

Step Session::on_looked_up(std::optional<Policy::Answer> answer) {
  const auto done = transaction_.on_looked_up(std::move(answer), around());
  const auto step = count_and_report(done.step, done.verb, done.argument);
  return filter_gate_.pass(step, done.verb, done.argument, transaction_.has_added_recipient());
}

Step Session::on_filtered(filter::Verdict verdict) {
  const auto held = filter_gate_.release();
  if (!verdict.refuses())
    return {reply_.set(held.reply), held.next};
  if (held.stage == filter::Stage::helo)
    is_greeted_ = false;
  else if (held.stage == filter::Stage::mail)
    transaction_.reset();
  else if (held.stage == filter::Stage::recipient)
    transaction_.take_back_recipient(held.has_added_recipient);
  reply_.note_problem(std::move(verdict.problem));
  const auto reply = reply_.set(verdict.reply);
  const bool ends = held.stage == filter::Stage::connect;
  return count_and_report({reply, ends ? Next::hang_up : Next::read_command}, held.verb,
                          held.argument);
}

Step Session::on_refused(filter::Verdict verdict) {
  reply_.note_problem(std::move(verdict.problem));
  const auto reply = reply_.set(verdict.reply);
  const auto step = count_and_report({reply}, "END-OF-MESSAGE", {});
  transaction_.reset();
  return step;
}

Step Session::on_content_end(const ContentSummary& content) {
  const bool is_between_chunks = transaction_.is_between_chunks();
  const auto refusal = transaction_.refusal_of(content, around());
  if (refusal.empty())
    return is_between_chunks ? Step{replies::kOk} : Step{{}, Next::store};
  const Step step = count_and_report({refusal}, "END-OF-MESSAGE", {});
  if (is_between_chunks)
    transaction_.fail();
  else
    transaction_.reset();
  return step;
}

Step Session::on_stored(Storage result, mail::MessageId id) {
  transaction_.reset();
  if (result == Storage::open) {
    patience_.renew();
    return {reply_.compose({"250 2.0.0 Ok: queued as ", to_string(id), "\r\n"})};
  }
  if (result == Storage::refused)
    return count_and_report({replies::kNotYourFrom}, "END-OF-MESSAGE", {});
  if (conditions_.stopping)
    return {replies::kStopping, Next::hang_up};
  if (result == Storage::no_room)
    return count_and_report({replies::kNoRoom}, "END-OF-MESSAGE", {});
  return count_and_report(
      {reply_.temporary_failure("451 4.3.0 Storage trouble, try again later", facts_.id)},
      "END-OF-MESSAGE", {});
}

}  // namespace postrider::smtpd
