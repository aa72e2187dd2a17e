// The secret of one smarthost account, ready for use: a password, or an access token that is got
// when it is needed, kept until shortly before it expires, and fetched again when a host refuses
// it.
//
// All that changes lives on one loop, the home; couriers of all loops ask by posted messages. One
// request for a token is under way at a time, however many wait for it. After a failure the next
// one waits, from 10 seconds up to 5 minutes; who asks before gets the same error.
#pragma once

#include "base/log.h"
#include "base/net/blocking_pool.h"
#include "base/net/http/http_client.h"
#include "base/net/loop.h"
#include "base/time.h"
#include "delivery/auth/access_token.h"
#include "delivery/auth/credentials.h"
#include "delivery/auth/sasl_client.h"

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace postrider::delivery {

// Functions that fetch an access token; the daemon supplies them.
struct TokenMeans {
  // Asks the token endpoint; on the home loop.
  std::function<Task<Result<HttpResponse>>(HttpRequest request, std::shared_ptr<HttpCall> call)>
      ask;
  // The output of the token command of the credentials file at `path`. Blocks; on the pool.
  std::function<Result<std::string>(const std::string& path)> run;
  // The refresh token that has taken the place of the one in a file, kept over a restart under a
  // name of hexadecimal digits. Block; on the pool. Nothing kept: empty.
  std::function<std::string(const std::string& name)> load;
  std::function<void(const std::string& name, const std::string& refresh)> save;
};

class CredentialSource : public std::enable_shared_from_this<CredentialSource> {
 public:
  // path: of the file. All references outlive this.
  CredentialSource(CredentialsFile file, std::string path, Loop& home, const Clock& clock, Log& log,
                   BlockingPool& pool, TokenMeans means);

  const CredentialsFile& file() const { return file_; }
  const std::string& path() const { return path_; }
  const std::string& user() const { return file_.user; }
  // Of the refresh token that takes the place of the one in the file.
  std::string kept_name() const;

  // Any loop, the caller's. Errc::stopped: after stop().
  Task<Result<std::shared_ptr<const Credentials>>> get(Loop& loop);
  // Any thread. A host does not accept this token: it is never given again.
  void refuse(std::string token);
  // Any thread. Perhaps what failed has been put right: the next get() tries at once.
  void forgive();
  // Any thread, once: who waits gets Errc::stopped, and so does who asks later.
  void stop();

 private:
  struct Given {
    std::string token;
    bool is_fresh = false;  // got for who asks
  };
  using Answer = std::function<void(Result<Given>)>;
  std::shared_ptr<const Credentials> with(Given given) const;

  // On the home loop.
  void ask(Answer answer);
  Task<void> fetch(std::shared_ptr<CredentialSource> self);
  Task<Result<Token>> obtain();
  Task<Result<Token>> by_command();
  Task<Result<Token>> by_endpoint();
  void keep(const Token& token);
  void fail(const Error& error);
  void answer_all(const Result<Given>& result);

  const CredentialsFile file_;
  const std::string path_;
  Loop& home_;
  const Clock& clock_;
  Log& log_;
  BlockingPool& pool_;
  const TokenMeans means_;

  std::string token_;    // empty: none
  SteadyTime expires_;   // of token_; none: not told
  std::string refresh_;  // empty: not asked for yet
  Error failure_;        // the last one, until token_ is there
  SteadyTime not_before_;
  unsigned failures_ = 0;
  std::vector<Answer> waiting_;  // for the request under way; not empty: there is one
  std::shared_ptr<HttpCall> call_ = std::make_shared<HttpCall>();
  bool is_stopped_ = false;
};

}  // namespace postrider::delivery
