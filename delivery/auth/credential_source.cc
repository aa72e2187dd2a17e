#include "delivery/auth/credential_source.h"

#include "base/digest.h"
#include "base/net/signal.h"
#include "base/text.h"
#include "base/url.h"

#include <algorithm>
#include <optional>

namespace postrider::delivery {

namespace {

constexpr Duration kMargin = std::chrono::seconds(60);  // a token is not used to its last second
constexpr Duration kFirstWait = std::chrono::seconds(10);
constexpr Duration kLongestWait = std::chrono::minutes(5);

Duration wait_after(unsigned failures) {
  return std::min(kLongestWait, kFirstWait * (1U << std::min(failures - 1, 8U)));
}

}  // namespace

CredentialSource::CredentialSource(CredentialsFile file, std::string path, Loop& home,
                                   const Clock& clock, Log& log, BlockingPool& pool,
                                   TokenMeans means)
    : file_(std::move(file)),
      path_(std::move(path)),
      home_(home),
      clock_(clock),
      log_(log),
      pool_(pool),
      means_(std::move(means)) {}

// A new refresh token in the file is another name: what was kept for the old one is not used.
std::string CredentialSource::kept_name() const {
  std::string all;
  for (const auto& part : {file_.token_endpoint, file_.client_id, file_.user, file_.refresh_token})
    all.append(part).push_back('\0');
  return encode_hex(sha256(all));
}

std::shared_ptr<const Credentials> CredentialSource::with(Given given) const {
  auto credentials = std::make_shared<Credentials>();
  credentials->user = file_.user;
  credentials->secret = std::move(given.token);
  credentials->is_token = file_.is_token();
  credentials->is_fresh = given.is_fresh;
  credentials->allow_clear = file_.allow_clear;
  credentials->mechanisms = file_.mechanisms;
  return credentials;
}

Task<Result<std::shared_ptr<const Credentials>>> CredentialSource::get(Loop& loop) {
  if (!file_.is_token())
    co_return with(Given{file_.password, false});
  struct Waiter {
    Signal done;
    std::optional<Result<Given>> given;
  };
  auto waiter = std::make_shared<Waiter>();
  home_.post([self = shared_from_this(), waiter, &loop] {
    self->ask([waiter, &loop](Result<Given> given) {
      loop.post([waiter, given = std::move(given)] {
        waiter->given = given;
        waiter->done.set();
      });
    });
  });
  co_await waiter->done.wait();
  if (!*waiter->given)
    co_return waiter->given->error();
  co_return with(**waiter->given);
}

void CredentialSource::refuse(std::string token) {
  home_.post([self = shared_from_this(), token = std::move(token)] {
    if (self->token_ == token)
      self->token_.clear();
  });
}

void CredentialSource::forgive() {
  home_.post([self = shared_from_this()] {
    self->not_before_ = {};
    self->failures_ = 0;
  });
}

void CredentialSource::stop() {
  home_.post([self = shared_from_this()] {
    self->is_stopped_ = true;
    self->call_->abort();
    self->answer_all(Error(Errc::stopped, "get an access token"));
  });
}

void CredentialSource::ask(Answer answer) {
  const auto now = clock_.steady();
  if (is_stopped_)
    return answer(Error(Errc::stopped, "get an access token"));
  if (!token_.empty() && (expires_ == SteadyTime{} || now < expires_))
    return answer(Given{token_, false});
  if (waiting_.empty() && now < not_before_)
    return answer(failure_);
  waiting_.push_back(std::move(answer));
  if (waiting_.size() > 1)
    return;
  try {
    home_.spawn(fetch(shared_from_this()), log_, "access token");
  } catch (...) {
    waiting_.pop_back();
    throw;
  }
}

Task<void> CredentialSource::fetch(std::shared_ptr<CredentialSource> self) {
  Result<Token> token = Error(Errc::stopped, "get an access token");
  try {
    token = co_await obtain();
  } catch (const std::exception& error) {  // those who wait shall not wait for ever
    token = Error(Errc::refused, std::string("get an access token: ") + error.what());
  }
  if (is_stopped_)
    co_return;  // stop() has answered
  if (!token) {
    fail(token.error());
    answer_all(failure_);
    co_return;
  }
  keep(*token);
  answer_all(Given{token->text, true});
}

Task<Result<Token>> CredentialSource::obtain() {
  if (!file_.token_command.empty()) {
    auto printed = co_await by_command();
    if (!printed)
      co_return printed.error().during("token_command");
    co_return printed;
  }
  auto token = co_await by_endpoint();
  if (!token)
    co_return token.error().during("ask " + parse_http_url(file_.token_endpoint)->host);
  co_return token;
}

Task<Result<Token>> CredentialSource::by_command() {
  std::function<Result<std::string>()> run = [self = shared_from_this()] {
    return self->means_.run(self->path_);
  };
  auto output = co_await pool_.run<Result<std::string>>(home_, std::move(run));
  if (!output)
    co_return output.error();
  co_return parse_token_output(*output);
}

Task<Result<Token>> CredentialSource::by_endpoint() {
  if (refresh_.empty()) {
    std::function<std::string()> load = [self = shared_from_this()] {
      return self->means_.load(self->kept_name());
    };
    refresh_ = co_await pool_.run<std::string>(home_, std::move(load));
  }
  if (refresh_.empty())
    refresh_ = file_.refresh_token;
  auto request = token_request(file_, refresh_);
  auto answer = co_await means_.ask(std::move(request), call_);
  if (!answer)
    co_return answer.error();
  co_return judge_token_answer(*answer);
}

void CredentialSource::keep(const Token& token) {
  token_ = token.text;
  failures_ = 0;
  not_before_ = {};
  expires_ = token.lifetime.count() == 0
                 ? SteadyTime{}
                 : clock_.steady() + std::max(token.lifetime - kMargin, token.lifetime / 2);
  if (!token.refresh.empty() && token.refresh != refresh_) {
    refresh_ = token.refresh;
    pool_.post([self = shared_from_this(), refresh = refresh_] {
      self->means_.save(self->kept_name(), refresh);
    });
  }
  LogEvent event(Level::info, "token");
  event.add("user", file_.user).add("credentials", path_);
  event.add("lifetime", token.lifetime.count() == 0 ? "unknown" : format_duration(token.lifetime));
  log_.write(std::move(event));
}

void CredentialSource::fail(const Error& error) {
  failure_ = error;
  const auto wait = wait_after(++failures_);
  not_before_ = clock_.steady() + wait;
  LogEvent event(Level::warn, "token_failed");
  event.add("user", file_.user).add("credentials", path_).add("reason", error.describe());
  event.add("again", format_duration(wait));
  log_.write(std::move(event));
}

// A new request may begin while they are answered.
void CredentialSource::answer_all(const Result<Given>& result) {
  for (const auto& answer : std::exchange(waiting_, {}))
    answer(result);
}

}  // namespace postrider::delivery
