#include "delivery/ready_jobs.h"

#include "base/assert.h"
#include "mail/sender_lane.h"
#include "mail/urgency.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace postrider::delivery {

void ReadyJobs::add(Job job) {
  scheduler::SiteJob turn;
  turn.klass = mail::urgency_of(*job.message);
  turn.id = ++last_;
  turn.sender = mail::sender_lane(*job.message);
  turn.size = static_cast<std::uint32_t>(std::min<std::uint64_t>(
      job.message->content.size, std::numeric_limits<std::uint32_t>::max()));
  waiting_.emplace(turn.id, std::move(job));
  lanes_.add(turn);
  choose();
}

void ReadyJobs::add_first(Job job) {
  first_.push_front(std::move(job));
}

void ReadyJobs::choose() {
  const auto turn = chosen_ ? std::nullopt : lanes_.next();
  if (turn)
    chosen_ = turn->id;
}

const Job& ReadyJobs::next() const {
  POSTRIDER_ASSERT(!empty());
  return first_.empty() ? waiting_.at(*chosen_) : first_.front();
}

Job ReadyJobs::take() {
  POSTRIDER_ASSERT(!empty());
  if (!first_.empty()) {
    Job job = std::move(first_.front());
    first_.pop_front();
    return job;
  }
  auto taken = waiting_.extract(*chosen_);
  chosen_.reset();
  choose();
  return std::move(taken.mapped());
}

std::deque<Job> ReadyJobs::take_all() {
  std::deque<Job> all;
  while (!empty())
    all.push_back(take());
  for (auto& job : take_back())
    all.push_back(std::move(job));
  return all;
}

void ReadyJobs::each(const std::function<void(const Job&)>& visit) const {
  for (const auto& job : first_)
    visit(job);
  for (const auto& [id, job] : waiting_)
    visit(job);
  for (const auto& job : back_)
    visit(job);
}

}  // namespace postrider::delivery
