#include "smtpd/session/session.h"

#include "base/assert.h"
#include "base/text.h"
#include "mail/hops.h"
#include "smtpd/session/replies.h"

#include <algorithm>

namespace postrider::smtpd {

namespace {

std::size_t octets_of(const mail::Recipient& recipient) {
  return sizeof recipient + recipient.address.capacity() + recipient.original_recipient.capacity();
}

constexpr std::uint8_t in(Session::State state) {
  return static_cast<std::uint8_t>(1U << static_cast<unsigned>(state));
}
constexpr std::uint8_t kAnywhere = 0xff;
constexpr auto kWithSender =
    static_cast<std::uint8_t>(in(Session::State::sender) | in(Session::State::recipients));

// Chunks smaller than this move no mail to speak of (attacks.md B05).
constexpr std::uint64_t kTinyChunk = 128;

struct Octets {
  bool control = false;
  bool above_127 = false;
};

Octets octets_of(std::string_view line) {
  Octets octets;
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

std::optional<filter::Stage> stage_of(std::string_view verb) {
  using filter::Stage;
  if (verb == "MAIL")
    return Stage::mail;
  if (verb == "RCPT")
    return Stage::recipient;
  if (verb == "DATA")
    return Stage::data;
  if (verb == "EHLO" || verb == "HELO")
    return Stage::helo;
  if (verb == "CONNECT")
    return Stage::connect;
  return std::nullopt;
}

// "TO:<a@b> NOTIFY=NEVER" names a@b, however broken it may be.
std::string_view named_address(std::string_view argument) {
  const auto open = argument.find('<');
  if (open == std::string_view::npos)
    return argument;
  argument.remove_prefix(open + 1);
  return argument.substr(0, argument.rfind('>'));
}

}  // namespace

const Session::Command Session::kCommands[] = {
    // verb, allowed in, reply otherwise, handler, traits; the most frequent ones first
    {"MAIL", in(State::ready), "503 5.5.1 Send EHLO first, and one MAIL per message\r\n",
     &Session::on_mail, kMay8Bit},
    {"RCPT", kWithSender, "503 5.5.1 Send MAIL first\r\n", &Session::on_rcpt, kMay8Bit},
    {"DATA", static_cast<std::uint8_t>(kWithSender | in(State::chunks)),
     "503 5.5.1 Send MAIL and RCPT first\r\n", &Session::on_data, kEndsGroup},
    {"BDAT", kAnywhere, "", &Session::on_bdat, 0},
    {"EHLO", kAnywhere, "", &Session::on_ehlo, kEndsGroup | kIsJunk | kMay8Bit},
    {"HELO", kAnywhere, "", &Session::on_helo, kEndsGroup | kIsJunk | kMay8Bit},
    {"QUIT", kAnywhere, "", &Session::on_quit, kAlways},
    {"RSET", kAnywhere, "", &Session::on_rset, kIsJunk},
    {"NOOP", kAnywhere, "", &Session::on_noop, kIsJunk},
    {"VRFY", kAnywhere, "", &Session::on_vrfy, kIsJunk | kMay8Bit},
    {"HELP", kAnywhere, "", &Session::on_help, kIsJunk},
    {"EXPN", kAnywhere, "", &Session::on_not_offered, kIsJunk},
    {"STARTTLS", kAnywhere, "", &Session::on_starttls, kEndsGroup},
    {"AUTH", kAnywhere, "", &Session::on_auth, kEndsGroup},
};

const Session::Command* Session::find(std::string_view verb) {
  for (const auto& command : kCommands)
    if (equals_ignoring_case(verb, command.verb))
      return &command;
  return nullptr;
}

Session::Session(std::shared_ptr<const Policy> policy, Client client, Role role, std::string id,
                 Observer* observer)
    : policy_(std::move(policy)),
      client_(std::move(client)),
      role_(role),
      id_(std::move(id)),
      observer_(observer) {}

Session::Step Session::greet() {
  if (conditions_.stopping)
    return {replies::kStopping, Next::hang_up};
  return held({policy_->greeting(), Next::read_command}, "CONNECT", {});
}

Session::Step Session::on_line(std::string_view line, bool more_follows) {
  const auto octets = octets_of(line);
  if (octets.control)
    return on_bad_line(replies::kBadLine, false);
  if (dialogue_)
    return on_auth_line(line, more_follows);
  const auto [verb, arguments] = mail::split_command(line);
  const Command* command = find(verb);
  if (command == nullptr)
    return is_http(verb) ? on_bad_line(replies::kNotHttp, true)
                         : on_bad_line(replies::kUnknownCommand, false);
  if (octets.above_127 && (command->traits & kMay8Bit) == 0)
    return on_bad_line(replies::kBadLine, false);
  if (conditions_.stopping && !in_transaction() && (command->traits & kAlways) == 0)
    return {replies::kStopping, Next::hang_up};
  if (line.size() + 2 > policy_->limits().command_length && command->handle != &Session::on_auth)
    return on_bad_line(replies::kLineTooLong, false);
  const Step step = run(*command, arguments, more_follows);
  return held(judged(step, command->verb, arguments), command->verb, arguments);
}

Session::Step Session::on_bad_line(std::string_view reply, bool hang_up) {
  if (std::exchange(dialogue_, nullptr) && reply == replies::kLineTooLong)
    reply = replies::kAuthLineTooLong;
  return judged({reply, hang_up ? Next::hang_up : Next::read_command}, "UNKNOWN", {});
}

Session::Step Session::run(const Command& command, std::string_view arguments, bool more_follows) {
  // A client that cannot have seen our offer of PIPELINING, or does not wait where RFC 2920 §3.1
  // tells it to, is not speaking to us alone (attacks.md P02, P03).
  const bool must_wait = (command.traits & kEndsGroup) != 0 || !extended_;
  if (more_follows && must_wait && (command.traits & kAlways) == 0)
    return {replies::kOutOfStep, Next::hang_up};
  if ((command.traits & kIsJunk) != 0 && ++junk_ > policy_->limits().junk)
    ++errors_;
  if ((command.allowed_in & in(state_)) == 0)
    return {command.refusal};
  return (this->*command.handle)(arguments);
}

Session::Step Session::judged(Step step, std::string_view stage, std::string_view argument) {
  const char kind = step.reply.empty() ? '2' : step.reply.front();
  // A temporary refusal may be our fault: it is not held against the client.
  if (kind == '5')
    ++errors_;
  if (is_out_of_patience() && step.next != Next::hang_up)
    step = {replies::kTooManyErrors, Next::hang_up};
  const bool is_reported = std::exchange(auth_reported_, false);
  const auto problem = std::exchange(problem_, {});
  if (observer_ == nullptr || is_reported || step.reply.empty() || step.reply.front() < '4')
    return step;
  Refusal refusal{stage, step.reply, transaction_.envelope.sender, {}, problem};
  if (stage == "MAIL" && !in_transaction())
    refusal.sender = named_address(argument);
  else if (stage == "RCPT")
    refusal.recipient = named_address(argument);
  observer_->refused(refusal);
  return step;
}

bool Session::is_out_of_patience() const {
  if (conditions_.stressed && !client_.trusted)
    return errors_ > 0;
  return errors_ >= policy_->limits().errors;
}

void Session::reset() {
  transaction_ = Transaction{};
  if (state_ != State::start)
    state_ = State::ready;
}

Session::Step Session::refuse(const mail::Reply& reply) {
  scratch_ = reply.wire();
  return {scratch_};
}

Session::Step Session::ours(std::string_view text, std::string problem) {
  problem_ = std::move(problem);
  scratch_.assign(text).append(" [").append(id_).append("]\r\n");
  return {scratch_};
}

std::string Session::protocol() const {
  std::string keyword = transaction_.envelope.smtputf8 ? "UTF8SMTP" : extended_ ? "ESMTP" : "SMTP";
  if (keyword == "SMTP")
    return keyword;  // there is no SMTPS, nor SMTPA
  keyword.append(tls_ != nullptr ? "S" : "");
  return keyword.append(client_.authenticated.empty() ? "" : "A");
}

Session::Step Session::on_ehlo(std::string_view arguments) {
  return greeted(arguments, true);
}

Session::Step Session::on_helo(std::string_view arguments) {
  return greeted(arguments, false);
}

Session::Step Session::greeted(std::string_view arguments, bool extended) {
  auto name = mail::parse_helo(arguments);
  if (!name)
    return refuse(name.error());
  helo_ = *std::move(name);
  extended_ = extended;
  state_ = State::ready;
  reset();  // RFC 5321 §4.1.4
  if (!extended)
    return {policy_->helo_reply()};
  return {with_auth(tls_ != nullptr    ? policy_->ehlo_reply_in_tls()
                    : offers_starttls_ ? policy_->ehlo_reply_with_starttls()
                                       : policy_->ehlo_reply())};
}

Session::Step Session::on_starttls(std::string_view arguments) {
  if (tls_ != nullptr)
    return {"503 5.5.1 TLS is active already\r\n"};
  if (!offers_starttls_)
    return {replies::kNotOffered};
  if (!arguments.empty())
    return {replies::kNoArguments};
  // GNU SASL asks for it before EHLO, and nothing speaks against that; HELO says that no
  // extension is known.
  if (state_ != State::start && (state_ != State::ready || !extended_))
    return {"503 5.5.1 After EHLO, and not within a transaction\r\n"};
  if (!client_.authenticated.empty())
    return {"503 5.5.1 Not after AUTH\r\n"};
  return {replies::kStartTls, Next::start_tls};
}

void Session::on_tls(const TlsFacts& facts, auth::Channel channel) {
  tls_ = &facts;
  channel_ = std::move(channel);
  reset();
  state_ = State::start;
  extended_ = false;
  helo_.clear();
  has_trusted_certificate_ = policy_->is_trusted_certificate(channel_.fingerprint);
  client_.trusted = client_.trusted || has_trusted_certificate_;
}

Session::Step Session::on_mail(std::string_view arguments) {
  if (role_ == Role::submission && client_.authenticated.empty())
    if (const auto refusal = submission_refusal({}); !refusal.empty())
      return {refusal};
  mail::MailRules rules;
  rules.size_limit = policy_->settings().message_size;
  rules.require_tls = tls_ != nullptr;  // RFC 8689 §4.1: offered under TLS only
  rules.lenient = Policy::may_relay(client_);
  rules.origin = policy_->origin();
  auto parsed = mail::parse_mail(arguments, rules);
  if (!parsed)
    return refuse(parsed.error());
  if (conditions_.storage == Storage::no_room)
    return {replies::kNoRoom};
  if (conditions_.storage == Storage::failed)
    return ours("451 4.3.0 Storage trouble, try again later");
  if (const auto refusal = submission_refusal(parsed->sender); !refusal.empty())
    return {refusal};
  Policy::Question question;
  question.kind = Policy::Question::Kind::sender;
  question.is_submission = role_ == Role::submission;
  question.address = std::move(parsed->sender);
  if (auto answer = policy_->judge_now(question))
    return judged_sender(*parsed, *answer);
  return look_up(std::move(question), *std::move(parsed), arguments);
}

Session::Step Session::look_up(Policy::Question question, mail::MailCommand mail,
                               std::string_view argument) {
  asking_ =
      std::make_unique<Asking>(Asking{std::move(question), std::move(mail), std::string(argument)});
  return {{}, Next::look_up};
}

// What nobody knows in time is judged by what was known before, if anything was.
Session::Step Session::on_looked_up(std::optional<Policy::Answer> answer) {
  POSTRIDER_ASSERT(asking_ != nullptr);
  const auto asked = std::exchange(asking_, nullptr);
  if (!answer)
    answer = policy_->judge_now(asked->question, true);
  if (!answer) {
    answer.emplace();
    answer->problem = "looking it up took too long";
  }
  if (asked->question.kind == Policy::Question::Kind::sender)
    return held(judged(judged_sender(asked->mail, *answer), "MAIL", asked->argument), "MAIL",
                asked->argument);
  return held(judged(judged_recipient(asked->question.recipient, *answer), "RCPT", asked->argument),
              "RCPT", asked->argument);
}

// What the session accepts waits for the filters, if they want to be asked about it.
Session::Step Session::held(Step step, std::string_view verb, std::string_view argument) {
  if (filtered_ == 0 || step.reply.empty() || step.reply.front() > '3' ||
      step.next == Next::hang_up)
    return step;
  const auto stage = stage_of(verb);
  if (stage == filter::Stage::recipient && !added_recipient_)
    return step;  // nothing new
  if (!stage || (filtered_ & filter::bit(*stage)) == 0)
    return step;
  held_ = std::make_unique<Held>(Held{*stage, verb, std::string(argument), std::string(step.reply),
                                      step.next, added_recipient_});
  return {{}, Next::filter};
}

Session::Step Session::on_filtered(filter::Verdict verdict) {
  POSTRIDER_ASSERT(held_ != nullptr);
  const auto held = std::exchange(held_, nullptr);
  if (!verdict.refuses()) {
    scratch_ = held->reply;
    return {scratch_, held->next};
  }
  take_back(*held);
  problem_ = std::move(verdict.problem);
  scratch_ = verdict.reply.wire();
  const bool ends = held->stage == filter::Stage::connect || verdict.reply.code == 421;
  return judged({scratch_, ends ? Next::hang_up : Next::read_command}, held->verb, held->argument);
}

void Session::take_back(const Held& held) {
  auto& recipients = transaction_.envelope.recipients;
  switch (held.stage) {
    case filter::Stage::helo:
      state_ = State::start;
      break;
    case filter::Stage::mail:
      reset();
      break;
    case filter::Stage::recipient:
      ++transaction_.recipients_refused;
      if (held.adds_recipient) {
        transaction_.octets -= octets_of(recipients.back());
        recipients.pop_back();
      }
      if (recipients.empty())
        state_ = State::sender;
      break;
    case filter::Stage::connect:
    case filter::Stage::data:
      break;
  }
}

Session::Step Session::on_refused(filter::Verdict verdict) {
  problem_ = std::move(verdict.problem);
  scratch_ = verdict.reply.wire();
  const auto next = verdict.reply.code == 421 ? Next::hang_up : Next::read_command;
  const auto step = judged({scratch_, next}, "END-OF-MESSAGE", {});
  reset();
  return step;
}

Session::Step Session::judged_sender(mail::MailCommand& mail, Policy::Answer& answer) {
  if (answer.verdict == Policy::Verdict::cannot_tell)
    return ours("451 4.3.0 Cannot check this sender now", std::move(answer.problem));
  if (answer.verdict != Policy::Verdict::accepted) {
    scratch_ = std::move(answer.refusal);
    return {scratch_};
  }
  if (const auto refusal = count_message(); !refusal.empty())
    return {refusal};
  transaction_ = Transaction{};
  auto& envelope = transaction_.envelope;
  envelope.sender = std::move(answer.sender);
  envelope.envelope_id = std::move(mail.envelope_id);
  envelope.ret = mail.ret;
  envelope.body = mail.body;
  envelope.smtputf8 = mail.smtputf8;
  if (mail.require_tls)
    envelope.tls = mail::TlsWish::required;
  transaction_.declared_size = mail.size.value_or(0);
  state_ = State::sender;
  return {replies::kSenderOk};
}

Session::Step Session::on_rcpt(std::string_view arguments) {
  auto& recipients = transaction_.envelope.recipients;
  // RFC 5321 §4.5.3.1.8: 100 at least; §4.5.3.1.10: the rest may be sent again.
  if (recipients.size() >= std::max(policy_->settings().recipients, 100U)) {
    if (++transaction_.recipients_beyond > policy_->limits().recipient_overshoot)
      return {replies::kFarTooManyRecipients, Next::hang_up};
    return {replies::kTooManyRecipients};
  }
  if (conditions_.crowded)
    return {replies::kNoRoom};
  mail::RcptRules rules;
  rules.smtputf8 = transaction_.envelope.smtputf8;
  rules.lenient = Policy::may_relay(client_);
  rules.origin = policy_->origin();
  auto recipient = mail::parse_rcpt(arguments, rules);
  if (!recipient) {
    ++transaction_.recipients_refused;
    return refuse(recipient.error());
  }
  policy_->limit_notices(client_, recipient->notify);
  Policy::Question question;
  question.kind = Policy::Question::Kind::recipient;
  question.may_relay = Policy::may_relay(client_);
  question.recipient = *std::move(recipient);
  if (auto answer = policy_->judge_now(question))
    return judged_recipient(question.recipient, *answer);
  return look_up(std::move(question), {}, arguments);
}

Session::Step Session::judged_recipient(mail::Recipient& recipient, Policy::Answer& answer) {
  if (answer.verdict != Policy::Verdict::accepted)
    ++transaction_.recipients_refused;
  switch (answer.verdict) {
    case Policy::Verdict::refused:
      scratch_ = std::move(answer.refusal);
      return {scratch_};
    case Policy::Verdict::no_relay:
      return {replies::kNoRelay};
    case Policy::Verdict::no_such_user:
      return {replies::kNoSuchUser};
    case Policy::Verdict::cannot_tell:
      return ours("451 4.3.0 Cannot check this recipient now", std::move(answer.problem));
    case Policy::Verdict::accepted:
      break;
  }
  auto& taken = answer.rewritten ? *answer.rewritten : recipient;
  if (const auto refusal = recipient_refusal(taken.address); !refusal.empty()) {
    ++transaction_.recipients_refused;
    return {refusal};
  }
  // Two names may be one by now.
  auto& envelope = transaction_.envelope;
  added_recipient_ = !answer.rewritten || !mail::has_recipient(envelope, taken.address);
  if (added_recipient_) {
    transaction_.octets += octets_of(taken);
    envelope.recipients.push_back(std::move(taken));
  }
  state_ = State::recipients;
  return {replies::kRecipientOk};
}

Session::Step Session::on_data(std::string_view arguments) {
  if (!arguments.empty())
    return {replies::kNoArguments};
  if (state_ == State::chunks) {
    state_ = State::failed;  // RFC 3030 §3
    return {replies::kNoMixing};
  }
  if (state_ == State::sender)
    return transaction_.recipients_refused > 0 ? Step{replies::kNoValidRecipients}
                                               : Step{"503 5.5.1 Send RCPT first\r\n"};
  if (transaction_.envelope.body == mail::BodyType::binary_mime)
    return {replies::kBinaryNeedsBdat};
  return {replies::kSendContent, Next::read_data};
}

// Whatever the answer, the octets that follow belong to the chunk (RFC 3030 §2): they are taken or
// skipped. Where their number is not known, or absurd, only hanging up keeps the two sides in step.
Session::Step Session::on_bdat(std::string_view arguments) {
  const auto chunk = mail::parse_bdat(arguments);
  if (!chunk) {
    scratch_ = chunk.error().wire();
    return {scratch_, Next::hang_up};
  }
  if (chunk->size / 2 > policy_->settings().message_size)
    return {replies::kTooLarge, Next::hang_up};
  chunk_size_ = chunk->size;
  last_chunk_ = chunk->last;
  if (state_ == State::sender && transaction_.recipients_refused > 0)
    return {replies::kNoValidRecipients, Next::skip_chunk};
  if (state_ == State::failed)
    return {"503 5.5.1 The message has failed already; send RSET\r\n", Next::skip_chunk};
  if (state_ != State::recipients && state_ != State::chunks)
    return {"503 5.5.1 Send MAIL and RCPT first\r\n", Next::skip_chunk};
  if (!chunk->last && chunk->size < kTinyChunk && ++junk_ > policy_->limits().junk)
    ++errors_;
  state_ = State::chunks;
  return {{}, Next::read_chunk};
}

std::string_view Session::content_refusal(const Content& content) {
  if (content.too_large)
    return replies::kTooLarge;
  if (content.facts.poisoned() && transaction_.envelope.body != mail::BodyType::binary_mime)
    return replies::kBadContent;
  if (content.header_too_large)
    return replies::kHeaderTooLarge;
  if (mail::goes_in_circle(content.received_fields, policy_->limits().received_fields))
    return replies::kLoop;
  if (content.storage == Storage::no_room)
    return replies::kNoRoom;
  if (content.storage == Storage::failed)
    return ours("451 4.3.0 Storage trouble, try again later").reply;
  return {};
}

Session::Step Session::on_content_end(const Content& content) {
  const bool more_chunks = state_ == State::chunks && !last_chunk_;
  const auto refusal = content_refusal(content);
  if (refusal.empty())
    return more_chunks ? Step{replies::kOk} : Step{{}, Next::store};
  const Step step = judged({refusal}, "END-OF-MESSAGE", {});
  reset();
  if (more_chunks)
    state_ = State::failed;
  return step;
}

Session::Step Session::on_stored(Storage result, mail::MessageId id) {
  reset();
  if (result == Storage::open) {
    errors_ = junk_ = 0;
    scratch_.assign("250 2.0.0 Ok: queued as ").append(to_string(id)).append("\r\n");
    return {scratch_};
  }
  if (result == Storage::refused)
    return judged({replies::kNotYourFrom}, "END-OF-MESSAGE", {});
  if (conditions_.stopping)
    return {replies::kStopping, Next::hang_up};
  if (result == Storage::no_room)
    return judged({replies::kNoRoom}, "END-OF-MESSAGE", {});
  return judged(ours("451 4.3.0 Storage trouble, try again later"), "END-OF-MESSAGE", {});
}

Session::Step Session::on_rset(std::string_view arguments) {
  if (!arguments.empty())
    return {replies::kNoArguments};
  reset();
  return {replies::kOk};
}

Session::Step Session::on_noop(std::string_view) {
  return {replies::kOk};
}

// Tells nobody who exists (attacks.md A20). RFC 6531 §3.7.4.2: UTF-8 needs the parameter.
Session::Step Session::on_vrfy(std::string_view arguments) {
  if (arguments.empty())
    return {replies::kArgumentNeeded};
  if (!is_ascii(arguments) &&
      !(ends_with_ignoring_case(arguments, " SMTPUTF8") && is_utf8(arguments)))
    return {replies::kNeedsSmtpUtf8};
  return {replies::kCannotVerify};
}

Session::Step Session::on_help(std::string_view) {
  return {replies::kHelp};
}

Session::Step Session::on_quit(std::string_view arguments) {
  if (!arguments.empty())
    return {replies::kNoArguments};
  has_quit_ = true;
  return {replies::kBye, Next::hang_up};
}

Session::Step Session::on_not_offered(std::string_view) {
  return {replies::kNotOffered};
}

}  // namespace postrider::smtpd
