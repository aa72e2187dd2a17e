// The jobs of a site that wait for a connection, and whose turn it is: senders take turns
// (scheduler/job_lanes.h), so that a thousand messages of one of them do not stand before the
// one of another. Those of one sender and of one class of priority (RFC 6710, or the field
// Precedence) go in their order.
// Pure; on one thread.
#pragma once

#include "delivery/job/job.h"
#include "delivery/scheduler/job_lanes.h"

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <unordered_map>
#include <utility>

namespace postrider::delivery {

class ReadyJobs {
 public:
  void add(Job job);
  // Before all others: it had its turn, and comes back.
  void add_first(Job job);
  // Requires, as take() does: there is one.
  const Job& next() const;
  Job take();
  std::deque<Job> take_all();
  // Not among those whose turn it may be, until it is taken back.
  void stand_back(Job job) { back_.push_back(std::move(job)); }
  std::deque<Job> take_back() { return std::exchange(back_, {}); }
  void each(const std::function<void(const Job&)>& visit) const;  // in no order
  std::size_t all() const { return size() + back_.size(); }
  // Of those whose turn it may be.
  std::size_t size() const { return first_.size() + waiting_.size(); }
  bool empty() const { return first_.empty() && waiting_.empty(); }

 private:
  void choose();

  std::deque<Job> first_, back_;
  scheduler::JobLanes lanes_;  // of waiting_, but the chosen one
  std::unordered_map<std::uint64_t, Job> waiting_;
  std::optional<std::uint64_t> chosen_;  // of waiting_, if there is one
  std::uint64_t last_ = 0;
};

}  // namespace postrider::delivery
