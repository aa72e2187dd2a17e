#include "delivery/local_history.h"

namespace postrider::delivery {

namespace {

constexpr auto kKeep = std::chrono::minutes(15);
constexpr std::size_t kMost = 100'000;  // deeds and children

}  // namespace

std::int64_t LocalHistory::root_of(std::int64_t message) const {
  const std::lock_guard lock(mutex_);
  const auto found = roots_.find(message);
  return found == roots_.end() ? message : found->second;
}

void LocalHistory::note_child(std::int64_t child, std::int64_t root, SteadyTime now) {
  const std::lock_guard lock(mutex_);
  forget(now);
  families_[root].until = now + kKeep;
  kept_ += roots_.emplace(child, root).second ? 1 : 0;
}

bool LocalHistory::was_done(std::int64_t root, const std::string& deed) const {
  const std::lock_guard lock(mutex_);
  const auto found = families_.find(root);
  return found != families_.end() && found->second.deeds.contains(deed);
}

void LocalHistory::note_done(std::int64_t root, const std::string& deed, SteadyTime now) {
  const std::lock_guard lock(mutex_);
  forget(now);
  auto& family = families_[root];
  family.until = now + kKeep;
  kept_ += family.deeds.insert(deed).second ? 1 : 0;
}

// Old families first; all of them, rather than more memory.
void LocalHistory::forget(SteadyTime now) {
  if (kept_ < kMost)
    return;
  std::erase_if(families_, [&](const auto& entry) { return entry.second.until < now; });
  std::erase_if(roots_, [&](const auto& entry) { return !families_.contains(entry.second); });
  kept_ = roots_.size();
  for (const auto& [root, family] : families_)
    kept_ += family.deeds.size();
  if (kept_ < kMost / 2)
    return;
  families_.clear();
  roots_.clear();
  kept_ = 0;
}

}  // namespace postrider::delivery
