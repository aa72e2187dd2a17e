#include "daemon/pickup/local_limits.h"

#include "base/file.h"
#include "base/text.h"
#include "daemon/privsep/privileges.h"

#include <algorithm>
#include <limits>
#include <sysexits.h>

namespace postrider::daemon {

using smtpd::auth::SendingQuota;

namespace {

constexpr std::size_t kMostKept = 64U << 20U;
constexpr Duration kSaveEvery{std::chrono::seconds(30)};

std::string name_of(std::uint64_t uid) {
  return "uid " + std::to_string(uid);
}

std::uint32_t count_of(std::size_t recipients) {
  return static_cast<std::uint32_t>(
      std::min<std::size_t>(recipients, std::numeric_limits<std::uint32_t>::max()));
}

// The least limit that holds one message's recipients at any time; 0: none does.
std::uint32_t most_at_once(const SendingQuota::Rules& rules) {
  std::uint32_t least = 0;
  for (const auto limit :
       {rules.hour[SendingQuota::recipients], rules.day[SendingQuota::recipients]})
    if (limit > 0 && (least == 0 || limit < least))
      least = limit;
  return least;
}

SubmitAnswer refused(int exit_code, std::string sentence) {
  SubmitAnswer answer;
  answer.exit_code = exit_code;
  answer.error = std::move(sentence);
  return answer;
}

}  // namespace

// Containers of one user are that user.
std::uint64_t LocalLimits::owner_of(std::uint64_t uid) const {
  const auto* const lent = find_lent(rules_.lent, uid);
  return lent == nullptr || rules_.unlimited.contains(lent->owner) ? uid : lent->owner;
}

std::uint64_t LocalLimits::party_of(std::uint64_t uid) const {
  const std::lock_guard lock(mutex_);
  return daemon::party_of(rules_.lent, uid);
}

std::optional<std::uint64_t> LocalLimits::limited_party(std::uint64_t uid) const {
  const std::lock_guard lock(mutex_);
  if (rules_.unlimited.contains(uid))
    return std::nullopt;
  return daemon::party_of(rules_.lent, uid);
}

LocalLimits::LocalLimits(const Clock& clock, Log& log, BlockingPool& pool, std::string folder)
    : clock_(clock), log_(log), pool_(pool), folder_(std::move(folder)), saved_(clock.steady()) {}

void LocalLimits::set_rules(LocalRules rules) {
  const std::lock_guard lock(mutex_);
  sent_.quota.set_rules(rules.most);
  forwarded_.quota.set_rules(rules.forwarded);
  rules_ = std::move(rules);
  if (std::exchange(is_restored_, true))
    return;
  for (auto* counts : {&sent_, &forwarded_})
    if (const auto kept = read_file(folder_ + counts->file, kMostKept))
      counts->quota.restore(*kept);
}

std::optional<SubmitAnswer> LocalLimits::add(std::uint64_t uid, std::size_t recipients) {
  {
    const std::lock_guard lock(mutex_);
    if (rules_.unlimited.contains(uid))
      return std::nullopt;
    uid = owner_of(uid);
  }
  return add_for(name_of(uid), count_of(recipients));
}

std::optional<SubmitAnswer> LocalLimits::add_token(const std::string& token,
                                                   std::size_t recipients) {
  return add_for("token " + token, count_of(recipients));
}

std::optional<SubmitAnswer> LocalLimits::add_for(const std::string& user,
                                                 std::uint32_t recipients) {
  SendingQuota::Verdict verdict;
  {
    const std::lock_guard lock(mutex_);
    if (const auto most = most_at_once(rules_.most); most > 0 && recipients > most)
      return refused(EX_NOPERM, "you may send to at most " + std::to_string(most) +
                                    " recipients, and this message has " +
                                    std::to_string(recipients));
    verdict = sent_.quota.add(user, recipients, clock_.now());
    sent_.is_dirty = true;
  }
  save_sometimes();
  if (verdict.limit.empty())
    return std::nullopt;
  auto answer = refused(
      EX_TEMPFAIL, "you may send at most " + judged(sent_, user, verdict) + "; try again later");
  answer.cause = kCauseLimit;
  return answer;
}

delivery::ForwardVerdict LocalLimits::count_forward(const std::string& user,
                                                    std::size_t recipients) {
  using Kind = delivery::ForwardVerdict::Kind;
  const auto account = find_account(user);
  if (!account)
    return {};  // a name without an account has no .forward of a user's
  const auto count = count_of(recipients);
  {
    const std::lock_guard lock(mutex_);
    const auto most = most_at_once(rules_.forwarded);
    if (!rules_.unlimited.contains(account->uid) && most > 0 && count > most)
      return {Kind::never, "to " + std::to_string(most) + " at most"};
  }
  auto limit = this->count(forwarded_, account->uid, [&](const auto& name) {
    return forwarded_.quota.add(name, count, clock_.now());
  });
  return {limit.empty() ? Kind::now : Kind::later, std::move(limit)};
}

std::string LocalLimits::begin_message(std::uint32_t uid) {
  return count(sent_, uid,
               [&](const auto& user) { return sent_.quota.add_message(user, clock_.now()); });
}

std::string LocalLimits::add_recipient(std::uint32_t uid) {
  return count(sent_, uid,
               [&](const auto& user) { return sent_.quota.add_recipient(user, 0, clock_.now()); });
}

std::string LocalLimits::count(Counts& counts, std::uint64_t uid, const Add& add) {
  SendingQuota::Verdict verdict;
  {
    const std::lock_guard lock(mutex_);
    if (rules_.unlimited.contains(uid))
      return {};
    uid = owner_of(uid);
    verdict = add(name_of(uid));
    counts.is_dirty = true;
  }
  save_sometimes();
  return verdict.limit.empty() ? std::string() : judged(counts, name_of(uid), verdict);
}

// The limit in words, which the log hears once an hour.
std::string LocalLimits::judged(const Counts& counts, const std::string& user,
                                const SendingQuota::Verdict& verdict) {
  auto limit = std::to_string(verdict.most) + " " + std::string(verdict.limit);
  if (verdict.is_fresh)
    log_.write(LogEvent(Level::error, "user_limited")
                   .add("user", user)
                   .add("client", counts.door)
                   .add("limit", limit));
  return limit;
}

std::vector<SendingQuota::Limited> LocalLimits::limited() const {
  const std::lock_guard lock(mutex_);
  auto users = sent_.quota.limited(clock_.now());
  for (auto& user : forwarded_.quota.limited(clock_.now())) {
    user.user += " by .forward";
    users.push_back(std::move(user));
  }
  return users;
}

void LocalLimits::save_sometimes() {
  {
    const std::lock_guard lock(mutex_);
    if (clock_.steady() - saved_ < kSaveEvery)
      return;
    saved_ = clock_.steady();
  }
  pool_.post([this] { save(); });
}

void LocalLimits::save() {
  for (auto* counts : {&sent_, &forwarded_})
    if (auto written = save(*counts); !written)
      log_.write(LogEvent(Level::warn, "limits_not_kept").add("error", written.error().describe()));
}

Result<void> LocalLimits::save(Counts& counts) {
  std::string kept;
  {
    const std::lock_guard lock(mutex_);
    if (!std::exchange(counts.is_dirty, false))
      return {};
    kept = counts.quota.save();
  }
  if (auto made = make_folder(folder_, 0700); !made)
    return made;
  return replace_file(folder_ + counts.file, kept, 0600);
}

}  // namespace postrider::daemon
