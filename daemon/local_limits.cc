#include "daemon/local_limits.h"

#include "base/file.h"
#include "base/text.h"
#include "daemon/privileges.h"

#include <algorithm>
#include <limits>
#include <sysexits.h>

namespace postrider::daemon {

using smtpd::auth::Quota;

namespace {

constexpr std::size_t kMostKept = 64U << 20U;
constexpr std::size_t kMostLent = 10'000;
constexpr Duration kSaveEvery{std::chrono::seconds(30)};

std::string name_of(std::uint64_t uid) {
  return "uid " + std::to_string(uid);
}

// The least limit that holds one message's recipients at any time; 0: none does.
std::uint32_t most_at_once(const Quota::Rules& rules) {
  std::uint32_t least = 0;
  for (const auto limit : {rules.hour[Quota::recipients], rules.day[Quota::recipients]})
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

std::vector<LentUids> parse_subuids(std::string_view text) {
  std::vector<LentUids> found;
  for (const auto line : split(text, '\n')) {
    const auto parts = split(line, ':');
    if (parts.size() != 3 || found.size() >= kMostLent)
      continue;
    const auto first = parse_unsigned(parts[1]), count = parse_unsigned(parts[2]);
    auto owner = parse_unsigned(parts[0]);
    if (!owner)
      if (const auto account = find_account(std::string(parts[0])))
        owner = account->uid;
    if (owner && first && count && *first > 0)
      found.push_back({*first, *count, *owner});
  }
  return found;
}

// Containers of one user are that user.
std::uint64_t LocalLimits::owner_of(std::uint64_t uid) const {
  for (const auto& lent : rules_.lent)
    if (uid >= lent.first && uid - lent.first < lent.count)
      return rules_.unlimited.contains(lent.owner) ? uid : lent.owner;
  return uid;
}

LocalLimits::LocalLimits(const Clock& clock, Log& log, BlockingPool& pool, std::string folder)
    : clock_(clock), log_(log), pool_(pool), folder_(std::move(folder)), saved_(clock.steady()) {}

void LocalLimits::set_rules(LocalRules rules) {
  const std::lock_guard lock(mutex_);
  quota_.set_rules(rules.most);
  rules_ = std::move(rules);
  if (!std::exchange(is_restored_, true))
    if (const auto kept = read_file(folder_ + "/local", kMostKept))
      quota_.restore(*kept);
}

std::optional<SubmitAnswer> LocalLimits::add(std::uint64_t uid, std::size_t recipients) {
  Quota::Verdict verdict;
  const auto count = static_cast<std::uint32_t>(
      std::min<std::size_t>(recipients, std::numeric_limits<std::uint32_t>::max()));
  {
    const std::lock_guard lock(mutex_);
    if (rules_.unlimited.contains(uid))
      return std::nullopt;
    uid = owner_of(uid);
    if (const auto most = most_at_once(rules_.most); most > 0 && count > most)
      return refused(EX_NOPERM, "you may send to at most " + std::to_string(most) +
                                    " recipients, and this message has " + std::to_string(count));
    verdict = quota_.add(name_of(uid), count, clock_.now());
    is_dirty_ = true;
  }
  save_sometimes();
  if (verdict.limit.empty())
    return std::nullopt;
  return refused(EX_TEMPFAIL, "you may send at most " + judged(uid, verdict) + "; try again later");
}

delivery::ForwardVerdict LocalLimits::count_forward(const std::string& user,
                                                    std::size_t recipients) {
  using Kind = delivery::ForwardVerdict::Kind;
  const auto account = find_account(user);
  if (!account)
    return {};  // a name without an account has no .forward of a user's
  const auto count = static_cast<std::uint32_t>(
      std::min<std::size_t>(recipients, std::numeric_limits<std::uint32_t>::max()));
  {
    const std::lock_guard lock(mutex_);
    const auto most = most_at_once(rules_.most);
    if (!rules_.unlimited.contains(account->uid) && most > 0 && count > most)
      return {Kind::never, "to " + std::to_string(most) + " at most"};
  }
  auto limit = this->count(account->uid,
                           [&](const auto& name) { return quota_.add(name, count, clock_.now()); });
  return {limit.empty() ? Kind::now : Kind::later, std::move(limit)};
}

std::string LocalLimits::begin_message(std::uint32_t uid) {
  return count(uid, [&](const auto& user) { return quota_.add_message(user, clock_.now()); });
}

std::string LocalLimits::add_recipient(std::uint32_t uid) {
  return count(uid, [&](const auto& user) { return quota_.add_recipient(user, 0, clock_.now()); });
}

std::string LocalLimits::count(std::uint64_t uid,
                               const std::function<Quota::Verdict(const std::string&)>& add) {
  Quota::Verdict verdict;
  {
    const std::lock_guard lock(mutex_);
    if (rules_.unlimited.contains(uid))
      return {};
    uid = owner_of(uid);
    verdict = add(name_of(uid));
    is_dirty_ = true;
  }
  save_sometimes();
  return verdict.limit.empty() ? std::string() : judged(uid, verdict);
}

// The limit in words, which the log hears once an hour.
std::string LocalLimits::judged(std::uint64_t uid, const Quota::Verdict& verdict) {
  auto limit = std::to_string(verdict.most) + " " + std::string(verdict.limit);
  if (verdict.is_fresh)
    log_.write(LogEvent(Level::error, "user_limited")
                   .add("user", name_of(uid))
                   .add("client", "local")
                   .add("limit", limit));
  return limit;
}

std::vector<Quota::Limited> LocalLimits::limited() const {
  const std::lock_guard lock(mutex_);
  return quota_.limited(clock_.now());
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
  std::string counts;
  {
    const std::lock_guard lock(mutex_);
    if (!std::exchange(is_dirty_, false))
      return;
    counts = quota_.save();
  }
  auto written = make_folder(folder_, 0700);
  if (written)
    written = replace_file(folder_ + "/local", counts, 0600);
  if (!written)
    log_.write(LogEvent(Level::warn, "limits_not_kept").add("error", written.error().describe()));
}

}  // namespace postrider::daemon
