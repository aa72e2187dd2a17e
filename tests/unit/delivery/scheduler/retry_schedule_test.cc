#include "delivery/scheduler/retry_schedule.h"

#include <catch2/catch.hpp>

namespace postrider::scheduler {
namespace {

using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;

RetrySchedule::Reason reason(ReplyClass klass, unsigned tries) {
  RetrySchedule::Reason reason;
  reason.klass = klass;
  reason.tries = tries;
  return reason;
}

TEST_CASE("schedule: every class has steps that do not shrink", "[retry_schedule]") {
  const RetrySchedule schedule;
  for (std::size_t i = 0; i < kReplyClasses; ++i) {
    const auto& steps = schedule.steps(static_cast<ReplyClass>(i));
    CAPTURE(name(static_cast<ReplyClass>(i)));
    REQUIRE(!steps.empty());
    CHECK(steps.front() >= minutes(1));
    CHECK(std::is_sorted(steps.begin(), steps.end()));
  }
}

TEST_CASE("schedule: greylisted mail comes back behind the usual 300 s, four times in 4 hours",
          "[retry_schedule]") {
  const RetrySchedule schedule;
  for (std::uint64_t message = 0; message < 1000; ++message) {
    Duration sum{0};
    for (unsigned tries = 1; tries <= 4; ++tries)
      sum += schedule.wait(reason(ReplyClass::greylisted, tries), message, 7);
    const auto first = schedule.wait(reason(ReplyClass::greylisted, 1), message, 7);
    CHECK(first >= seconds(305));
    CHECK(first <= seconds(325));
    CHECK(sum < hours(4));
  }
}

TEST_CASE("schedule: one jitter for a message and site", "[retry_schedule]") {
  const RetrySchedule schedule;
  const auto busy = reason(ReplyClass::busy, 3);
  CHECK(schedule.wait(busy, 1, 2) == schedule.wait(busy, 1, 2));
  CHECK(schedule.wait(busy, 1, 2) != schedule.wait(busy, 2, 2));
  Duration least = hours(1), most{0};
  for (std::uint64_t message = 0; message < 2000; ++message) {
    least = std::min(least, schedule.wait(busy, message, 1));
    most = std::max(most, schedule.wait(busy, message, 1));
  }
  const Duration step = schedule.steps(ReplyClass::busy)[2];
  CHECK(least >= step - step / 8);
  CHECK(least < step - step / 10);
  CHECK(most <= step + step / 8);
  CHECK(most > step + step / 10);
}

TEST_CASE("schedule: a hint is obeyed twice, and never come before", "[retry_schedule]") {
  const RetrySchedule schedule;
  auto rate = reason(ReplyClass::rate, 1);
  rate.hint = seconds(90);
  for (std::uint64_t message = 0; message < 100; ++message) {
    CHECK(schedule.wait(rate, message, 1) >= seconds(90));
    CHECK(schedule.wait(rate, message, 1) < seconds(101));
  }
  rate.hints_obeyed = 2;
  CHECK(schedule.wait(rate, 1, 1) > minutes(4));
}

TEST_CASE("schedule: what the site taught us of its greylisting", "[retry_schedule]") {
  const RetrySchedule schedule;
  auto grey = reason(ReplyClass::greylisted, 1);
  grey.learned = seconds(62);
  CHECK(schedule.wait(grey, 1, 1) >= seconds(62));
  CHECK(schedule.wait(grey, 1, 1) < seconds(67));
  grey.tries = 2;
  CHECK(schedule.wait(grey, 1, 1) > minutes(8));
}

TEST_CASE("a schedule for all reasons goes on whatever a message was refused for",
          "[scheduler][retry]") {
  using std::chrono::seconds;
  RetrySchedule schedule;
  schedule.override_all({seconds(80), seconds(800), seconds(8000)});
  RetrySchedule::Reason third;
  third.klass = ReplyClass::mailbox_full;
  third.tries = 1;
  third.all_tries = 3;
  const auto about = [&](seconds wanted) {
    const auto wait = schedule.wait(third, 1, 1);
    return wait >= wanted * 7 / 8 && wait <= wanted * 9 / 8;
  };
  CHECK(about(seconds(8000)));
  third.tries = 3;
  third.all_tries = 2;
  CHECK(about(seconds(800)));
  schedule.override_steps(ReplyClass::mailbox_full, {seconds(10), seconds(100), seconds(1000)});
  CHECK(about(seconds(1000)));
}

TEST_CASE("schedule: an operator's steps; the last one repeats", "[retry_schedule]") {
  RetrySchedule schedule;
  schedule.override_steps(ReplyClass::busy, {seconds(80), seconds(800)});
  CHECK(schedule.wait(reason(ReplyClass::busy, 1), 1, 1) <= seconds(90));
  CHECK(schedule.wait(reason(ReplyClass::busy, 99), 1, 1) >= seconds(700));
  CHECK(schedule.wait(reason(ReplyClass::busy, 99), 1, 1) <= seconds(900));
  CHECK(schedule.wait(reason(ReplyClass::busy, 0), 1, 1) <= seconds(90));
}

TEST_CASE("schedule: an operator's steps go before the table's wait and what was learned",
          "[retry_schedule]") {
  RetrySchedule schedule;
  schedule.override_steps(ReplyClass::greylisted, {std::chrono::seconds(8)});
  RetrySchedule::Reason reason;
  reason.klass = ReplyClass::greylisted;
  reason.row_wait = std::chrono::minutes(15);
  reason.learned = std::chrono::minutes(20);
  CHECK(schedule.wait(reason, 1, 2) <= std::chrono::seconds(9));
  reason.hint = std::chrono::seconds(90);
  CHECK(schedule.wait(reason, 1, 2) >= std::chrono::seconds(90));
}

}  // namespace
}  // namespace postrider::scheduler
