#include "tables/recent_answers.h"

#include "base/memory_only.h"

namespace postrider::tables {

namespace {

constexpr std::size_t kMostEntries = 10'000;
constexpr std::size_t kMostOctets = 8U << 20U;
constexpr std::size_t kOfEach = 200;
constexpr std::size_t kMostFailures = 1'000;

std::size_t octets_of(const std::string& key, const std::optional<Entry>& entry) {
  return kOfEach + key.size() + (entry ? entry->value.size() : 0);
}

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
  const auto octets = octets_of(key, entry);
  if (const auto old = entries_.find(key); old != entries_.end()) {
    octets_ -= octets_of(key, old->second.what);
    entries_.erase(old);
  }
  if (entries_.size() >= kMostEntries || octets_ + octets > kMostOctets) {
    entries_.clear();
    octets_ = 0;
  }
  entries_.emplace(key, Kept<std::optional<Entry>>{entry, Clock::now() + kept_});
  octets_ += octets;
}

std::size_t RecentAnswers::octets() const {
  const std::lock_guard lock(mutex_);
  return octets_;
}

void RecentAnswers::keep_failure(const std::string& key, const Error& why) {
  const std::lock_guard lock(mutex_);
  if (failures_.size() >= kMostFailures)
    failures_.clear();
  failures_.insert_or_assign(key, Kept<Error>{why, Clock::now() + kept_});
}

}  // namespace postrider::tables
