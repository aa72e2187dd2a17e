// Users of this system who log in with their passwords: how often one may be tried, who judges it,
// and what is logged of it. Blocks while somebody else judges. Thread-safe.
//
// Accounts that do not exist, or may not log in, are counted, judged, answered and timed as those
// that may.
#pragma once

#include "web/sessions.h"

#include "base/log.h"
#include "base/result.h"
#include "base/time.h"
#include "smtpd/auth/login_limiter.h"

#include <atomic>
#include <functional>
#include <mutex>
#include <optional>
#include <string>

namespace postrider::web {

class Logins {
 public:
  // What a user with this password may do; Role::none: it is wrong, or the user may not log in.
  using Judge = std::function<Result<Role>(const std::string& user, const std::string& password,
                                           const std::string& client)>;
  // The clock and the log outlive it. Without a judge nobody can log in.
  Logins(Judge judge, const Clock& clock, Log& log);

  bool are_possible() const { return static_cast<bool>(judge_); }

  // So long after it was asked for, at the earliest, is a refusal to be told.
  static constexpr Duration kRefusal{4000};
  static constexpr unsigned kMostAtOnce = 2;  // are being judged; others keep their threads
  static constexpr std::size_t kMostUser = 64, kMostPassword = 1024;

  enum class End : std::uint8_t { opened, wrong, too_many, busy, unknown };
  struct Entry {
    End end = End::wrong;
    Role role = Role::none;
    Sessions::Secrets secrets = {};
  };
  // client: an address, or another text for who is on this machine.
  Entry enter(const std::string& user, const std::string& password, const std::string& client);
  std::optional<Sessions::User> find(const Sessions::Secrets& given);
  bool leave(const Sessions::Secrets& given, const std::string& client);

 private:
  Result<Role> judged(const std::string& user, const std::string& password,
                      const std::string& client);
  void note_limit(const std::string& user, const std::string& client, SteadyTime now);
  LogEvent event(Level level, const char* name, const std::string& user,
                 const std::string& client) const;

  const Judge judge_;
  const Clock& clock_;
  Log& log_;
  const std::string tag_key_;
  std::mutex mutex_;  // of all below
  smtpd::auth::LoginLimiter limiter_;
  Sessions sessions_;
  std::optional<SteadyTime> limit_noted_;
  std::atomic<unsigned> judging_{0};
};

}  // namespace postrider::web
