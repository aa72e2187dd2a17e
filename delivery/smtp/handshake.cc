#include "delivery/smtp/handshake.h"

#include "base/assert.h"
#include "base/base64.h"
#include "base/text.h"
#include "delivery/job/job_outcome.h"

#include <algorithm>

namespace postrider::delivery {

using mail::Reply;
using mail::Stage;
using mail::Verdict;
using Step = TlsAttempt::Step;

namespace {

// RFC 4954 §4: a longer initial response waits for an empty challenge.
constexpr std::size_t kMostAuthLine = 510;

bool is_offered(const Capabilities& capabilities, std::string_view mechanism) {
  return std::any_of(capabilities.auth.begin(), capabilities.auth.end(),
                     [&](const auto& one) { return equals_ignoring_case(one, mechanism); });
}

// The mechanism will not do, whatever the password: 504 not known, 534 too weak, 538 needs TLS.
bool is_about_mechanism(const Reply& reply) {
  return reply.code == 504 || reply.code == 534 || reply.code == 538;
}

const char* why_fewer(const Credentials& credentials) {
  return credentials.is_token || can_be_prepared(credentials)
             ? ""
             : " (name or password holds what SASLprep forbids: neither PLAIN nor SCRAM)";
}

}  // namespace

TlsDemand Security::no_tls() {
  TlsDemand demand;
  demand.mode = TlsMode::off;
  demand.source = TlsSource::route;
  return demand;
}

Handshake::Handshake(ClientWire& wire, std::string hostname, std::string remote, Dialect dialect,
                     Security security)
    : wire_(wire),
      hostname_(std::move(hostname)),
      remote_(std::move(remote)),
      dialect_(dialect),
      security_(std::move(security)) {
  wire_.expect(Command::greeting);
  if (security_.tls.implicit)
    state_ = State::handshaking;
  else if (security_.tls.mode == TlsMode::off || security_.broken)
    settle_tls(security_.broken.value_or(TlsAttempt()));
}

void Handshake::on_reply(Command command, const Reply& reply) {
  switch (command) {
    case Command::greeting:
      on_greeting(reply);
      break;
    case Command::starttls:
      on_starttls(reply);
      break;
    case Command::auth:
      on_auth(reply);
      break;
    default:
      on_hello(command, reply);
  }
}

void Handshake::fail(mail::Outcome why) {
  failure_ = std::move(why);
  failure_.tls = tls_state_;
  state_ = State::failed;
  wire_.forget_replies();
}

void Handshake::on_greeting(const Reply& reply) {
  if (!reply.is_positive()) {
    takes_no_mail_ = delivery::takes_no_mail(Stage::greeting, reply);
    fail(judge(Stage::greeting, reply, remote_));
    return;
  }
  say_hello();
}

void Handshake::say_hello() {
  wire_.say(dialect_ == Dialect::lmtp ? "LHLO " : "EHLO ");
  wire_.say(hostname_);
  wire_.say("\r\n");
  wire_.expect(Command::ehlo);
}

void Handshake::on_hello(Command command, const Reply& reply) {
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
    fail(judge(Stage::ehlo, reply, remote_));
    return;
  }
  wire_.say("HELO " + hostname_ + "\r\n");  // RFC 5321 §3.2
  wire_.expect(Command::helo);
}

// After a good answer to EHLO or HELO.
void Handshake::secure() {
  if (tls_state_) {
    authenticate();
    return;
  }
  if (capabilities_.starttls) {
    wire_.say("STARTTLS\r\n");
    wire_.expect(Command::starttls);
    return;
  }
  settle_tls(TlsAttempt());
  if (state_ != State::failed)
    authenticate();
}

void Handshake::on_starttls(const Reply& reply) {
  if (reply.is_positive()) {  // 220 by RFC 3207, but some say 250
    state_ = State::handshaking;
    return;
  }
  TlsAttempt attempt;
  attempt.step = Step::declined;
  attempt.why = reply.str();
  settle_tls(std::move(attempt));
  if (state_ != State::failed)
    authenticate();
}

bool Handshake::is_waiting_for_tls() const {
  return state_ == State::opening && wire_.waits_for(Command::starttls);
}

void Handshake::give_up_tls(std::string why) {
  TlsAttempt attempt;
  attempt.step = Step::unanswered;
  attempt.why = std::move(why);
  settle_tls(std::move(attempt));
}

bool Handshake::is_tls_unsure() const {
  if (!is_tls_a_wish() || state_ != State::opening)
    return false;
  return is_waiting_for_tls() ||
         (tls_attempt_.step == Step::done && wire_.waits_for(Command::ehlo));
}

void Handshake::on_tls(TlsAttempt attempt) {
  POSTRIDER_ASSERT(state_ == State::handshaking);
  state_ = State::opening;
  settle_tls(std::move(attempt));
  if (state_ == State::failed)
    return;
  const auto proof = tls_attempt_.proof;
  const bool is_verified = proof == TlsProof::name || proof == TlsProof::dane;
  if (is_verified || security_.tls.unverified_login)
    security_.sasl.is_private = true;
  capabilities_ = {};  // RFC 3207 §4.2
  if (!security_.tls.implicit)
    say_hello();
}

void Handshake::settle_tls(TlsAttempt attempt) {
  tls_attempt_ = std::move(attempt);
  tls_verdict_ = judge(security_.tls, tls_attempt_);
  if (security_.broken || security_.tls.mode == TlsMode::off)
    tls_verdict_.next = TlsNext::in_clear;
  tls_state_ = std::make_shared<const std::string>(
      describe_state(security_.tls, tls_attempt_, tls_verdict_));
  const auto next = tls_verdict_.next;
  if (next == TlsNext::next_host || next == TlsNext::clear_again)
    fail_tls();
}

void Handshake::fail_tls() {
  const auto step = tls_attempt_.step;
  const bool lacks_tls = step == Step::not_offered || step == Step::declined;
  // RFC 3463: 4.7.4 security features not supported, 4.7.5 cryptographic failure.
  auto why = decide(Verdict::retry, Stage::starttls,
                    {4, 7, static_cast<std::uint16_t>(lacks_tls ? 4 : 5)}, tls_verdict_.reason);
  if (security_.tls.needs_tls())
    why.text = "TLS is required (" + security_.tls.describe() + "), and " + why.text;
  why.remote = remote_;
  may_quit_ = lacks_tls;
  fail(std::move(why));
}

void Handshake::authenticate() {
  if (!security_.credentials || authenticated_) {
    state_ = State::ready;
    return;
  }
  const auto name = pick_mechanism();
  if (name.empty()) {
    std::string offered;
    for (const auto& one : capabilities_.auth)
      offered += " " + escaped(one, 32);
    fail_auth({4, 7, 0}, "there is no way to log in that both sides can use" + why_not_private() +
                             why_fewer(*security_.credentials) + "; the host offers" +
                             (offered.empty() ? " none" : ":" + offered));
    return;
  }
  start_mechanism(name);
}

std::string Handshake::why_not_private() const {
  if (security_.sasl.is_private)
    return "";
  return tls_attempt_.step == Step::done ? " with a host whose certificate is not verified"
                                         : " without TLS";
}

std::string Handshake::pick_mechanism() const {
  for (const auto& name : mechanisms_for(*security_.credentials, security_.sasl)) {
    const bool was_refused = std::find(refused_mechanisms_.begin(), refused_mechanisms_.end(),
                                       name) != refused_mechanisms_.end();
    if (!was_refused && is_offered(capabilities_, name))
      return name;
  }
  return {};
}

void Handshake::start_mechanism(const std::string& name) {
  sasl_ = make_sasl_client(name, *security_.credentials, security_.sasl);
  initial_ = sasl_->initial();
  std::string line = "AUTH " + name;
  if (initial_) {
    const auto encoded = initial_->empty() ? "=" : encode_base64(*initial_);
    if (line.size() + 1 + encoded.size() <= kMostAuthLine) {
      line += " " + encoded;
      initial_.reset();
    }
  }
  wire_.say(line + "\r\n");
  wire_.expect(Command::auth);
}

void Handshake::on_auth(const Reply& reply) {
  if (reply.is_intermediate()) {
    on_challenge(reply);
    return;
  }
  if (reply.is_positive()) {
    on_authenticated();
    return;
  }
  if (!sasl_failure_.empty()) {
    fail_auth({4, 7, 0}, sasl_failure_);
    return;
  }
  if (is_about_mechanism(reply)) {
    refused_mechanisms_.emplace_back(sasl_->mechanism());
    const bool has_another = !pick_mechanism().empty();
    if (has_another) {
      authenticate();
      return;
    }
  }
  auth_refused_ = reply.is_permanent();
  auth_detail_ = sasl_->refusal();
  fail(judge(Stage::auth, reply, remote_));
  may_quit_ = true;
}

void Handshake::on_challenge(const Reply& reply) {
  if (initial_) {
    wire_.say(encode_base64(*std::exchange(initial_, std::nullopt)) + "\r\n");
    wire_.expect(Command::auth);
    return;
  }
  auto decoded = decode_base64(trim(reply.text));
  // "334 Username:": the words of these mechanisms mean nothing.
  const std::string_view mechanism = sasl_->mechanism();
  if (!decoded && (mechanism == "LOGIN" || mechanism == "PLAIN"))
    decoded = reply.text;
  state_ = State::challenged;
  challenge_ = decoded.value_or("");
  if (!decoded)
    answer(malformed("a challenge that is not base64"));
}

void Handshake::answer(Result<std::string> response) {
  POSTRIDER_ASSERT(state_ == State::challenged);
  state_ = State::opening;
  challenge_.clear();
  if (response) {
    wire_.say(encode_base64(*response) + "\r\n");
  } else {
    sasl_failure_ = std::string("the login by ") + sasl_->mechanism() +
                    " was broken off: " + response.error().step();
    wire_.say("*\r\n");
  }
  wire_.expect(Command::auth);
}

void Handshake::on_authenticated() {
  if (!sasl_->may_succeed() || !sasl_failure_.empty()) {
    fail_auth({4, 7, 0}, sasl_failure_.empty()
                             ? std::string("the host let us in by ") + sasl_->mechanism() +
                                   " without proving that it knows the password"
                             : sasl_failure_);
    return;
  }
  authenticated_ = true;
  state_ = State::ready;
}

void Handshake::fail_auth(mail::EnhancedCode status, const std::string& text) {
  auto why = decide(Verdict::retry, Stage::auth, status, text);
  why.remote = remote_;
  fail(std::move(why));
}

}  // namespace postrider::delivery
