#include "delivery/secret_keeper.h"

#include "base/text.h"
#include "delivery/local/command_process.h"

#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>

#include <poll.h>

namespace postrider::delivery {

namespace {

constexpr auto kCommandTime = std::chrono::seconds(30);
constexpr std::uint64_t kMostToken = 16U << 10U;
constexpr Duration kMargin = std::chrono::seconds(60);  // a token is not used to its last second

std::string form_encoded(std::string_view text) {
  static constexpr char kDigits[] = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '-' || c == '.' || c == '_' || c == '~';
    if (plain) {
      out.push_back(c);
      continue;
    }
    out.push_back('%');
    out.push_back(kDigits[byte >> 4U]);
    out.push_back(kDigits[byte & 15U]);
  }
  return out;
}

// What may stand in a bearer token (RFC 6750 §2.1), and so in our SASL messages.
bool is_token(std::string_view text) {
  if (text.empty())
    return false;
  for (const char c : text)
    if (c <= ' ' || c > '~')
      return false;
  return true;
}

std::string text_of(const boost::json::object& object, const char* key) {
  const auto* value = object.if_contains(key);
  return value != nullptr && value->is_string() ? std::string(value->get_string().c_str()) : "";
}

// Waits for the end of the process, reading what it says.
void follow(CommandProcess& process, std::string& output) {
  const auto until = std::chrono::steady_clock::now() + kCommandTime;
  while (!process.has_ended()) {
    const auto left =
        std::chrono::duration_cast<Duration>(until - std::chrono::steady_clock::now());
    if (left.count() <= 0)
      return;
    pollfd watched[] = {{process.output(), POLLIN, 0}, {process.ended(), POLLIN, 0}};
    (void)::poll(watched, 2, static_cast<int>(left.count()));
    process.read_output(output, kMostToken);
    if (watched[1].revents != 0)
      process.reap();
  }
  process.read_output(output, kMostToken);
}

}  // namespace

Result<Token> parse_token_answer(std::string_view json) {
  boost::system::error_code failed;
  const auto value = boost::json::parse(boost::json::string_view(json.data(), json.size()), failed);
  if (failed || !value.is_object())
    return malformed("answer of the token endpoint");
  const auto& object = value.get_object();
  const auto error = text_of(object, "error");
  if (!error.empty())
    return Error(Errc::refused,
                 "get a token: " + escaped(error + " " + text_of(object, "error_description")));
  Token token;
  token.text = text_of(object, "access_token");
  token.refresh = text_of(object, "refresh_token");
  if (!is_token(token.text) || token.text.size() > kMostToken)
    return malformed("answer of the token endpoint: access_token");
  if (const auto* lifetime = object.if_contains("expires_in");
      lifetime != nullptr && lifetime->is_int64() && lifetime->get_int64() > 0)
    token.lifetime =
        std::chrono::seconds(std::min<std::int64_t>(lifetime->get_int64(), 30 * 86400));
  return token;
}

std::string token_request(const CredentialsFile& file, const std::string& refresh) {
  std::string body = "grant_type=refresh_token&refresh_token=" + form_encoded(refresh) +
                     "&client_id=" + form_encoded(file.client_id);
  if (!file.client_secret.empty())
    body += "&client_secret=" + form_encoded(file.client_secret);
  if (!file.scope.empty())
    body += "&scope=" + form_encoded(file.scope);
  return body;
}

SecretKeeper::SecretKeeper(CredentialsFile file, const Clock& clock, BlockingPool& pool,
                           FetchToken fetch)
    : file_(std::move(file)),
      clock_(clock),
      pool_(pool),
      fetch_(std::move(fetch)),
      refresh_(file_.refresh_token) {}

std::shared_ptr<const Credentials> SecretKeeper::with(std::string secret) const {
  auto credentials = std::make_shared<Credentials>();
  credentials->user = file_.user;
  credentials->secret = std::move(secret);
  credentials->is_token = file_.is_token();
  credentials->allow_clear = file_.allow_clear;
  credentials->mechanisms = file_.mechanisms;
  return credentials;
}

std::string SecretKeeper::cached(const std::string& refused) const {
  const std::lock_guard lock(mutex_);
  const bool is_good = !token_.empty() && token_ != refused &&
                       (expires_ == SteadyTime{} || clock_.steady() < expires_);
  return is_good ? token_ : std::string();
}

void SecretKeeper::keep(const Token& token) {
  const std::lock_guard lock(mutex_);
  token_ = token.text;
  if (!token.refresh.empty())
    refresh_ = token.refresh;
  expires_ = token.lifetime.count() == 0
                 ? SteadyTime{}
                 : clock_.steady() + std::max(token.lifetime - kMargin, token.lifetime / 2);
}

Task<Result<std::shared_ptr<const Credentials>>> SecretKeeper::get(Loop& loop,
                                                                   std::string refused) {
  if (!file_.is_token())
    co_return with(file_.password);
  if (auto known = cached(refused); !known.empty())
    co_return with(std::move(known));
  Result<Token> token = Token();
  if (!file_.token_command.empty()) {
    std::function<Result<Token>()> run = [self = shared_from_this()] {
      return self->run_command();
    };
    token = co_await pool_.run<Result<Token>>(loop, std::move(run));
  } else if (fetch_) {
    std::string refresh;
    {
      const std::lock_guard lock(mutex_);
      refresh = refresh_;
    }
    token = co_await fetch_(loop, file_, std::move(refresh));
  } else {
    token = Error(Errc::unsupported, "get a token over HTTPS");
  }
  if (!token)
    co_return token.error();
  keep(*token);
  co_return with(token->text);
}

// On the pool. Its standard output is the token; what it complains about goes nowhere.
Result<Token> SecretKeeper::run_command() {
  auto process =
      CommandProcess::start({"/bin/sh", "-c", "(" + file_.token_command + ") 2>/dev/null"},
                            {"PATH=/usr/local/bin:/usr/bin:/bin"}, "/");
  if (!process)
    return process.error().during("run token_command");
  process->close_input();
  std::string output;
  follow(*process, output);
  if (!process->has_ended())
    return Error(asio::error::timed_out, "run token_command");
  Token token;
  token.text = std::string(trim(split(output, '\n').front()));
  const auto end = process->end({});
  if (end.kind != CommandEnd::Kind::exited || end.number != 0 || !is_token(token.text))
    return malformed("token_command: exit code " + std::to_string(end.number) +
                     ", its output is no token");
  return token;
}

}  // namespace postrider::delivery
