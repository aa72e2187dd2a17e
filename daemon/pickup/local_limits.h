// How much each local user may send through sendmail in an hour and in a day, on the submit socket
// and by the drop folder together. A web application that was broken into sends as its user; root
// and the daemon's user are not limited. What a user's .forward sends on has counts of its own: it
// is others who send that, and they take nothing of what the user may send.
#pragma once

#include "base/log.h"
#include "base/net/blocking_pool.h"
#include "base/time.h"
#include "daemon/pickup/lent_uids.h"
#include "daemon/protocol/submit_protocol.h"
#include "delivery/local/addresses/forward_count.h"
#include "smtpd/auth/sending_quota.h"
#include "smtpd/session/local_counter.h"

#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::daemon {

struct LocalRules {
  smtpd::auth::SendingQuota::Rules most;
  smtpd::auth::SendingQuota::Rules forwarded;
  std::set<std::uint64_t> unlimited;  // uids
  std::vector<LentUids> lent;         // counted with their owners, unless those have no limits
};

// Thread-safe.
class LocalLimits : public smtpd::LocalCounter {
 public:
  // Counts outlive a restart in <folder>/local and <folder>/forwarded, which are written from time
  // to time on the pool, and read by the first set_rules(). The pool ends before this does.
  LocalLimits(const Clock& clock, Log& log, BlockingPool& pool, std::string folder);
  void set_rules(LocalRules rules);

  // Counts a message with so many recipients. Or counts nothing and says why not, for its sender:
  // EX_TEMPFAIL, later; EX_NOPERM, never. The first time in an hour the log gets an alarm.
  std::optional<SubmitAnswer> add(std::uint64_t uid, std::size_t recipients);
  // The same for the owner of a token, who has the limits of a user.
  std::optional<SubmitAnswer> add_token(const std::string& token, std::size_t recipients);

  // Whose share of places and turns this user's is part of, limited or not.
  std::uint64_t party_of(std::uint64_t uid) const;
  // The same; nothing for who has no limits.
  std::optional<std::uint64_t> limited_party(std::uint64_t uid) const;

  // What a user's .forward sends on. Looks at the user database: blocks.
  delivery::ForwardVerdict count_forward(const std::string& user, std::size_t recipients);

  // The same counts, for SMTP over loopback.
  std::string begin_message(std::uint32_t uid) override;
  std::string add_recipient(std::uint32_t uid) override;

  // Users at a limit: "uid 1000", "uid 1000 by .forward", "token shop".
  std::vector<smtpd::auth::SendingQuota::Limited> limited() const;
  void save();  // blocks

 private:
  std::uint64_t owner_of(std::uint64_t uid) const;
  struct Counts {
    const char* file = "";
    const char* door = "";  // what the log calls the way
    smtpd::auth::SendingQuota quota{smtpd::auth::SendingQuota::Rules()};
    bool is_dirty = false;
  };
  using Add = std::function<smtpd::auth::SendingQuota::Verdict(const std::string& user)>;
  std::string count(Counts& counts, std::uint64_t uid, const Add& add);
  std::optional<SubmitAnswer> add_for(const std::string& user, std::uint32_t recipients);
  std::string judged(const Counts& counts, const std::string& user,
                     const smtpd::auth::SendingQuota::Verdict& verdict);
  void save_sometimes();
  Result<void> save(Counts& counts);

  const Clock& clock_;
  Log& log_;
  BlockingPool& pool_;
  const std::string folder_;
  mutable std::mutex mutex_;
  LocalRules rules_;
  Counts sent_{"/local", "local"};
  Counts forwarded_{"/forwarded", "forward"};
  bool is_restored_ = false;
  SteadyTime saved_;
};

}  // namespace postrider::daemon
