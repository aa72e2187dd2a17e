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

TEST_CASE("lanes: the classes of a sender share by weight and none starves", "[job_lanes]") {
  JobLanes lanes;
  for (unsigned i = 0; i < 4000; ++i)
    for (unsigned klass = 0; klass < kJobClasses; ++klass)
      lanes.add(job_of(i * 4 + klass, 1, static_cast<JobClass>(klass)));
  std::map<JobClass, unsigned> taken;
  for (unsigned i = 0; i < 15 * 160; ++i)
    ++taken[lanes.next()->klass];
  CHECK(taken[JobClass::urgent] == 8 * 160);
  CHECK(taken[JobClass::normal] == 4 * 160);
  CHECK(taken[JobClass::bulk] == 2 * 160);
  CHECK(taken[JobClass::junk] == 160);
}

TEST_CASE("lanes: urgent mail of one sender puts nobody else's back", "[job_lanes]") {
  JobLanes lanes;
  for (unsigned i = 0; i < 500; ++i)
    lanes.add(job_of(i, 1, JobClass::urgent));
  for (unsigned i = 0; i < 20; ++i)
    lanes.next();
  lanes.add(job_of(1000, 2));
  unsigned before = 0;
  while (lanes.next()->sender != 2)
    ++before;
  CHECK(before <= 16);
  // Neither where both have much.
  for (unsigned i = 0; i < 500; ++i)
    lanes.add(job_of(2000 + i, 2));
  std::map<std::uint64_t, unsigned> taken;
  for (unsigned i = 0; i < 320; ++i)
    ++taken[lanes.next()->sender];
  CHECK(taken[1] <= 176);
  CHECK(taken[2] >= 144);
}

TEST_CASE("lanes: who says that his mail may wait has a smaller share", "[job_lanes]") {
  JobLanes lanes;
  for (unsigned i = 0; i < 1000; ++i) {
    lanes.add(job_of(i, 1));
    lanes.add(job_of(1000 + i, 2, JobClass::bulk));
    lanes.add(job_of(2000 + i, 3, JobClass::junk));
  }
  std::map<std::uint64_t, unsigned> taken;
  for (unsigned i = 0; i < 280; ++i)
    ++taken[lanes.next()->sender];
  CHECK(taken[1] == 160);
  CHECK(taken[2] == 80);
  CHECK(taken[3] == 40);
}

TEST_CASE("lanes: who has always one more job is not new each time", "[job_lanes]") {
  JobLanes lanes;
  lanes.add(job_of(1, 1));
  lanes.add(job_of(2, 2));
  lanes.add(job_of(3, 3));
  unsigned before = 0;
  for (auto job = lanes.next(); job->sender != 3 && before < 100; job = lanes.next()) {
    lanes.add(job_of(100 + ++before, job->sender));
  }
  CHECK(before <= 32);
}

TEST_CASE("lanes: ever new senders do not shut out those who wait", "[job_lanes]") {
  JobLanes lanes;
  for (unsigned i = 0; i < 100; ++i)
    lanes.add(job_of(i, 1));
  for (unsigned i = 0; i < 17; ++i)
    lanes.next();  // its first turn is over
  unsigned of_first = 0;
  for (unsigned i = 0; i < 300; ++i) {
    lanes.add(job_of(1000 + i, 1000 + i));
    of_first += lanes.next()->sender == 1 ? 1 : 0;
  }
  CHECK(of_first >= 80);
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
