#include "tables/recent_answers.h"

#include "base/memory_only.h"

namespace postrider::tables {

namespace {

constexpr std::size_t kMostEntries = 10'000;
constexpr std::size_t kMostFailures = 1'000;

}  // namespace

std::optional<RecentAnswers::Answer> RecentAnswers::find(const std::string& key) const {
  const std::lock_guard lock(mutex_);
  const auto now = Clock::now();
  const auto entry = entries_.find(key);
  if (entry != entries_.end() && (entry->second.until > now || MemoryOnly::takes_stale()))
    return Answer(entry->second.what);
  const auto failure = failures_.find(key);
  if (failure != failures_.end() && failure->second.until > now)
    return Answer(failure->second.what);
  return std::nullopt;
}

void RecentAnswers::keep(const std::string& key, const std::optional<Entry>& entry) {
  const std::lock_guard lock(mutex_);
  failures_.erase(key);
  if (entries_.size() >= kMostEntries)
    entries_.clear();
  entries_.insert_or_assign(key, Kept<std::optional<Entry>>{entry, Clock::now() + kept_});
}

void RecentAnswers::keep_failure(const std::string& key, const Error& why) {
  const std::lock_guard lock(mutex_);
  if (failures_.size() >= kMostFailures)
    failures_.clear();
  failures_.insert_or_assign(key, Kept<Error>{why, Clock::now() + kept_});
}

}  // namespace postrider::tables
