#include "delivery/doubtful_jobs.h"

#include "delivery/job/job_outcome.h"

#include <algorithm>

namespace postrider::delivery {

using mail::Stage;
using mail::Verdict;

namespace {

constexpr std::size_t kMostDoubtful = 10000;
constexpr Duration kStandsBack = std::chrono::seconds(5);

}  // namespace

bool DoubtfulJobs::take(mail::MessageId id) {
  return !ids_.empty() && ids_.erase(id.value) > 0;
}

// Lost behind its content, the message may have arrived.
void DoubtfulJobs::note_end(const JobEnd& end) {
  const bool is_lost = std::any_of(end.results.begin(), end.results.end(), [](const auto& result) {
    const auto& outcome = result.outcome;
    return outcome.verdict == Verdict::retry && outcome.reply.code == 0 &&
           (outcome.stage == Stage::body || outcome.stage == Stage::body_end);
  });
  if (!is_lost)
    return;
  if (ids_.size() >= kMostDoubtful)
    ids_.clear();
  ids_.insert(end.job.message->id.value);
}

void DoubtfulJobs::stand_back(Site& site) {
  auto job = site.ready.take();
  const auto now = context_.steady();
  if (job.stood_back == SteadyTime{})
    job.stood_back = now;
  if (now - job.stood_back >= kStandsBack)
    put_off(site, job);
  else
    site.ready.stand_back(std::move(job));
}

void DoubtfulJobs::bring_back(Site& site) {
  for (auto& job : site.ready.take_back()) {
    job.stood_back = {};
    site.ready.add(std::move(job));
  }
}

void DoubtfulJobs::put_off(const Site& site, const Job& job) {
  if (ids_.size() < kMostDoubtful)
    ids_.insert(job.message->id.value);
  leases_.settle_all(job, decide(Verdict::retry, Stage::connect, {4, 4, 5},
                                 "no reply came behind its content before, and others that met the "
                                 "same wait for one from " +
                                     site.name));
  leases_.close(job.lease);
}

}  // namespace postrider::delivery
