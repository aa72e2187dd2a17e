#include "queue/queue_timings.h"
#include "tests/unit/queue/queue_fixture.h"

#include <catch2/catch.hpp>

#include <set>

namespace postrider::queue::test {

using mail::Verdict;

std::uint64_t counted(const Histogram& histogram) {
  std::uint64_t all = 0;
  for (const auto count : histogram.figures().counts)
    all += count;
  return all;
}

TEST_CASE_METHOD(QueueFixture, "an accepted message is handed out at once and gone when delivered",
                 "[queue][accept]") {
  open();
  start();
  const auto id = must_accept("a@b.test", {"c@d.test", "e@f.test"});
  const Lease lease = hand.next(id);
  CHECK(lease.reason == Lease::Reason::fresh);
  CHECK(lease.recipients.size() == 2);
  REQUIRE(list().size() == 1);
  CHECK(list()[0].status == "active");
  CHECK(list()[0].recipients.size() == 2);

  record(answer(lease, Verdict::delivered));
  CHECK(list().empty());
  CHECK(queue->counters().accepted == 1);
  CHECK(queue->counters().delivered == 2);
  const auto& timings = queue->timings();
  CHECK(counted(timings.accept) == 1);
  CHECK(counted(timings.commit) == queue->counters().commits);
  CHECK(counted(timings.batch) == queue->counters().commits);
  CHECK(timings.batch.figures().sum == 3);  // one was taken, two were delivered
}

TEST_CASE_METHOD(QueueFixture, "no id is given twice, however soon one kill follows another",
                 "[queue][accept]") {
  std::set<mail::MessageId> given;
  open();
  for (const int lived : {61'000, 1000, 1000, 1000}) {
    start();
    CHECK(given.insert(must_accept("a@b.test", {"c@d.test"})).second);
    clock.pass(Duration(lived));
    for (int i = 0; i < 3; ++i)
      CHECK(given.insert(must_accept("a@b.test", {"c@d.test"})).second);
    settle();
    die();
    open();
  }
  CHECK(list().size() == given.size());
}

TEST_CASE_METHOD(QueueFixture, "a record ends those whom it names and nobody else",
                 "[queue][record]") {
  open();
  start();
  SECTION("one named twice is not two") {
    const auto id = must_accept("a@b.test", {"c@d.test", "e@f.test"});
    auto twice = answer(hand.next(id), Verdict::delivered);
    twice.results[1] = twice.results[0];
    record(std::move(twice));
    const Lease rest = hand.next(id);
    REQUIRE(rest.recipients.size() == 1);
    CHECK(rest.recipients[0].index == 1);
    record(answer(rest, Verdict::delivered));
    CHECK(list().empty());
  }
  SECTION("one that is not there is none") {
    const auto id = must_accept("a@b.test", {"c@d.test"});
    auto beyond = answer(hand.next(id), Verdict::delivered);
    beyond.results[0].index = 7;
    record(std::move(beyond));
    CHECK(hand.next(id).recipients.size() == 1);
  }
}

TEST_CASE_METHOD(QueueFixture, "a message in delivery's hands is due again after a stop",
                 "[queue][accept]") {
  open();
  start();
  const auto id = must_accept("a@b.test", {"c@d.test"});
  hand.next(id);
  reopen();
  const Lease again = hand.next(id);
  CHECK(again.reason == Lease::Reason::due);
  CHECK(again.message->envelope.sender == "a@b.test");
  CHECK(*again.message->content.bytes == "Subject: x\r\n\r\nbody\r\n");
  CHECK(again.message->content.trace == "Received: by mx.test\r\n");
  record(answer(again, Verdict::delivered));
  CHECK(list().empty());
}

TEST_CASE_METHOD(QueueFixture, "what was deferred comes back at its time", "[queue][due]") {
  open();
  start();
  const auto id = must_accept("a@b.test", {"c@d.test", "e@f.test"});
  const Lease lease = hand.next(id);
  Record part;
  part.id = id;
  part.results.push_back({0, outcome(Verdict::delivered), {}});
  part.results.push_back(
      {1, outcome(Verdict::retry, "busy"), clock.now() + std::chrono::minutes(5)});
  part.results.back().tally = {3, 2, 1};
  record(std::move(part));
  auto listed = list();
  REQUIRE(listed.size() == 1);
  CHECK(listed[0].status == "deferred");
  REQUIRE(listed[0].recipients.size() == 1);
  CHECK(listed[0].recipients[0].address == "e@f.test");
  CHECK(listed[0].recipients[0].attempts == 1);
  CHECK(listed[0].recipients[0].last->text == "busy");
  CHECK(hand.count() == 0);

  clock.pass(std::chrono::minutes(5));
  queue->wake();
  const Lease again = hand.next(id);
  REQUIRE(again.recipients.size() == 1);
  CHECK(again.recipients[0].index == 1);
  CHECK(again.recipients[0].attempts == 1);
  CHECK(again.recipients[0].tally == RetryTally{3, 2, 1});
  record(answer(again, Verdict::delivered));
  CHECK(list().empty());
}

}  // namespace postrider::queue::test
