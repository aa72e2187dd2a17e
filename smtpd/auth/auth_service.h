// Who may log in and what they may send: the one authority of all loops. It is the sessions' gate,
// and answers their exchanges: on the connection's own loop (Dovecot, introspection), or on threads
// of its own (password hashes; PAM). What waits for those is bounded; beyond, clients are asked to
// come back.
//
// Kept in <folder>: `secret`, `places` (from where users have logged in), `limits` (what they have
// sent) and `challenges` (what Dovecot's look like), written from time to time and by save().
#pragma once

#include "base/log.h"
#include "dns/resolver.h"
#include "smtpd/auth/auth_settings.h"
#include "smtpd/auth/authenticator.h"

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace postrider::smtpd::auth {

class PamHelper;

// What is wrong with the files that the settings name, each with its option. Reads them; for
// `postrider check`.
struct FileProblem {
  std::string option;
  Error error;
};
std::vector<FileProblem> check_files(const AuthSettings& settings);

class AuthService : public Authenticator {
 public:
  // The loops that ask outlive it, or have stopped for good.
  AuthService(const Clock& clock, Log& log, std::string folder);
  ~AuthService() override;

  // For introspection: the resolver of a loop, on that loop. Once; before adopt().
  void set_resolvers(std::function<dns::Resolver&(Loop&)> resolver_of);
  // Started, for auth.pam. Once; before adopt().
  void set_pam_helper(std::shared_ptr<const PamHelper> helper);
  // Reads the files that the settings name; nothing changes yet. Blocks.
  class Tables;
  Result<std::shared_ptr<const Tables>> prepare(const AuthSettings& settings);
  // From now on by these. The first time, what was kept is read.
  void adopt(std::shared_ptr<const Tables> tables);

  // Gate
  std::vector<std::string> offered(const Channel& channel) const override;
  std::unique_ptr<Mechanism> make(std::string_view name, const Channel& channel) const override;
  std::unique_ptr<Exchange> begin(Loop& loop, Attempt attempt) override;
  bool may_send_as(std::string_view user, std::string_view sender) const override;
  std::string begin_message(std::string_view user) override;
  std::string add_recipient(std::string_view user, std::string_view recipient) override;

  // Users at a limit now. Thread-safe, as all but those that are called once.
  std::vector<SendingQuota::Limited> limited() const;
  void save();

 private:
  Result<std::string> kept_secret();

  friend class ServiceExchange;
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace postrider::smtpd::auth
