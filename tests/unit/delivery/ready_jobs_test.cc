#include "delivery/ready_jobs.h"

#include <catch2/catch.hpp>

#include <map>
#include <memory>
#include <set>
#include <string>

namespace postrider::delivery {
namespace {

Job job_of(const std::string& sender, std::uint64_t lease, std::uint64_t size = 1000) {
  auto message = std::make_shared<mail::Message>();
  message->origin = {"host[192.0.2.1]", "ESMTPA"};
  message->envelope.sender = sender;
  message->content.size = size;
  Job job;
  job.lease = lease;
  job.message = std::move(message);
  return job;
}

// The position at which a lease is taken.
std::size_t taken_at(ReadyJobs& jobs, std::uint64_t lease) {
  for (std::size_t at = 0; !jobs.empty(); ++at)
    if (jobs.take().lease == lease)
      return at;
  return ~std::size_t{0};
}

TEST_CASE("jobs of one sender go in their order", "[delivery][unit]") {
  ReadyJobs jobs;
  for (std::uint64_t lease = 1; lease <= 100; ++lease)
    jobs.add(job_of("a@us.test", lease));
  CHECK(jobs.size() == 100);
  for (std::uint64_t lease = 1; lease <= 100; ++lease) {
    CHECK(jobs.next().lease == lease);
    CHECK(jobs.take().lease == lease);
  }
  CHECK(jobs.empty());
}

TEST_CASE("priority is a larger share of the sender's own, and nothing starves (RFC 6710)",
          "[delivery][unit]") {
  ReadyJobs jobs;
  const auto add = [&](int priority) {
    for (int i = 0; i < 700; ++i) {
      // The same sender: his urgent mail passes his own bulk.
      auto job = job_of("a@us.test", static_cast<std::uint64_t>(priority + 10));
      std::const_pointer_cast<mail::Message>(job.message)->envelope.priority =
          static_cast<std::int8_t>(priority);
      jobs.add(std::move(job));
    }
  };
  for (const int priority : {-9, 0, 4})
    add(priority);
  std::map<std::uint64_t, int> taken;
  for (int i = 0; i < 700; ++i)
    ++taken[jobs.take().lease];
  CHECK(taken[1] >= 80);
  CHECK(taken[10] >= taken[1] * 3 / 2);
  CHECK(taken[14] >= taken[10] * 3 / 2);
}

TEST_CASE("what says that it may wait has a smaller share, and nobody starves",
          "[delivery][unit]") {
  ReadyJobs jobs;
  const auto add = [&](mail::Precedence precedence, int priority, std::uint64_t lease) {
    for (int i = 0; i < 700; ++i) {
      auto job = job_of("a@us.test", lease);
      auto& message = *std::const_pointer_cast<mail::Message>(job.message);
      message.precedence = precedence;
      message.envelope.priority = static_cast<std::int8_t>(priority);
      jobs.add(std::move(job));
    }
  };
  add(mail::Precedence::junk, 0, 1);
  add(mail::Precedence::bulk, 0, 2);
  add(mail::Precedence::none, 0, 3);
  add(mail::Precedence::junk, 4, 4);  // the envelope counts first
  std::map<std::uint64_t, int> taken;
  for (int i = 0; i < 700; ++i)
    ++taken[jobs.take().lease];
  CHECK(taken[1] >= 30);
  for (std::uint64_t lease = 2; lease <= 4; ++lease)
    CHECK(taken[lease] >= taken[lease - 1] * 3 / 2);
}

TEST_CASE("a job that stands back has no turn, and is not forgotten", "[delivery][unit]") {
  ReadyJobs jobs;
  for (std::uint64_t lease = 1; lease <= 3; ++lease)
    jobs.add(job_of("a@us.test", lease));
  jobs.stand_back(jobs.take());
  CHECK(jobs.next().lease == 2);
  CHECK(jobs.size() == 2);
  CHECK(jobs.all() == 3);
  std::set<std::uint64_t> seen;
  jobs.each([&](const Job& job) { seen.insert(job.lease); });
  CHECK(seen.size() == 3);
  SECTION("it comes back") {
    for (auto& job : jobs.take_back())
      jobs.add(std::move(job));
    CHECK(taken_at(jobs, 1) == 2);
  }
  SECTION("all are taken at once") {
    CHECK(jobs.take_all().size() == 3);
    CHECK(jobs.all() == 0);
  }
}

TEST_CASE("who comes new does not wait for all of another's jobs", "[delivery][unit]") {
  for (const int before : {0, 1, 16, 500}) {
    ReadyJobs jobs;
    for (std::uint64_t lease = 1; lease <= 1000; ++lease)
      jobs.add(job_of("bulk@us.test", lease));
    for (int i = 0; i < before; ++i)
      jobs.take();
    (void)jobs.next();  // looked at, and not taken
    jobs.add(job_of("small@us.test", 5000));
    CHECK(taken_at(jobs, 5000) <= 17);
  }
}

TEST_CASE("two senders have the same share whoever has more", "[delivery][unit]") {
  ReadyJobs jobs;
  for (std::uint64_t lease = 1; lease <= 1000; ++lease)
    jobs.add(job_of("bulk@us.test", lease));
  for (std::uint64_t lease = 5001; lease <= 5100; ++lease)
    jobs.add(job_of("small@us.test", lease));
  CHECK(taken_at(jobs, 5100) <= 232);
}

TEST_CASE("large messages cost more of a sender's share", "[delivery][unit]") {
  ReadyJobs jobs;
  for (std::uint64_t lease = 1; lease <= 100; ++lease) {
    jobs.add(job_of("large@us.test", lease, 50U << 20U));
    jobs.add(job_of("small@us.test", 1000 + lease));
  }
  std::size_t large = 0;
  for (std::size_t taken = 0; taken < 100; ++taken)
    large += jobs.take().lease < 1000 ? 1U : 0U;
  CHECK(large <= 10);
}

TEST_CASE("what comes back goes first, and nothing is lost", "[delivery][unit]") {
  ReadyJobs jobs;
  for (std::uint64_t lease = 1; lease <= 10; ++lease)
    jobs.add(job_of("a" + std::to_string(lease % 3) + "@us.test", lease));
  (void)jobs.next();
  jobs.add_first(job_of("z@us.test", 100));
  jobs.add_first(job_of("z@us.test", 101));
  CHECK(jobs.size() == 12);
  CHECK(jobs.next().lease == 101);
  std::set<std::uint64_t> seen;
  jobs.each([&](const Job& job) { seen.insert(job.lease); });
  CHECK(seen.size() == 12);
  const auto all = jobs.take_all();
  CHECK(all.size() == 12);
  CHECK(all[0].lease == 101);
  CHECK(all[1].lease == 100);
  CHECK(jobs.empty());
  jobs.add(job_of("a@us.test", 7));
  CHECK(jobs.take().lease == 7);
}

}  // namespace
}  // namespace postrider::delivery
