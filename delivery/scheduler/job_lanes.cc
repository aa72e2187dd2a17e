#include "delivery/scheduler/job_lanes.h"

#include <algorithm>

namespace postrider::scheduler {

namespace {

constexpr std::uint32_t kCostUnit = 64 * 1024;
constexpr std::int64_t kMostCost = 16;  // one large message does not shut a lane out for long
// Of the site, of a class that asks for no less than others: 16 small messages in a turn.
constexpr std::int64_t kQuantum = kMostCost;
// A class costs its sender that much more. Urgent mail costs no less than normal: who may say so says it of all.
constexpr std::array<std::int64_t, kJobClasses> kCostOfClass = {1, 1, 2, 4};
constexpr std::array<std::int64_t, kJobClasses> kWeights = {8, 4, 2, 1};
// Then it is the turn of one who waits for longer: ever new senders do not shut out the others.
constexpr unsigned kMostNewInRow = 8;

std::int64_t cost_of(const SiteJob& job) {
  return std::min<std::int64_t>(1 + job.size / kCostUnit, kMostCost);
}

}  // namespace

void JobLanes::add(SiteJob job) {
  auto found = of_sender_.find(job.sender);
  if (found == of_sender_.end()) {
    new_.push_back({});
    new_.back().sender = job.sender;
    found = of_sender_.emplace(job.sender, std::prev(new_.end())).first;
  }
  Lane& lane = *found->second;
  if (lane.size++ == 0)
    ++senders_;
  ++size_;
  lane.jobs[static_cast<std::size_t>(job.klass)].push_back(std::move(job));
}

// There is a lane with jobs in turn_, or there are none.
bool JobLanes::choose() {
  while (size_ > 0) {
    if (!turn_.empty()) {
      if (turn_.front().size > 0 && turn_.front().deficit > 0)
        return true;
      end_turn();
      continue;
    }
    const bool is_new = !new_.empty() && (old_.empty() || new_in_row_ < kMostNewInRow);
    auto& from = is_new ? new_ : old_;
    if (from.front().size == 0) {
      of_sender_.erase(from.front().sender);
      from.pop_front();
      continue;
    }
    new_in_row_ = is_new ? new_in_row_ + 1 : 0;
    turn_.splice(turn_.end(), from, from.begin());
    turn_.front().deficit += kQuantum;
  }
  return false;
}

void JobLanes::end_turn() {
  Lane& lane = turn_.front();
  if (lane.size == 0)
    lane.deficit = std::min<std::int64_t>(lane.deficit, 0);
  old_.splice(old_.end(), turn_);
}

SiteJob JobLanes::take_from(Lane& lane) {
  for (;;) {
    auto& jobs = lane.jobs[lane.klass];
    if (jobs.empty()) {
      lane.of_class = 0;
    } else {
      if (!lane.class_has_begun)
        lane.of_class += kWeights[lane.klass];
      lane.class_has_begun = true;
      if (lane.of_class > 0)
        break;
    }
    lane.klass = (lane.klass + 1) % kJobClasses;
    lane.class_has_begun = false;
  }
  auto& jobs = lane.jobs[lane.klass];
  SiteJob job = std::move(jobs.front());
  jobs.pop_front();
  const auto cost = cost_of(job);
  lane.of_class -= cost;
  lane.deficit -= cost * kCostOfClass[lane.klass];
  return job;
}

std::optional<SiteJob> JobLanes::next() {
  if (!choose())
    return std::nullopt;
  Lane& lane = turn_.front();
  SiteJob job = take_from(lane);
  --size_;
  if (--lane.size == 0)
    --senders_;
  if (size_ == 0) {  // nobody waits: who comes next is new
    turn_.clear(), new_.clear(), old_.clear();
    of_sender_.clear();
    new_in_row_ = 0;
  }
  return job;
}

std::vector<SiteJob> JobLanes::take_all() {
  std::vector<SiteJob> all;
  all.reserve(size_);
  while (auto job = next())
    all.push_back(std::move(job).value());
  return all;
}

}  // namespace postrider::scheduler
