#include "smtpd/auth/auth_service_exchange.h"

#include "base/digest.h"
#include "base/net/signal.h"
#include "base/text.h"
#include "smtpd/auth/introspection.h"
#include "smtpd/auth/user_key.h"

#include <boost/asio/basic_waitable_timer.hpp>

#include <cstring>

namespace postrider::smtpd::auth {

namespace {

using Timer = asio::basic_waitable_timer<std::chrono::steady_clock,
                                         asio::wait_traits<std::chrono::steady_clock>, Executor>;
using Verdict = Answer::Verdict;

Answer answer_of(Verdict verdict, std::string user = {}) {
  Answer answer;
  answer.verdict = verdict;
  answer.user = std::move(user);
  return answer;
}

constexpr unsigned kMostIntrospecting = 500;
// Dovecot forgets a challenge after 150 seconds, and then refuses the proof without its delay.
constexpr Duration kProofWithin{120000};
// Dovecot says after its delay how it writes a name, in 2 seconds unless it was told otherwise.
constexpr Duration kLearnWithin{5000};
constexpr Duration kLookAgain{50};
constexpr Duration kAskAgainAfter{10000};  // where it did not say
// No server answers this with anything but a refusal (RFC 5802 §5.1, "m="), and it names nobody.
constexpr std::string_view kRefused = "n,,m=refuse,n=nobody,r=nobody";

// One of those that are at it now.
class Counted {
 public:
  explicit Counted(std::atomic<unsigned>& all) : all_(all), count_(++all) {}
  ~Counted() { --all_; }
  Counted(const Counted&) = delete;
  Counted& operator=(const Counted&) = delete;
  unsigned count() const { return count_; }

 private:
  std::atomic<unsigned>& all_;
  unsigned count_;
};

// Tells repeated passwords from guesses; never leaves the process.
std::uint64_t tag_of(std::string_view secret) {
  static const auto key = random_bytes(32);
  const auto digest = hmac_sha256(key, secret);
  std::uint64_t tag = 0;
  std::memcpy(&tag, digest.data(), sizeof tag);
  return tag | 1U;
}

// Names that cannot exist are counted too, as they were sent.
std::string account_of(std::string_view user) {
  return user_key(user).value_or(ascii_lower(user));
}

}  // namespace

// The first message of SCRAM at Dovecot, whose answer is waited for beside the client.
struct ServiceExchange::Inquiry {
  Inquiry(std::shared_ptr<AuthService::Impl> service_, Loop& loop_, const std::string& path_)
      : service(std::move(service_)),
        loop(loop_),
        path(path_),
        dovecot(loop, path),
        asked(service->clock.steady()) {}

  const std::shared_ptr<AuthService::Impl> service;
  Loop& loop;
  const std::string path;
  Dovecot dovecot;
  std::string name;      // as the client has sent it
  std::string spelling;  // another of that to ask for afterwards
  const SteadyTime asked;
  std::optional<Result<DovecotReply>> reply;
  Signal answered;
};

// What Dovecot makes of a name that nobody has, asked beside all clients.
struct ServiceExchange::FormQuestion {
  FormQuestion(std::shared_ptr<AuthService::Impl> service_, Loop& loop, const std::string& path,
               std::string mechanism_, std::string name_)
      : service(std::move(service_)),
        dovecot(loop, path),
        mechanism(std::move(mechanism_)),
        name(std::move(name_)) {}
  ~FormQuestion() {
    const std::lock_guard lock(service->mutex);
    --service->learning;
  }
  FormQuestion(const FormQuestion&) = delete;
  FormQuestion& operator=(const FormQuestion&) = delete;

  const std::shared_ptr<AuthService::Impl> service;
  Dovecot dovecot;
  const std::string mechanism;
  const std::string name;
};

ServiceExchange::ServiceExchange(std::shared_ptr<AuthService::Impl> service, Loop& loop,
                                 Attempt attempt)
    : kept_(std::move(service)),
      service_(*kept_),
      loop_(loop),
      attempt_(std::move(attempt)),
      tables_(service_.current()),
      began_(service_.clock.steady()) {}

ServiceExchange::~ServiceExchange() {
  if (inquiry_)
    inquiry_->dovecot.cancel();
  if (!awaits_proof_)
    return;
  const std::lock_guard lock(service_.mutex);
  service_.guard.broken_off(charged_, service_.clock.steady());
}

Task<Answer> ServiceExchange::ask(Question question) {
  if (!may_try(question))
    co_return answer_of(Verdict::limited);
  awaits_proof_ = false;
  auto answer = co_await find(std::move(question));
  conclude(answer);
  const auto delay = std::max<Duration>(tables_->settings.failure_delay, backend_delay_);
  if (answer.verdict == Verdict::refused)
    co_await pause_until(began_ + delay);
  co_return answer;
}

Task<void> ServiceExchange::pause_until(SteadyTime when) {
  const auto left = when - service_.clock.steady();
  if (left <= left.zero())
    co_return;
  Timer timer(loop_.executor());
  timer.expires_after(left);
  co_await timer.async_wait(use_task);
}

bool ServiceExchange::may_try(const Question& question) {
  if (is_charged_ || question.kind == Question::Kind::certificate)
    return true;
  const bool is_secret = question.kind == Question::Kind::password;
  account_ = account_of(question.user);
  const auto secret = is_secret ? tag_of(question.secret) : 0;
  const auto now = service_.clock.steady();
  const std::lock_guard lock(service_.mutex);
  charged_ = service_.guard.begin(attempt_.client, account_, secret, now);
  is_charged_ = charged_ == LoginLimiter::Verdict::may_try;
  return is_charged_;
}

Task<Answer> ServiceExchange::find(Question question) {
  switch (question.kind) {
    case Question::Kind::password:
      co_return co_await check_password(std::move(question));
    case Question::Kind::scram_keys:
      co_return co_await find_keys(std::move(question));
    case Question::Kind::proved:
      co_return answer_of(question.holds ? Verdict::granted : Verdict::refused, account_);
    case Question::Kind::token:
      co_return co_await check_token(std::move(question));
    case Question::Kind::certificate:
      co_return check_certificate(question);
    case Question::Kind::relayed:
      co_return co_await relay(std::move(question));
  }
  co_return answer_of(Verdict::unavailable);
}

void ServiceExchange::conclude(Answer& answer) {
  if (!is_charged_)
    return;
  if (answer.verdict == Verdict::go_on) {
    awaits_proof_ = attempt_.mechanism.starts_with("SCRAM-");
    return;
  }
  if (answer.verdict == Verdict::granted) {
    // Whoever may choose a name elsewhere does not become somebody else by how we prepare it: but
    // for the case of letters it must be what it is here (RFC 7519 §2: StringOrURI is compared
    // without transformations). A name that our files cannot hold is nobody's.
    const auto user = user_key(answer.user);
    if (!user || ascii_lower(answer.user) != *user)
      answer = answer_of(Verdict::refused);
    else
      answer.user = *user;
  }
  const auto now = service_.clock.steady();
  const std::lock_guard lock(service_.mutex);
  if (answer.verdict == Verdict::unavailable) {
    service_.guard.not_judged(charged_, now);
  } else if (answer.verdict == Verdict::granted) {
    service_.guard.succeeded(charged_, answer.user, now);
    service_.is_dirty = true;
  }
}

Answer ServiceExchange::unavailable(const char* what, const Error& error) {
  service_.trouble(what, error);
  return answer_of(Verdict::unavailable);
}

Task<Answer> ServiceExchange::check_password(Question question) {
  if (tables_->passwords)
    co_return co_await ask_file(std::move(question));
  if (!tables_->settings.dovecot.empty())
    co_return co_await ask_dovecot(std::move(question));
  co_return co_await ask_pam(std::move(question));
}

Task<Answer> ServiceExchange::ask_file(Question question) {
  std::function<Result<bool>()> job = [passwords = tables_->passwords, user = account_,
                                       secret = std::move(question.secret)] {
    return passwords->check(user, secret);
  };
  const auto right = co_await AuthService::Impl::run_bounded<Result<bool>>(
      *service_.hashes, service_.hashing, loop_, std::move(job));
  if (!right)
    co_return answer_of(Verdict::unavailable);
  if (!*right)
    co_return unavailable("check a password", right->error());
  co_return answer_of(**right ? Verdict::granted : Verdict::refused, account_);
}

Task<Answer> ServiceExchange::ask_pam(Question question) {
  if (!service_.pam)
    co_return unavailable("ask PAM", Error(Errc::stopped, "the helper needs a restart"));
  std::function<Result<PamHelper::Answer>()> job =
      [helper = service_.pam, user = question.user, secret = std::move(question.secret),
       client = attempt_.client.str()] { return helper->ask(user, secret, client); };
  const AuthService::Impl::Place place(service_, attempt_.client);
  if (!place.is_free())
    co_return unavailable("ask PAM",
                          Error(Errc::too_long, "too many questions of this client wait"));
  const auto answer = co_await AuthService::Impl::run_bounded<Result<PamHelper::Answer>>(
      *service_.waiters, service_.asking, loop_, std::move(job));
  if (!answer)
    co_return answer_of(Verdict::unavailable);
  if (!*answer)
    co_return unavailable("ask PAM", answer->error());
  const auto [verdict, delay] = **answer;
  backend_delay_ = delay;
  if (verdict == PamHelper::Verdict::cannot_tell)
    co_return answer_of(Verdict::unavailable);
  co_return answer_of(verdict == PamHelper::Verdict::yes ? Verdict::granted : Verdict::refused,
                      question.user);
}

Answer ServiceExchange::from_dovecot(const Result<DovecotReply>& reply) {
  if (!reply)
    return unavailable("ask Dovecot", reply.error());
  switch (reply->kind) {
    case DovecotReply::Kind::granted: {
      auto answer = answer_of(Verdict::granted, reply->user);
      answer.challenge = reply->data;
      return answer;
    }
    case DovecotReply::Kind::refused:
      return answer_of(Verdict::refused);
    case DovecotReply::Kind::go_on: {
      auto answer = answer_of(Verdict::go_on);
      answer.challenge = reply->data;
      return answer;
    }
    case DovecotReply::Kind::unavailable:
    case DovecotReply::Kind::other:
      break;
  }
  return answer_of(Verdict::unavailable);
}

// PLAIN and LOGIN: our own mechanisms, so that the guard knows the account before Dovecot does.
Task<Answer> ServiceExchange::ask_dovecot(Question question) {
  Dovecot dovecot(loop_, tables_->settings.dovecot);
  DovecotRequest request;
  request.mechanism = "PLAIN";
  request.client = attempt_.client.str();
  request.initial = std::string(1, '\0') + question.user + std::string(1, '\0') + question.secret;
  const auto reply = co_await dovecot.begin(std::move(request));
  auto answer = from_dovecot(reply);
  answer.challenge.clear();
  co_return answer;
}

Task<Answer> ServiceExchange::relay(Question question) {
  if (inquiry_ && service_.clock.steady() > inquiry_->asked + kProofWithin)
    co_return answer_of(Verdict::refused);
  if (is_made_up_)
    co_return co_await refuse_made_up();
  auto* asked = inquiry_ ? &inquiry_->dovecot : dovecot_.get();
  if (asked != nullptr) {
    const auto reply = co_await asked->go_on(std::move(question.secret));
    co_return from_dovecot(reply);
  }
  if (attempt_.mechanism.starts_with("SCRAM-"))
    co_return co_await relay_scram_first(std::move(question));
  dovecot_ = std::make_unique<Dovecot>(loop_, tables_->settings.dovecot);
  DovecotRequest request;
  request.mechanism = attempt_.mechanism;
  request.client = attempt_.client.str();
  request.initial = std::move(question.secret);
  const auto reply = co_await dovecot_->begin(std::move(request));
  co_return from_dovecot(reply);
}

// Dovecot refuses a name that it does not know at this point already, after a delay, where a user
// gets a challenge at once. So all get one, after the same time. Whose comes later than that is
// refused as those that are nobody's, unless this address is one from which the user has logged in
// before: there it is waited for.
Task<Answer> ServiceExchange::relay_scram_first(Question question) {
  co_await learn_form(question.user);
  auto answer = answer_of(Verdict::go_on);
  Duration hold;
  {
    const std::lock_guard lock(service_.mutex);
    answer.challenge = service_.challenges.make_up(question.user, question.secret);
    hold = service_.challenges.hold();
  }
  if (answer.challenge.empty())
    co_return answer_of(Verdict::refused);
  inquiry_ = std::make_shared<Inquiry>(kept_, loop_, tables_->settings.dovecot);
  inquiry_->name = question.user;
  DovecotRequest request;
  request.mechanism = attempt_.mechanism;
  request.client = attempt_.client.str();
  request.initial = std::move(question.secret);
  request.is_without_penalty = true;  // the guard counts, and what comes late does not help
  loop_.spawn(inquire(inquiry_, std::move(request)), service_.log, "question to Dovecot");
  const auto& reply = inquiry_->reply;
  co_await pause_until(inquiry_->asked + hold);
  if (!reply && is_at_home())
    co_await inquiry_->answered.wait();
  if (reply && (!*reply || (*reply)->kind != DovecotReply::Kind::refused))
    co_return from_dovecot(*reply);
  is_made_up_ = true;
  co_return answer;
}

bool ServiceExchange::is_at_home() const {
  return charged_.charged_to == LoginLimiter::Try::ChargedTo::pair ||
         charged_.charged_to == LoginLimiter::Try::ChargedTo::more;
}

// Before a name has its challenge, whoever it is: how Dovecot writes it must be known by then.
Task<void> ServiceExchange::learn_form(std::string name) {
  const auto until = service_.clock.steady() + kLearnWithin;
  for (auto now = service_.clock.steady(); now < until; now = service_.clock.steady()) {
    std::vector<std::string> questions;
    {
      const std::lock_guard lock(service_.mutex);
      questions = service_.challenges.questions(name);
      if (questions.empty() || (service_.learning == 0 && now < service_.learn_again))
        co_return;
      if (service_.learning > 0)
        questions.clear();  // somebody asks already
      service_.learning += static_cast<unsigned>(questions.size());
    }
    for (const auto& question : questions)
      loop_.spawn(ask_form(std::make_shared<FormQuestion>(kept_, loop_, tables_->settings.dovecot,
                                                          attempt_.mechanism, question)),
                  service_.log, "question to Dovecot");
    co_await pause_until(now + kLookAgain);
  }
}

Task<void> ServiceExchange::ask_form(std::shared_ptr<FormQuestion> question) {
  auto& service = *question->service;
  DovecotRequest request;
  request.mechanism = question->mechanism;
  request.is_without_penalty = true;
  request.initial =
      "n,,n=" + escape_sasl_name(question->name) + ",r=" + encode_hex(random_bytes(12));
  const auto reply = co_await question->dovecot.begin(std::move(request));
  const std::lock_guard lock(service.mutex);
  if (reply && reply->kind == DovecotReply::Kind::refused) {
    service.challenges.learn_form(question->name, reply->user);
    service.is_dirty = true;
  } else {
    service.learn_again = service.clock.steady() + kAskAgainAfter;
  }
}

Task<void> ServiceExchange::inquire(std::shared_ptr<Inquiry> inquiry, DovecotRequest request) {
  auto& service = *inquiry->service;
  const auto first = request.initial.value_or("");
  auto again = request;
  auto reply = co_await inquiry->dovecot.begin(std::move(request));
  const auto took = std::chrono::ceil<Duration>(service.clock.steady() - inquiry->asked);
  if (reply && reply->kind == DovecotReply::Kind::go_on) {
    const std::lock_guard lock(service.mutex);
    if (service.challenges.learn(inquiry->name, first, reply->data, took))
      service.is_dirty = true;
    inquiry->spelling = service.challenges.other_spelling(inquiry->name, service.clock.steady());
  }
  if (reply && reply->kind == DovecotReply::Kind::refused) {
    const std::lock_guard lock(service.mutex);
    if (service.challenges.check_form(inquiry->name, reply->user, service.clock.steady()))
      service.is_dirty = true;
  }
  inquiry->reply = std::move(reply);
  inquiry->answered.set();
  if (!inquiry->spelling.empty())
    co_await ask_spelling(std::move(inquiry), std::move(again));
}

// Beside what the client does: it neither waits for this nor learns of it.
Task<void> ServiceExchange::ask_spelling(std::shared_ptr<Inquiry> inquiry, DovecotRequest request) {
  auto& service = *inquiry->service;
  Dovecot dovecot(inquiry->loop, inquiry->path);
  request.client.clear();
  request.initial =
      "n,,n=" + escape_sasl_name(inquiry->spelling) + ",r=" + encode_hex(random_bytes(12));
  const auto reply = co_await dovecot.begin(std::move(request));
  const bool is_told = reply && (reply->kind == DovecotReply::Kind::go_on ||
                                 reply->kind == DovecotReply::Kind::refused);
  if (!is_told)
    co_return;
  const auto challenge = reply->kind == DovecotReply::Kind::go_on ? reply->data : "";
  const std::lock_guard lock(service.mutex);
  if (service.challenges.learn_spelling(inquiry->name, inquiry->spelling, challenge))
    service.is_dirty = true;
}

// The proof for a challenge of ours. When Dovecot refuses a wrong one for its own depends on a
// clock of its own and on what else it refuses. So it is given something to refuse now, and says
// when; no account is named to it, and its penalty for addresses stays as it is. On the connection
// that a user's proof would go to: another one might not be had.
Task<Answer> ServiceExchange::refuse_made_up() {
  const auto& reply = inquiry_->reply;
  const auto is_trouble = [&] {
    return reply && (!*reply || (*reply)->kind == DovecotReply::Kind::unavailable);
  };
  if (is_trouble())
    co_return from_dovecot(*reply);
  DovecotRequest request;
  request.id = 2;
  request.mechanism = attempt_.mechanism;
  request.client = attempt_.client.str();
  request.initial = std::string(kRefused);
  request.is_without_penalty = true;
  const auto refused = co_await inquiry_->dovecot.ask_beside(std::move(request));
  if (!refused || refused->kind == DovecotReply::Kind::unavailable)
    co_return from_dovecot(refused);
  if (is_trouble())
    co_return from_dovecot(*reply);
  if (!reply || (*reply)->kind != DovecotReply::Kind::refused)
    service_.trouble("ask Dovecot", Error(Errc::stopped, "its challenge came too late"));
  co_return answer_of(Verdict::refused);
}

Task<Answer> ServiceExchange::find_keys(Question question) {
  std::function<Result<ScramKeys>()> job = [passwords = tables_->passwords, user = account_] {
    return passwords->scram_keys(user);
  };
  const auto keys = co_await AuthService::Impl::run_bounded<Result<ScramKeys>>(
      *service_.waiters, service_.asking, loop_, std::move(job));
  if (!keys)
    co_return answer_of(Verdict::unavailable);
  if (!*keys)
    co_return unavailable("look up a user", keys->error());
  auto answer = answer_of(Verdict::go_on);
  answer.keys = **keys;
  co_return answer;
}

// A JWT that one of our keys has signed needs nobody else's word; what else there is, the endpoint
// knows.
Task<Answer> ServiceExchange::check_token(Question question) {
  const auto& oauth = tables_->settings.oauth;
  Result<Token> token = Error(Errc::refused, "there is nobody to ask about this token");
  if (tables_->keys.size() > 0 && looks_like_jwt(question.secret))
    token = read_jwt(question.secret, tables_->keys, oauth, service_.clock.now());
  if (!token && !oauth.introspect.empty())
    token = co_await introspect_token(std::move(question.secret));
  if (!token && token.error().code() != make_error_code(Errc::refused))
    co_return unavailable("introspect a token", token.error());
  if (!token) {
    service_.trouble("judge a token", token.error());
    co_return answer_of(Verdict::refused);
  }
  const auto user = user_key(token->user);
  const bool is_theirs = user && (question.user.empty() || account_of(question.user) == *user);
  co_return answer_of(is_theirs ? Verdict::granted : Verdict::refused, token->user);
}

Task<Result<Token>> ServiceExchange::introspect_token(std::string token) {
  if (!service_.resolver_of)
    co_return Error(Errc::unsupported, "look up names");
  const Counted one(service_.introspecting);
  if (one.count() > kMostIntrospecting)
    co_return Error(Errc::too_long, "too many questions wait");
  auto rules = tables_->settings.oauth;
  const auto now = service_.clock.now();
  auto answer = co_await introspect(loop_, service_.resolver_of(loop_), tables_->tls,
                                    std::move(rules), std::move(token), now);
  co_return answer;
}

Answer ServiceExchange::check_certificate(const Question& question) const {
  const auto at = tables_->certificates.find(attempt_.channel.fingerprint);
  if (attempt_.channel.fingerprint.empty() || at == tables_->certificates.end())
    return answer_of(Verdict::refused);
  const bool is_theirs = question.user.empty() || account_of(question.user) == at->second;
  return answer_of(is_theirs ? Verdict::granted : Verdict::refused, at->second);
}

std::unique_ptr<Exchange> AuthService::begin(Loop& loop, Attempt attempt) {
  return std::make_unique<ServiceExchange>(impl_, loop, std::move(attempt));
}

}  // namespace postrider::smtpd::auth
