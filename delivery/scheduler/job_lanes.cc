#include "delivery/scheduler/job_lanes.h"

#include <algorithm>

namespace postrider::scheduler {

namespace {

constexpr std::int64_t kQuantum = 16;
constexpr std::uint32_t kCostUnit = 64 * 1024;
constexpr std::array<std::int64_t, kJobClasses> kWeights = {8, 4, 2, 1};

// At most a quantum: one large message does not shut a lane out for long.
std::int64_t cost_of(const SiteJob& job) {
  return std::min<std::int64_t>(1 + job.size / kCostUnit, kQuantum);
}

}  // namespace

void JobLanes::add(SiteJob job) {
  Ring& ring = rings_[static_cast<std::size_t>(job.klass)];
  const auto found = ring.of_sender.find(job.sender);
  auto lane = found == ring.of_sender.end() ? ring.lanes.end() : found->second;
  if (found == ring.of_sender.end()) {
    // Behind the one whose turn it is.
    auto before = ring.lanes.begin();
    if (before != ring.lanes.end() && before->has_begun)
      ++before;
    lane = ring.lanes.insert(before, Lane{job.sender, 0, false, {}});
    ring.of_sender.emplace(job.sender, lane);
  }
  lane->jobs.push_back(std::move(job));
  ++size_;
}

std::optional<SiteJob> JobLanes::next() {
  if (size_ == 0)
    return std::nullopt;
  for (;;) {
    Ring& ring = rings_[turn_];
    if (!turn_has_begun_) {
      ring.deficit += kQuantum * kWeights[turn_];
      turn_has_begun_ = true;
    }
    if (!ring.lanes.empty() && ring.deficit > 0)
      return take_from(ring);
    if (ring.lanes.empty())
      ring.deficit = 0;
    turn_ = (turn_ + 1) % kJobClasses;
    turn_has_begun_ = false;
  }
}

SiteJob JobLanes::take_from(Ring& ring) {
  while (!ring.lanes.front().has_begun || ring.lanes.front().deficit <= 0) {
    Lane& front = ring.lanes.front();
    if (front.has_begun) {
      front.has_begun = false;
      ring.lanes.splice(ring.lanes.end(), ring.lanes, ring.lanes.begin());
      continue;
    }
    front.has_begun = true;
    front.deficit += kQuantum;
  }
  Lane& lane = ring.lanes.front();
  SiteJob job = std::move(lane.jobs.front());
  lane.jobs.pop_front();
  lane.deficit -= cost_of(job);
  ring.deficit -= cost_of(job);
  --size_;
  if (lane.jobs.empty()) {
    ring.of_sender.erase(lane.sender);
    ring.lanes.pop_front();
  }
  return job;
}

std::vector<SiteJob> JobLanes::take_all() {
  std::vector<SiteJob> all;
  all.reserve(size_);
  while (auto job = next())
    all.push_back(std::move(*job));
  return all;
}

std::size_t JobLanes::senders() const {
  std::size_t count = 0;
  for (const Ring& ring : rings_)
    count += ring.lanes.size();
  return count;
}

}  // namespace postrider::scheduler
