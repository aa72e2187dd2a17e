// The secret of one smarthost account, ready for use: a password, or an access token that is
// fetched, kept until it expires, and fetched anew when a host refuses it.
#pragma once

#include "base/blocking_pool.h"
#include "base/loop.h"
#include "base/time.h"
#include "delivery/credentials.h"
#include "delivery/sasl_client.h"

#include <functional>
#include <memory>
#include <mutex>
#include <string>

namespace postrider::delivery {

// What a token endpoint or a command gave.
struct Token {
  std::string text;
  Duration lifetime{0};  // 0: not told; until it is refused
  std::string refresh;   // a new refresh token; usually empty
};
// The answer of a token endpoint (RFC 6749 §5.1), or its refusal as an error.
Result<Token> parse_token_answer(std::string_view json);
// The body of the request for a fresh token (RFC 6749 §6); refresh: the token to trade in.
std::string token_request(const CredentialsFile& file, const std::string& refresh);

// Fetches from file.token_endpoint; refresh is the refresh token in use.
using FetchToken =
    std::function<Task<Result<Token>>(Loop& loop, CredentialsFile file, std::string refresh)>;

class SecretKeeper : public std::enable_shared_from_this<SecretKeeper> {
 public:
  // pool: for token commands. All references outlive this.
  SecretKeeper(CredentialsFile file, const Clock& clock, BlockingPool& pool, FetchToken fetch);

  const std::string& user() const { return file_.user; }
  // Any loop. refused: a token that a host did not accept, never to be given again; or empty.
  Task<Result<std::shared_ptr<const Credentials>>> get(Loop& loop, std::string refused);

 private:
  std::shared_ptr<const Credentials> with(std::string secret) const;
  std::string cached(const std::string& refused) const;
  Result<Token> run_command();
  void keep(const Token& token);

  const CredentialsFile file_;
  const Clock& clock_;
  BlockingPool& pool_;
  const FetchToken fetch_;
  mutable std::mutex mutex_;  // held for copying only: couriers of all loops share a token
  std::string token_;
  std::string refresh_;
  SteadyTime expires_;
};

}  // namespace postrider::delivery
