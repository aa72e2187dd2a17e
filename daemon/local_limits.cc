#include "daemon/local_limits.h"

#include "base/file.h"

#include <algorithm>
#include <limits>
#include <sysexits.h>

namespace postrider::daemon {

using smtpd::auth::Quota;

namespace {

constexpr std::size_t kMostKept = 64U << 20U;
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

std::string LocalLimits::begin_message(std::uint32_t uid) {
  return count(uid, [&] { return quota_.add_message(name_of(uid), clock_.now()); });
}

std::string LocalLimits::add_recipient(std::uint32_t uid) {
  return count(uid, [&] { return quota_.add_recipient(name_of(uid), 0, clock_.now()); });
}

std::string LocalLimits::count(std::uint64_t uid, const std::function<Quota::Verdict()>& add) {
  Quota::Verdict verdict;
  {
    const std::lock_guard lock(mutex_);
    if (rules_.unlimited.contains(uid))
      return {};
    verdict = add();
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
