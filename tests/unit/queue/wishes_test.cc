// What senders wish about time: FUTURERELEASE (RFC 4865) and DELIVERBY (RFC 2852).
#include "queue_fixture.h"

#include <catch2/catch.hpp>

using namespace postrider;
using namespace postrider::queue;
using namespace postrider::queue::test;
using mail::Verdict;
using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;

namespace {

struct Wishing : QueueFixture {
  Wishing() {
    open();
    start();
  }
  mail::MessageId keep_until(TimePoint release, const std::string& sender = "a@b.test",
                             const std::vector<std::string>& to = {"c@d.test"}) {
    auto message = make(sender, to);
    message.envelope.release = release;
    const auto id = message.id;
    REQUIRE(accept(std::move(message)));
    settle();
    return id;
  }
  mail::MessageId wanted_by(TimePoint time, bool returns, const std::string& sender = "a@b.test") {
    auto message = make(sender, {"c@d.test"});
    message.envelope.deliver_by = mail::DeliverBy{.time = time, .returns = returns};
    const auto id = message.id;
    REQUIRE(accept(std::move(message)));
    return id;
  }
  void expect_nothing() {
    queue->wake();
    settle();
    CHECK(hand.count() == 0);
  }
  void tell(const Lease& notice) {
    Record told = untried(notice);
    told.delay_notice_sent = true;
    record(std::move(told));
  }
  Filter only(mail::MessageId id) {
    Filter filter;
    filter.ids = {id};
    return filter;
  }
  void start_again(Duration down) {
    queue.reset();
    hand.clear();
    clock.jump(down);
    open();
    start();
  }
};

}  // namespace

TEST_CASE_METHOD(Wishing, "mail waits for the time that its sender chose", "[queue][wishes]") {
  const auto release = clock.now() + hours(100);
  const auto id = keep_until(release);
  expect_nothing();
  const auto listed = list();
  REQUIRE(listed.size() == 1);
  CHECK(listed[0].status == "queued");
  CHECK(listed[0].expires == release + settings.lifetime);
  REQUIRE(listed[0].recipients.size() == 1);
  CHECK(listed[0].recipients[0].next_attempt == release);
  REQUIRE(listed[0].recipients[0].last);
  CHECK(listed[0].recipients[0].last->text ==
        "its sender asked to send it not before " + std::string("2026-09-25T18:13:20Z"));
  clock.pass(hours(100) - seconds(1));
  expect_nothing();
  clock.pass(seconds(1));
  queue->wake();
  const Lease lease = hand.next(id);
  CHECK(lease.reason == Lease::Reason::due);
  CHECK(lease.recipients.size() == 1);
  CHECK_FALSE(list()[0].recipients[0].last);  // that is no reason any more
  clock.pass(settings.delay_notice);
  queue->wake();
  const Lease notice = hand.next(id);
  CHECK(notice.reason == Lease::Reason::delay_notice);
  REQUIRE(notice.recipients[0].last);
  CHECK(notice.recipients[0].last->text == "it is being tried, and no answer has come yet");
  tell(notice);
  record(answer(lease, Verdict::delivered));
  CHECK(list().empty());
}

TEST_CASE_METHOD(Wishing, "its lifetime and its delay count from there", "[queue][wishes]") {
  const auto id = keep_until(clock.now() + hours(200));
  clock.pass(hours(200));
  queue->wake();
  record(answer(hand.next(id), Verdict::retry, clock.now() + hours(500)));
  clock.pass(settings.delay_notice - seconds(1));
  expect_nothing();
  clock.pass(seconds(1));
  queue->wake();
  const Lease notice = hand.next(id);
  CHECK(notice.reason == Lease::Reason::delay_notice);
  tell(notice);
  clock.pass(settings.lifetime - settings.delay_notice - seconds(1));
  expect_nothing();
  clock.pass(seconds(1));
  queue->wake();
  CHECK(hand.next(id).reason == Lease::Reason::expired);
}

// RFC 2852 §4: whoever has it in hand.
TEST_CASE_METHOD(Wishing, "late mail is ended or told of while delivery has it",
                 "[queue][wishes][in_hand]") {
  const bool returns = GENERATE(true, false);
  const auto id = wanted_by(clock.now() + seconds(15), returns);
  const Lease lease = hand.next(id);
  clock.pass(seconds(14));
  expect_nothing();
  CHECK(hand.overdue().empty());
  clock.pass(seconds(2));
  queue->wake();
  settle();
  if (returns) {
    const auto late = hand.overdue();
    REQUIRE(late.size() == 1);
    CHECK(late[0].id == id);
    CHECK(hand.count() == 0);
    record(answer(lease, Verdict::bounce));
    CHECK(list().empty());
    return;
  }
  const Lease notice = hand.next(id);
  CHECK(notice.reason == Lease::Reason::delay_notice);
  tell(notice);
  clock.pass(minutes(5));
  expect_nothing();
  CHECK(hand.overdue().empty());
  record(answer(lease, Verdict::delivered));
  CHECK(list().empty());
}

TEST_CASE_METHOD(Wishing, "a release in the past is none", "[queue][wishes]") {
  CHECK(hand.next(keep_until(clock.now() - hours(1))).reason == Lease::Reason::fresh);
  CHECK(hand.next(keep_until(clock.now())).reason == Lease::Reason::fresh);
}

TEST_CASE_METHOD(Wishing, "a stop, a kill and new settings keep what is not released",
                 "[queue][wishes]") {
  const auto id = keep_until(clock.now() + hours(10));
  SECTION("stop") {
    start_again(hours(1));
  }
  SECTION("kill") {
    die();
    open();
    start();
    clock.pass(hours(1));
  }
  SECTION("reload") {
    queue->reconfigure(settings);
    clock.pass(hours(1));
  }
  clock.pass(minutes(1));  // of the ramp after a kill
  expect_nothing();
  clock.pass(hours(9) - minutes(1));
  queue->wake();
  CHECK(hand.next(id).reason == Lease::Reason::due);
}

// All other waits go by the queue's own time, which counts a day at most of each stop.
TEST_CASE_METHOD(Wishing, "the time that a sender chose is one of the wall clock",
                 "[queue][wishes]") {
  const auto id = keep_until(clock.now() + hours(72), "a@b.test", {"c@d.test", "e@f.test"});
  SECTION("down for a weekend, up in time") {
    start_again(hours(60));
    expect_nothing();
    CHECK(list()[0].recipients[0].next_attempt == clock.now() + hours(12));
    clock.pass(hours(12));
    queue->wake();
  }
  SECTION("down beyond it") {
    start_again(hours(24 * 30));
    queue->wake();
  }
  SECTION("the clock is set ahead") {
    clock.jump(hours(71));
    expect_nothing();
    clock.pass(hours(1));
    queue->wake();
  }
  SECTION("the clock is set back, and ahead again") {
    clock.jump(-hours(24));
    expect_nothing();
    CHECK(list()[0].recipients[0].next_attempt == clock.now() + hours(96));
    clock.jump(hours(24));
    clock.pass(hours(72));
    queue->wake();
  }
  Lease lease = hand.next(id);
  if (lease.reason == Lease::Reason::delay_notice)
    lease = hand.next(id);
  CHECK(lease.reason == Lease::Reason::due);
  CHECK(lease.recipients.size() == 2);
}

TEST_CASE_METHOD(Wishing, "a retry and a reroute release nothing, a release does",
                 "[queue][wishes]") {
  const auto release = clock.now() + hours(100);
  const auto id = keep_until(release);
  const auto other = must_accept("a@b.test", {"g@h.test"});
  record(answer(hand.next(other), Verdict::retry, clock.now() + hours(50)));
  SECTION("retry") {
    CHECK(change(Verb::retry, {}, true).messages == 1);
    CHECK(change(Verb::retry, {}).messages == 1);
    hand.next(other);
    expect_nothing();
  }
  SECTION("reroute") {
    CHECK(change(Verb::reroute, only(id)).messages == 1);
    expect_nothing();
    CHECK(list(only(id))[0].recipients[0].next_attempt == release);
  }
  SECTION("release") {
    CHECK(change(Verb::release, {}, true).messages == 1);
    CHECK(change(Verb::release, {}).messages == 1);
    CHECK(hand.next(id).reason == Lease::Reason::due);
    settle();
    CHECK(hand.count() == 0);  // what was deferred was not held
    CHECK(change(Verb::release, {}).messages == 0);
  }
  SECTION("hold and release") {
    change(Verb::remove, only(other));
    CHECK(change(Verb::hold, only(id)).messages == 1);
    CHECK(list(only(id))[0].status == "held");
    SECTION("before its time: it waits for that, until it is released from it too") {
      CHECK(change(Verb::release, only(id)).messages == 1);
      expect_nothing();
      CHECK(list(only(id))[0].status == "queued");
      CHECK(list(only(id))[0].recipients[0].next_attempt == release);
      CHECK(list(only(id))[0].recipients[0].last->text.starts_with("its sender asked"));
      SECTION("its time comes") {
        clock.pass(hours(100));
        queue->wake();
      }
      SECTION("after a jump of the clock") {
        clock.jump(hours(10));
        expect_nothing();
        clock.pass(hours(90));
        queue->wake();
      }
      SECTION("a second release") {
        CHECK(change(Verb::release, only(id)).messages == 1);
      }
    }
    SECTION("behind its time") {
      clock.pass(hours(101));
      expect_nothing();
      CHECK(change(Verb::release, only(id)).messages == 1);
    }
    const Lease lease = hand.next(id);
    CHECK(lease.reason == Lease::Reason::due);
    CHECK(lease.recipients.size() == 1);
  }
}

TEST_CASE_METHOD(Wishing, "what is removed before its release is gone without a word",
                 "[queue][wishes]") {
  const auto id = keep_until(clock.now() + hours(100));
  CHECK(change(Verb::remove, only(id)).messages == 1);
  CHECK(list().empty());
  clock.pass(hours(300));
  expect_nothing();
}

TEST_CASE_METHOD(Wishing, "an administrator returns it before its release", "[queue][wishes]") {
  const auto id = keep_until(clock.now() + hours(100));
  CHECK(change(Verb::bounce, only(id)).messages == 1);
  CHECK(hand.next(id).reason == Lease::Reason::bounce);
}

TEST_CASE_METHOD(Wishing, "late mail of mode R is returned at its time", "[queue][wishes]") {
  const auto id = wanted_by(clock.now() + minutes(30), true);
  record(answer(hand.next(id), Verdict::retry, clock.now() + minutes(5)));
  CHECK(list()[0].expires == clock.now() + minutes(30));
  clock.pass(minutes(5));
  queue->wake();
  record(answer(hand.next(id), Verdict::retry, clock.now() + hours(2)));
  // A last attempt while there is time.
  CHECK(list()[0].recipients[0].next_attempt == clock.now() + minutes(25) - seconds(30));
  clock.pass(minutes(25) - seconds(30));
  queue->wake();
  const Lease last = hand.next(id);
  CHECK(last.reason == Lease::Reason::due);
  record(answer(last, Verdict::retry, clock.now() + hours(2)));
  clock.pass(seconds(29));
  expect_nothing();
  SECTION("in time") {
    clock.pass(seconds(1));
  }
  SECTION("over a stop") {
    start_again(hours(1));
  }
  SECTION("over a kill") {
    die();
    open();
    start();
    clock.pass(hours(1));
  }
  queue->wake();
  const Lease end = hand.next(id);
  CHECK(end.reason == Lease::Reason::expired);
  record(answer(end, Verdict::bounce));
  CHECK(list().empty());
}

TEST_CASE_METHOD(Wishing, "late mail of mode N is told of once, and goes on", "[queue][wishes]") {
  const auto defer = [&](mail::MessageId id) {
    record(answer(hand.next(id), Verdict::retry, clock.now() + hours(100)));
  };
  // Its last chance comes behind the notice; a domain rests for a second when mail came back untried.
  const auto tell_and_defer = [&](mail::MessageId id) {
    const Lease notice = hand.next(id);
    CHECK(notice.reason == Lease::Reason::delay_notice);
    tell(notice);
    clock.pass(seconds(2));
    queue->wake();
    defer(id);
  };
  SECTION("before the usual notice") {
    const auto id = wanted_by(clock.now() + minutes(30), false);
    defer(id);
    clock.pass(minutes(29));
    expect_nothing();
    clock.pass(minutes(1));
    queue->wake();
    tell_and_defer(id);
    clock.pass(hours(90));
    expect_nothing();
    start_again(hours(1));
    expect_nothing();
    clock.pass(settings.lifetime);
    queue->wake();
    CHECK(hand.next(id).reason == Lease::Reason::expired);
  }
  SECTION("behind the usual notice") {
    const auto id = wanted_by(clock.now() + hours(10), false);
    defer(id);
    clock.pass(settings.delay_notice);
    queue->wake();
    tell(hand.next(id));
    clock.pass(hours(10) - settings.delay_notice - minutes(1));
    expect_nothing();
    clock.pass(minutes(1));
    queue->wake();
    tell_and_defer(id);
    clock.pass(hours(20));
    expect_nothing();
  }
  SECTION("without any usual notice") {
    settings.delay_notice = Duration(0);
    queue->reconfigure(settings);
    settle();
    const auto id = wanted_by(clock.now() + minutes(1), false);
    defer(id);
    clock.pass(minutes(1));
    queue->wake();
    tell_and_defer(id);
    clock.pass(hours(20));
    expect_nothing();
  }
  SECTION("nobody hears of a notice that is late, nor twice of what came late") {
    for (const auto id : {wanted_by(clock.now() + minutes(10), false, ""),
                          wanted_by(clock.now() - minutes(10), false)})
      defer(id);
    clock.pass(minutes(11));
    queue->wake();
    settle();
    while (hand.count() > 0) {
      const Lease lease = hand.next();
      CHECK(lease.reason == Lease::Reason::due);
      record(answer(lease, Verdict::retry, clock.now() + hours(100)));
    }
    clock.pass(hours(1));
    expect_nothing();
  }
}

TEST_CASE_METHOD(Wishing, "a hold and a release keep the time of DELIVERBY", "[queue][wishes]") {
  const bool returns = GENERATE(true, false);
  const auto id = wanted_by(clock.now() + minutes(30), returns);
  record(answer(hand.next(id), Verdict::retry, clock.now() + hours(100)));
  CHECK(change(Verb::hold, only(id)).messages == 1);
  const auto wanted = returns ? Lease::Reason::expired : Lease::Reason::delay_notice;
  SECTION("before it") {
    clock.pass(minutes(10));
    CHECK(change(Verb::release, only(id)).messages == 1);
    if (returns)
      CHECK(list()[0].expires == clock.now() + minutes(20));
    record(answer(hand.next(id), Verdict::retry, clock.now() + hours(100)));
    clock.pass(minutes(20) - seconds(31));
    expect_nothing();
    clock.pass(seconds(30));
    queue->wake();
    if (returns)  // its last chance
      record(answer(hand.next(id), Verdict::retry, clock.now() + hours(100)));
    clock.pass(seconds(1));
    queue->wake();
    CHECK(hand.next(id).reason == wanted);
  }
  SECTION("behind it") {
    clock.pass(minutes(40));
    CHECK(change(Verb::release, only(id)).messages == 1);
    queue->wake();
    Lease lease = hand.next(id);
    if (!returns && lease.reason == Lease::Reason::due)
      lease = hand.next(id);
    CHECK(lease.reason == wanted);
  }
}

TEST_CASE_METHOD(Wishing, "a time that is out of all reason harms nothing", "[queue][wishes]") {
  const TimePoint end{seconds((std::int64_t{1} << 35U) - 1)};
  const auto kept = keep_until(end);
  const auto late = wanted_by(end, true);
  record(answer(hand.next(late), Verdict::retry, clock.now() + hours(1)));
  CHECK(list(only(late))[0].expires == clock.now() + settings.lifetime);
  const auto long_ago = wanted_by(TimePoint(seconds(1)), true);
  record(answer(hand.next(long_ago), Verdict::retry, clock.now() + hours(1)));
  CHECK(hand.next(long_ago).reason == Lease::Reason::expired);
  CHECK(list(only(kept))[0].recipients[0].next_attempt == end);
  CHECK(change(Verb::release, only(kept)).messages == 1);
  CHECK(hand.next(kept).recipients.size() == 1);
}
