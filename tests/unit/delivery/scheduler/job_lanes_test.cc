#include "delivery/scheduler/job_lanes.h"

#include <catch2/catch.hpp>

#include <map>

namespace postrider::scheduler {
namespace {

SiteJob job_of(std::uint64_t id, std::uint64_t sender, JobClass klass = JobClass::normal,
               std::uint32_t size = 1000) {
  SiteJob job;
  job.id = id;
  job.sender = sender;
  job.klass = klass;
  job.size = size;
  return job;
}

TEST_CASE("lanes: ten messages do not wait behind ten thousand", "[job_lanes]") {
  JobLanes lanes;
  for (unsigned i = 0; i < 10'000; ++i)
    lanes.add(job_of(i, 1));
  for (unsigned i = 0; i < 100; ++i)
    lanes.next();
  for (unsigned i = 0; i < 10; ++i)
    lanes.add(job_of(100'000 + i, 2));
  unsigned found = 0;
  for (unsigned i = 0; i < 26; ++i)
    found += lanes.next()->sender == 2 ? 1 : 0;
  CHECK(found == 10);
  CHECK(lanes.senders() == 1);
}

TEST_CASE("lanes: senders share by size", "[job_lanes]") {
  JobLanes lanes;
  for (unsigned i = 0; i < 4000; ++i) {
    lanes.add(job_of(i, 1, JobClass::normal, 7 * 64 * 1024));  // costs 8
    lanes.add(job_of(10'000 + i, 2));
  }
  std::map<std::uint64_t, unsigned> taken;
  for (unsigned i = 0; i < 1800; ++i)
    ++taken[lanes.next()->sender];
  CHECK(taken[2] >= 7 * taken[1]);
  CHECK(taken[2] <= 9 * taken[1]);
}

TEST_CASE("lanes: classes share by weight and none starves", "[job_lanes]") {
  JobLanes lanes;
  for (unsigned i = 0; i < 4000; ++i)
    for (unsigned klass = 0; klass < kJobClasses; ++klass)
      lanes.add(job_of(i * 4 + klass, i % 7, static_cast<JobClass>(klass)));
  std::map<JobClass, unsigned> taken;
  for (unsigned i = 0; i < 15 * 16 * 10; ++i)
    ++taken[lanes.next()->klass];
  CHECK(taken[JobClass::urgent] == 8 * 160);
  CHECK(taken[JobClass::normal] == 4 * 160);
  CHECK(taken[JobClass::bulk] == 2 * 160);
  CHECK(taken[JobClass::junk] == 160);
}

TEST_CASE("lanes: what goes in comes out, once", "[job_lanes]") {
  JobLanes lanes;
  for (unsigned i = 0; i < 1000; ++i)
    lanes.add(job_of(i, i % 13, static_cast<JobClass>(i % 4), i * 3000));
  CHECK(lanes.size() == 1000);
  std::map<std::uint64_t, unsigned> seen;
  for (const auto& job : lanes.take_all())
    ++seen[job.id];
  CHECK(seen.size() == 1000);
  CHECK(lanes.size() == 0);
  CHECK(lanes.senders() == 0);
  CHECK(!lanes.next());
}

}  // namespace
}  // namespace postrider::scheduler
