#include "queue/schedule.h"
#include "tests/unit/queue/failing_vfs.h"
#include "tests/unit/queue/queue_fixture.h"

#include <catch2/catch.hpp>
#include <sqlite3.h>

#include <filesystem>
#include <map>
#include <random>
#include <set>

namespace postrider::queue::test {

using mail::MessageId;
using mail::Verdict;
using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;

namespace {

// Fresh credits are none: everything waits and is leased as due.
struct Waiting : QueueFixture {
  Waiting() {
    settings.fresh_messages = 0;
    open();
  }
  SiteState blocked(const std::string& site, Duration time) {
    SiteState state;
    state.site = site;
    state.failures = 1;
    state.blocked_until = clock.now() + time;
    state.since = clock.now();
    state.last = outcome(Verdict::retry, "connection refused");
    return state;
  }
};

}  // namespace

TEST_CASE_METHOD(Waiting, "one domain never takes more than its share", "[queue][due]") {
  settings.leased_per_domain = 3;
  queue.reset();
  open();
  start();
  std::vector<MessageId> hog;
  for (int i = 0; i < 10; ++i)
    hog.push_back(must_accept("a@b.test", {"c@hog.test"}));
  const auto other = must_accept("a@b.test", {"c@other.test"});
  hand.next(other);
  settle();
  CHECK(hand.count() > 0);
  CHECK(hand.count() <= 3);
  // As they end, the next ones follow, in order.
  std::set<MessageId> seen;
  for (int i = 0; i < 10; ++i) {
    const Lease lease = hand.next();
    CHECK(seen.insert(lease.message->id).second);
    record(answer(lease, Verdict::delivered));
  }
  CHECK(seen == std::set<MessageId>(hog.begin(), hog.end()));
}

TEST_CASE_METHOD(Waiting, "slow sites leave room for one that was idle", "[queue][due]") {
  settings.leased_messages = 64;
  settings.leased_per_domain = 1000;
  queue.reset();
  open();
  start();
  for (const std::string domain : {"one.test", "two.test", "three.test"}) {
    queue->assign_site(domain, "mx." + domain);
    for (int i = 0; i < 100; ++i)
      must_accept("a@b.test", {"c@" + domain});
  }
  settle();
  CHECK(hand.count() <= 64);
  queue->assign_site("idle.test", "mx.idle.test");
  hand.next(must_accept("a@b.test", {"c@idle.test"}));
}

TEST_CASE_METHOD(Waiting, "mail to blocked sites alone waits as if it had been tried",
                 "[queue][due][site]") {
  start();
  for (const char* name : {"d.test", "e.test", "open.test"})
    queue->assign_site(name, std::string("mx.") + name);
  queue->set_site(blocked("mx.d.test", hours(1)));
  queue->set_site(blocked("mx.e.test", hours(2)));
  const auto parked = must_accept("a@b.test", {"c@d.test", "f@d.test", "c@e.test"});
  const auto tried = must_accept("a@b.test", {"c@d.test", "c@open.test"});
  hand.next(tried);
  settle();
  CHECK(hand.count() == 0);
  CHECK(log.count("deferred") == 3);  // a line for each recipient of the one that was not tried
  CHECK(queue->counters().untried == 3);
  Filter deferred;
  deferred.status = "deferred";
  REQUIRE(list(deferred).size() == 1);
  CHECK(list(deferred)[0].id == parked);
  CHECK(list(deferred)[0].recipients.size() == 3);
  SiteState open_again;
  open_again.site = "mx.d.test";
  queue->set_site(open_again);
  CHECK(hand.next(parked).recipients.size() == 2);
}

TEST_CASE_METHOD(Waiting, "mail of a blocked site is not touched until it may be probed",
                 "[queue][due][site]") {
  start();
  queue->assign_site("d.test", "mx.d.test");
  queue->assign_site("e.test", "mx.d.test");  // shares the site
  queue->set_site(blocked("mx.d.test", hours(1)));
  for (int i = 0; i < 20; ++i)
    must_accept("a@b.test", {i % 2 == 0 ? "c@d.test" : "c@e.test"});
  const auto other = must_accept("a@b.test", {"c@f.test"});
  hand.next(other);
  settle();
  CHECK(hand.count() == 0);
  auto listed = list();
  CHECK(listed[0].recipients[0].site == "mx.d.test");
  REQUIRE(listed[0].recipients[0].last);
  CHECK(listed[0].recipients[0].last->text == "connection refused");
  CHECK(listed[0].recipients[0].next_attempt == clock.now() + hours(1));
  Filter reply;
  reply.reply = "refused";
  CHECK(list(reply).size() == 20);

  SECTION("one probe when the time has come, the rest when it answers") {
    clock.pass(hours(1));
    queue->wake();
    const Lease probe = hand.next();
    settle();
    CHECK(hand.count() == 0);
    SiteState open_again;
    open_again.site = "mx.d.test";
    queue->set_site(open_again);
    record(answer(probe, Verdict::delivered));
    CHECK(hand.wait_for(19));
  }
  SECTION("a failed probe writes the same few rows, however many wait") {
    clock.pass(hours(1));
    queue->wake();
    const Lease probe = hand.next();
    Record back = untried(probe);
    queue->set_site(blocked("mx.d.test", hours(2)));
    record(std::move(back));
    CHECK(hand.count() == 0);
    CHECK(queue->sites().size() == 1);
    CHECK(queue->sites()[0].failures == 1);
  }
  SECTION("the block lasts over a restart") {
    reopen();
    settle();
    CHECK(hand.count() <= 1);  // the other one
    REQUIRE(queue->sites().size() == 1);
    CHECK(queue->sites()[0].site == "mx.d.test");
    CHECK(queue->sites()[0].last.text == "connection refused");
  }
}

TEST_CASE("a retry of a dead site writes as much for many messages as for few",
          "[queue][due][site]") {
  std::vector<std::uint64_t> writes;
  for (const int waiting : {10, 400}) {
    FailingVfs vfs;  // outlives the queue
    Waiting fixture;
    fixture.queue.reset();
    auto opened = Queue::open_with(fixture.settings, fixture.clock, fixture.log, vfs.name());
    REQUIRE(opened.has_value());
    fixture.queue = *std::move(opened);
    fixture.start();
    fixture.queue->assign_site("d.test", "mx.d.test");
    fixture.queue->set_site(fixture.blocked("mx.d.test", hours(1)));
    for (int i = 0; i < waiting; ++i)
      fixture.must_accept("a@b.test", {"c@d.test"});
    fixture.settle();
    fixture.clock.pass(hours(1));
    const auto before = vfs.writes();
    fixture.queue->wake();
    Record back = untried(fixture.hand.next());
    fixture.queue->set_site(fixture.blocked("mx.d.test", hours(2)));
    fixture.record(std::move(back));
    writes.push_back(vfs.writes() - before);
    fixture.queue.reset();
  }
  CHECK(writes[1] <= writes[0] + 4);
}

TEST_CASE_METHOD(Waiting, "a message goes out for all its due recipients of open sites at once",
                 "[queue][due]") {
  start();
  queue->assign_site("dead.test", "mx.dead.test");
  queue->set_site(blocked("mx.dead.test", hours(1)));
  settle();
  const auto id = must_accept("a@b.test", {"c@d.test", "c@e.test", "c@dead.test"});
  const Lease lease = hand.next(id);
  REQUIRE(lease.recipients.size() == 2);
  record(answer(lease, Verdict::delivered));
  REQUIRE(list().size() == 1);
  CHECK(list()[0].recipients.size() == 1);
  clock.pass(hours(1));
  queue->wake();
  const Lease rest = hand.next(id);
  REQUIRE(rest.recipients.size() == 1);
  CHECK(rest.recipients[0].index == 2);
}

TEST_CASE_METHOD(Waiting, "what comes back untried is not handed out at once again",
                 "[queue][due]") {
  start();
  const auto id = must_accept("a@b.test", {"c@d.test"});
  record(untried(hand.next(id)));
  settle();
  CHECK(hand.count() == 0);
  clock.pass(seconds(2));
  queue->wake();
  CHECK(hand.next(id).recipients[0].attempts == 0);
}

TEST_CASE_METHOD(Waiting, "of a message only those who came back untried wait for that",
                 "[queue][due]") {
  start();
  const auto id = must_accept("a@b.test", {"c@d.test", "c@e.test"});
  REQUIRE(hand.next(id).recipients.size() == 2);
  Record back;
  back.id = id;
  back.results.push_back({0, outcome(Verdict::retry), clock.now()});
  back.untried = {1};
  record(std::move(back));
  queue->wake();
  const Lease again = hand.next(id);
  REQUIRE(again.recipients.size() == 1);
  CHECK(again.recipients[0].index == 0);
  settle();
  CHECK(hand.count() == 0);
  clock.pass(seconds(2));
  queue->wake();
  const Lease rest = hand.next(id);
  REQUIRE(rest.recipients.size() == 1);
  CHECK(rest.recipients[0].index == 1);
}

TEST_CASE_METHOD(Waiting, "what is due later does not wait for what its site has in hand",
                 "[queue][due]") {
  const bool share_a_domain = GENERATE(true, false);
  CAPTURE(share_a_domain);
  start();
  const std::string second = share_a_domain ? "d.test" : "e.test";
  queue->assign_site("d.test", "mx.d.test");
  queue->assign_site(second, "mx.d.test");
  const auto slow = must_accept("a@b.test", {"c@d.test"});
  hand.next(slow);
  const auto later = must_accept("a@b.test", {"c@" + second});
  record(answer(hand.next(later), Verdict::retry, clock.now() + minutes(5)));
  queue->wake();
  settle();
  clock.pass(minutes(5));
  hand.next(later);  // by its own time, without a wake
}

TEST_CASE_METHOD(QueueFixture, "no time is forgotten, whatever is in hand beside it",
                 "[queue][due]") {
  const auto seed = GENERATE(range(0U, 40U));
  CAPTURE(seed);
  std::mt19937 chance(seed);
  const auto below = [&](std::size_t most) { return chance() % most; };
  settings.delay_notice = Duration(0);
  if (below(2) == 0)
    settings.fresh_messages = 0;
  open();
  start();
  queue->assign_site("d.test", "mx.d.test");
  queue->assign_site("e.test", "mx.d.test");
  queue->assign_site("f.test", "mx.f.test");
  std::vector<Lease> out;
  const auto take = [&] {
    settle();
    while (hand.count() > 0)
      out.push_back(hand.next());
  };
  const auto accept_one = [&] {
    std::vector<std::string> recipients;
    for (std::size_t i = 0; i <= below(4); ++i)
      recipients.push_back(std::to_string(i) + (below(2) == 0   ? "@d.test"
                                                : below(2) == 0 ? "@e.test"
                                                                : "@f.test"));
    must_accept("a@b.test", recipients);
  };
  const auto record_one = [&] {
    if (out.empty())
      return;
    const auto at = below(out.size());
    auto& lease = out[at];
    Record known;
    known.id = lease.message->id;
    std::vector<Lease::Recipient> rest;
    for (const auto& recipient : lease.recipients) {
      if (below(2) == 0)
        rest.push_back(recipient);
      else if (below(3) == 0)
        known.results.push_back({recipient.index, outcome(Verdict::delivered), {}});
      else
        known.results.push_back({recipient.index, outcome(Verdict::retry),
                                 clock.now() + minutes(1 + static_cast<int>(below(20)))});
    }
    known.partial = !rest.empty();
    if (known.results.empty())
      return;
    record(std::move(known));
    if (rest.empty())
      out.erase(out.begin() + static_cast<std::ptrdiff_t>(at));
    else
      lease.recipients = std::move(rest);
  };
  for (int step = 0; step < 12; ++step) {
    if (below(3) == 0)
      accept_one();
    take();
    record_one();
    take();
    auto first = TimePoint::max();
    for (const auto& message : list())
      for (const auto& recipient : message.recipients)
        if (!recipient.active)
          first = std::min(first, recipient.next_attempt);
    if (first == TimePoint::max())
      continue;
    if (first > clock.now())
      clock.pass(first - clock.now());
    take();  // by its own time, without a wake
    for (const auto& message : list())
      for (const auto& recipient : message.recipients) {
        CAPTURE(step, recipient.address, recipient.active);
        REQUIRE((recipient.active || recipient.next_attempt > clock.now()));
      }
  }
}

TEST_CASE_METHOD(QueueFixture, "a sender is told of a delay once, and at the end of the lifetime",
                 "[queue][deadline]") {
  open();
  start();
  const auto id = must_accept("a@b.test", {"c@d.test"});
  const auto defer = [&](const Lease& lease) {
    record(answer(lease, Verdict::retry, clock.now() + hours(100)));
  };
  defer(hand.next(id));
  clock.pass(hours(4));
  queue->wake();
  const Lease notice = hand.next(id);
  CHECK(notice.reason == Lease::Reason::delay_notice);
  REQUIRE(notice.recipients.size() == 1);
  REQUIRE(notice.recipients[0].last);
  Record told = untried(notice);
  told.delay_notice_sent = true;
  record(std::move(told));
  CHECK(hand.count() == 0);

  clock.pass(hours(96));
  queue->wake();
  defer(hand.next(id));  // its retry
  clock.pass(hours(20));
  queue->wake();
  const Lease end = hand.next(id);
  CHECK(end.reason == Lease::Reason::expired);
  record(answer(end, Verdict::bounce));
  CHECK(list().empty());
}

TEST_CASE_METHOD(Waiting, "a wave of ends of lifetimes leaves room for what is due",
                 "[queue][deadline]") {
  settings.leased_messages = 8;
  queue.reset();
  open();
  start();
  const auto end = clock.now() + settings.lifetime;
  const auto defer = [&](const std::string& domain) {
    const auto id = must_accept("a@b.test", {"c@" + domain});
    record(answer(hand.next(id), Verdict::retry, end));
  };
  for (int i = 0; i < 20; ++i)
    defer("old.test");
  clock.pass(minutes(1));
  for (int i = 0; i < 20; ++i)
    defer("d" + std::to_string(i) + ".test");
  clock.pass(settings.lifetime - minutes(1));
  queue->wake();
  settle();
  std::map<Lease::Reason, std::size_t> out;
  for (auto left = hand.count(); left > 0; --left)
    ++out[hand.next().reason];
  CHECK(out[Lease::Reason::expired] > 0);
  CHECK(out[Lease::Reason::expired] + out[Lease::Reason::delay_notice] <= 4);
  CHECK(out[Lease::Reason::due] > 0);
}

TEST_CASE_METHOD(QueueFixture, "nobody is told of a delayed notice", "[queue][deadline]") {
  open();
  start();
  const auto id = must_accept("", {"c@d.test"});
  record(answer(hand.next(id), Verdict::retry, clock.now() + hours(200)));
  clock.pass(hours(5));
  queue->wake();
  settle();
  CHECK(hand.count() == 0);
}

TEST_CASE_METHOD(QueueFixture, "a message does not expire while delivery has it",
                 "[queue][deadline]") {
  open();
  start();
  const auto id = must_accept("a@b.test", {"c@d.test"});
  const Lease lease = hand.next(id);
  clock.pass(hours(200));
  queue->wake();
  settle();
  CHECK(hand.count() == 0);
  record(answer(lease, Verdict::retry, clock.now() + hours(1)));
  CHECK(hand.next(id).reason == Lease::Reason::expired);
}

TEST_CASE_METHOD(QueueFixture, "a jump of the clock by a year expires nothing (M18)",
                 "[queue][time]") {
  open();
  start();
  const auto id = must_accept("a@b.test", {"c@d.test"});
  record(answer(hand.next(id), Verdict::retry, clock.now() + hours(3)));
  SECTION("forward") {
    clock.jump(hours(24 * 365));
    queue->wake();
    settle();
    CHECK(hand.count() == 0);
    clock.pass(hours(2));  // of the jump an hour counts
    queue->wake();
    CHECK(hand.next(id).reason == Lease::Reason::due);
  }
  SECTION("backward") {
    clock.jump(-hours(24 * 365));
    queue->wake();
    settle();
    clock.pass(hours(3));
    queue->wake();
    CHECK(hand.next(id).reason == Lease::Reason::due);
  }
  SECTION("while the daemon was down") {
    queue.reset();
    clock.jump(hours(24 * 365));
    open();
    start();
    const Lease lease = hand.next(id);
    CHECK(lease.reason == Lease::Reason::delay_notice);
  }
  SECTION("back while the daemon was down: ids still grow") {
    queue.reset();
    clock.jump(-hours(24 * 365));
    open();
    start();
    CHECK(queue->next_id() > id);
    clock.pass(hours(3));
    queue->wake();
    CHECK(hand.next(id).reason == Lease::Reason::due);
  }
}

TEST_CASE_METHOD(Waiting, "domains and sites without mail leave no rows behind", "[queue][due]") {
  start();
  queue->assign_site("d.test", "mx.d.test");
  for (int i = 0; i < 3; ++i)
    record(answer(hand.next(must_accept("a@b.test", {"c@d.test"})), Verdict::delivered));
  clock.pass(seconds(1));
  must_accept("a@b.test", {"c@e.test"});
  hand.next();
  queue.reset();
  sqlite3* database = nullptr;
  REQUIRE(sqlite3_open_v2((settings.spool + "/queue.db").c_str(), &database, SQLITE_OPEN_READONLY,
                          nullptr) == SQLITE_OK);
  const auto count = [&](const char* sql) {
    sqlite3_stmt* statement = nullptr;
    REQUIRE(sqlite3_prepare_v2(database, sql, -1, &statement, nullptr) == SQLITE_OK);
    sqlite3_step(statement);
    const int value = sqlite3_column_int(statement, 0);
    sqlite3_finalize(statement);
    return value;
  };
  CHECK(count("SELECT count(*) FROM domain WHERE name = 'd.test'") == 0);
  CHECK(count("SELECT count(*) FROM site WHERE id > 0") == 0);
  CHECK(count("SELECT count(*) FROM body") == 1);
  sqlite3_close(database);
}

TEST_CASE_METHOD(QueueFixture, "a lone client's messages cost one commit each", "[queue][commit]") {
  open();
  start();
  constexpr std::uint64_t kMessages = 20;
  std::vector<Record> last;
  for (std::uint64_t i = 0; i < kMessages; ++i) {
    if (!last.empty())
      queue->record(std::move(last));
    const auto id = must_accept("a@b.test", {"c@d.test"});
    last.clear();
    last.push_back(answer(hand.next(id), Verdict::delivered));
  }
  CHECK(queue->counters().commits <= kMessages + 5);
}

TEST_CASE("waits follow the steps, the last repeats, jittered by an eighth", "[queue][schedule]") {
  struct Fixed : Random {
    explicit Fixed(std::uint64_t value_) : value(value_) {}
    std::uint64_t next() override { return value; }
    std::uint64_t value;
  };
  const RetrySchedule schedule{{minutes(8), minutes(16), hours(8)}};
  Fixed lowest(0);
  CHECK(retry_wait(schedule, 1, lowest) == minutes(7));
  CHECK(retry_wait(schedule, 2, lowest) == minutes(14));
  CHECK(retry_wait(schedule, 3, lowest) == hours(7));
  CHECK(retry_wait(schedule, 99, lowest) == hours(7));
  SystemRandom random;
  Duration shortest = minutes(99), longest{0};
  for (int i = 0; i < 1000; ++i) {
    const auto wait = retry_wait(schedule, 1, random);
    CHECK(wait >= minutes(7));
    CHECK(wait <= minutes(9));
    shortest = std::min(shortest, wait);
    longest = std::max(longest, wait);
  }
  // On both sides, and near to both ends: each fails by chance once in 10^58.
  CHECK(shortest < minutes(7) + seconds(15));
  CHECK(longest > minutes(9) - seconds(15));
}

TEST_CASE_METHOD(QueueFixture, "what is known of some recipients is stored while others are tried",
                 "[queue][record]") {
  open();
  start();
  const auto id = must_accept("a@b.test", {"c@d.test", "c@e.test", "c@f.test", "c@g.test"});
  const Lease lease = hand.next(id);
  Record first;
  first.id = id;
  first.partial = true;
  first.results.push_back({0, outcome(Verdict::delivered), {}});
  first.results.push_back({1, outcome(Verdict::retry), clock.now() + hours(1)});
  record(std::move(first));
  auto listed = list();
  REQUIRE(listed.size() == 1);
  CHECK(listed[0].status == "active");
  REQUIRE(listed[0].recipients.size() == 3);
  CHECK(listed[0].recipients[0].attempts == 1);
  CHECK_FALSE(listed[0].recipients[0].active);
  CHECK(listed[0].recipients[1].active);

  Record second;
  second.id = id;
  second.partial = true;
  second.untried = {2};
  record(std::move(second));
  const Lease again =
      hand.next(id);  // it does not wait for the rest, which is not handed out twice
  REQUIRE(again.recipients.size() == 1);
  CHECK(again.recipients[0].index == 2);
  CHECK(hand.count() == 0);

  SECTION("the rest ends") {
    Record last;
    last.id = id;
    last.results.push_back({3, outcome(Verdict::bounce), {}});
    record(std::move(last));
    CHECK(queue->counters().delivered == 1);
    CHECK(queue->counters().bounced == 1);
  }
  SECTION("a stop comes first") {
    reopen();
    const Lease both = hand.next(id);
    REQUIRE(both.recipients.size() == 2);
    CHECK(both.recipients[0].index == 2);
    CHECK(both.recipients[1].index == 3);
    record(untried(both));
    clock.pass(hours(1));
    queue->wake();
    const Lease later = hand.next(id);
    REQUIRE_FALSE(later.recipients.empty());
    CHECK(later.recipients[0].index == 1);
    CHECK(later.recipients[0].attempts == 1);
  }
}

namespace {

// A message to three hosts: one says nothing, one wants to be asked again, one took it.
struct Beside : QueueFixture {
  Beside() {
    open();
    start();
    id = must_accept("a@b.test", {"a@silent.test", "b@grey.test", "c@good.test"});
    silent = hand.next(id);
    auto part = part_of(silent);
    part.results.push_back({1, outcome(Verdict::retry, "greylisted"), clock.now() + minutes(5)});
    part.results.push_back({2, outcome(Verdict::delivered), {}});
    record(std::move(part));
  }
  static Record part_of(const Lease& lease) {
    Record part;
    part.id = lease.message->id;
    part.partial = true;
    return part;
  }
  Record end_of_silent(Verdict verdict, TimePoint next = {}) const {
    auto last = part_of(silent);
    last.partial = false;
    last.results.push_back({0, outcome(verdict), next});
    return last;
  }
  // The second, while the first is still out.
  Lease retry() {
    clock.pass(minutes(5));
    Lease again = hand.next(id);
    CHECK(again.reason == Lease::Reason::due);
    REQUIRE(again.recipients.size() == 1);
    CHECK(again.recipients[0].index == 1);
    CHECK(again.recipients[0].attempts == 1);
    return again;
  }
  MessageId id;
  Lease silent;
};

}  // namespace

TEST_CASE_METHOD(Beside, "whom one host keeps waiting holds up nobody else's retry",
                 "[queue][due]") {
  const Lease again = retry();
  auto listed = list();
  REQUIRE(listed.size() == 1);
  CHECK(listed[0].status == "active");
  REQUIRE(listed[0].recipients.size() == 2);
  CHECK(listed[0].recipients[0].active);
  CHECK(listed[0].recipients[1].active);
  CHECK(queue->totals().value().active == 1);
  SECTION("the retry ends first") {
    record(answer(again, Verdict::delivered));
    CHECK(list()[0].recipients.size() == 1);
    CHECK(log.count("removed") == 0);
    record(end_of_silent(Verdict::delivered));
  }
  SECTION("the silent one ends first, and comes back by itself") {
    record(end_of_silent(Verdict::retry, clock.now() + minutes(1)));
    clock.pass(minutes(1));
    const Lease later = hand.next(id);
    REQUIRE(later.recipients.size() == 1);
    CHECK(later.recipients[0].index == 0);
    record(answer(again, Verdict::delivered));
    record(answer(later, Verdict::delivered));
  }
  SECTION("a stop ends neither") {
    reopen();
    const Lease both = hand.next(id);
    CHECK(both.recipients.size() == 2);
    record(answer(both, Verdict::delivered));
  }
  CHECK(list().empty());
  CHECK(queue->totals().value().active == 0);
  CHECK(log.count("removed") == 1);  // the message ends once, whoever was the last
  CHECK(hand.count() == 0);
}

TEST_CASE_METHOD(Beside, "a lifetime ends for whom it ends, whoever is still being tried",
                 "[queue][deadline]") {
  clock.pass(settings.lifetime);
  queue->wake();
  const Lease end = hand.next(id);
  CHECK(end.reason == Lease::Reason::expired);
  REQUIRE(end.recipients.size() == 1);
  CHECK(end.recipients[0].index == 1);
  record(answer(end, Verdict::bounce));
  REQUIRE(list()[0].recipients.size() == 1);
  CHECK(hand.count() == 0);
  clock.pass(minutes(5));
  queue->wake();
  settle();
  CHECK(hand.count() == 0);  // looked at, and left to whoever has it
  record(end_of_silent(Verdict::retry, clock.now() + minutes(1)));
  CHECK(hand.next(id).reason == Lease::Reason::expired);
}

TEST_CASE_METHOD(Beside, "a delay notice names who is being tried too, once", "[queue][deadline]") {
  clock.pass(settings.delay_notice);
  queue->wake();
  Lease notice = hand.next(id);
  if (notice.reason == Lease::Reason::due)
    notice = hand.next(id);
  CHECK(notice.reason == Lease::Reason::delay_notice);
  REQUIRE(notice.recipients.size() == 2);
  CHECK(notice.recipients[0].index == 0);
  REQUIRE(notice.recipients[0].last);
  CHECK(notice.recipients[0].last->text == "it is being tried, and no answer has come yet");
  CHECK(notice.recipients[1].index == 1);
  REQUIRE(notice.recipients[1].last);
  CHECK(notice.recipients[1].last->text == "greylisted");
  Record told = untried(notice);
  told.delay_notice_sent = true;
  record(std::move(told));
  record(end_of_silent(Verdict::delivered));
  const Lease again = hand.next(id);
  CHECK(again.reason == Lease::Reason::due);
  record(answer(again, Verdict::retry, clock.now() + hours(10)));
  clock.pass(hours(1));
  queue->wake();
  settle();
  CHECK(hand.count() == 0);
}

TEST_CASE_METHOD(Beside, "a notice ends no lease of those whom it names beside it",
                 "[queue][deadline]") {
  clock.pass(settings.delay_notice);
  queue->wake();
  Lease notice = hand.next(id);
  Lease retried;
  if (notice.reason == Lease::Reason::due) {
    retried = notice;
    notice = hand.next(id);
  } else {
    retried = hand.next(id);  // though its notice is being made
  }
  REQUIRE(notice.reason == Lease::Reason::delay_notice);
  REQUIRE(retried.reason == Lease::Reason::due);
  Record told = untried(notice);
  CHECK(told.untried == std::vector<std::uint32_t>{0, 1});
  told.delay_notice_sent = true;
  record(std::move(told));
  queue->wake();
  settle();
  CHECK(hand.count() == 0);  // both are still in hand, each by its lease
  record(end_of_silent(Verdict::delivered));
  record(answer(retried, Verdict::delivered));
  CHECK(list().empty());
  CHECK(log.count("removed") == 1);
}

TEST_CASE_METHOD(Beside, "a notice of what has ended meanwhile is not sent", "[queue][deadline]") {
  clock.pass(settings.delay_notice);
  queue->wake();
  std::optional<Lease> notice;
  for (int i = 0; i < 2; ++i) {
    auto lease = hand.next(id);
    if (lease.reason == Lease::Reason::delay_notice)
      notice = std::move(lease);
    else
      record(answer(lease, Verdict::delivered));
  }
  REQUIRE(notice);
  record(end_of_silent(Verdict::delivered));
  CHECK(list().empty());
  CHECK(log.count("removed") == 1);
  Record told = untried(*notice);
  told.delay_notice_sent = true;
  told.notices.emplace_back();
  told.notices.back().message =
      std::make_shared<const mail::Message>(make("", {"a@b.test"}, "Subject: late\r\n\r\n"));
  record(std::move(told));
  CHECK(list().empty());
  CHECK(hand.count() == 0);
  CHECK(log.count("removed") == 1);
}

namespace {

// Nothing comes of what was handed out until the test says so.
struct InHand : QueueFixture {
  void begin() {
    open();
    start();
    id = must_accept("a@b.test", {"c@d.test", "e@f.test"});
    lease = hand.next(id);
  }
  void pass(Duration time) {
    clock.pass(time);
    queue->wake();
    settle();
  }
  // Those whom delivery was asked to end since the last call.
  std::vector<std::uint32_t> asked() {
    std::vector<std::uint32_t> indexes;
    for (const auto& one : hand.overdue())
      if (one.id == id)
        for (const auto& recipient : one.recipients) {
          indexes.push_back(recipient.index);
          CHECK(recipient.last.has_value());
          if (recipient.last)
            last.insert(recipient.last->text);
        }
    return indexes;
  }
  using Indexes = std::vector<std::uint32_t>;
  MessageId id;
  Lease lease;
  std::set<std::string> last;
};

}  // namespace

TEST_CASE_METHOD(InHand, "all who wait in hand are told of, and end, at their time",
                 "[queue][deadline][in_hand]") {
  begin();
  SECTION("fresh") {}
  SECTION("due") {
    record(answer(lease, Verdict::retry, clock.now() + minutes(1)));
    pass(minutes(1));
    lease = hand.next(id);
    CHECK(lease.reason == Lease::Reason::due);
  }
  SECTION("fresh, and some of it has ended") {
    Record part = untried(lease);
    part.untried.clear();
    part.partial = true;
    part.results.push_back({0, outcome(Verdict::retry), clock.now() + hours(900)});
    record(std::move(part));
  }
  const bool is_first_free =
      list()[0].recipients[0].attempts > 0 && lease.reason == Lease::Reason::fresh;
  pass(settings.delay_notice - minutes(2));
  CHECK(hand.count() == 0);
  pass(minutes(2));
  const Lease notice = hand.next(id);
  CHECK(notice.reason == Lease::Reason::delay_notice);
  CHECK(notice.recipients.size() == 2);
  CHECK(asked().empty());
  Record told = untried(notice);
  told.delay_notice_sent = true;
  record(std::move(told));
  pass(settings.lifetime - settings.delay_notice - minutes(2));
  CHECK(hand.count() == 0);
  CHECK(asked().empty());
  pass(minutes(3));
  if (is_first_free) {
    CHECK(asked() == Indexes{1});
    const Lease first = hand.next(id);
    CHECK(first.reason == Lease::Reason::expired);
    record(answer(first, Verdict::bounce));
  } else {
    CHECK(asked() == Indexes{0, 1});
  }
  CHECK(hand.count() == 0);  // nobody else ends it meanwhile
  // It was under way: asked again soon, and looked at as soon as that has ended.
  hand.overdue();
  pass(std::chrono::seconds(6));
  CHECK(asked().back() == 1);
  Record part = untried(lease);
  part.untried.clear();
  if (!is_first_free)
    part.results.push_back({0, outcome(Verdict::bounce), {}});
  part.results.push_back({1, outcome(Verdict::retry, "busy"), clock.now() + hours(1)});
  record(std::move(part));
  queue->wake();
  const Lease end = hand.next(id);
  CHECK(end.reason == Lease::Reason::expired);
  REQUIRE(end.recipients.size() == 1);
  REQUIRE(end.recipients[0].last);
  CHECK(end.recipients[0].last->text == "busy");
  record(answer(end, Verdict::bounce));
  CHECK(list().empty());
}

TEST_CASE_METHOD(InHand, "what was in hand when its time came ends after a kill, once",
                 "[queue][deadline][in_hand]") {
  begin();
  pass(settings.lifetime + minutes(1));
  CHECK(asked() == Indexes{0, 1});
  CHECK(last == std::set<std::string>{"it is being tried, and no answer has come yet"});
  die();
  open();
  start();
  pass(minutes(2));
  const Lease end = hand.next(id);
  CHECK(end.reason == Lease::Reason::expired);
  CHECK(end.recipients.size() == 2);
  CHECK(asked().empty());
  record(answer(end, Verdict::bounce));
  CHECK(list().empty());
  CHECK(hand.count() == 0);
}

TEST_CASE_METHOD(InHand, "a hold and a removal in hand are not ended by the lifetime",
                 "[queue][deadline][in_hand]") {
  begin();
  hand.under_way = {0, 1};
  Filter all;
  all.ids = {id};
  const auto verb = GENERATE(Verb::hold, Verb::remove);
  change(verb, all);
  pass(settings.lifetime + minutes(1));
  CHECK(asked().empty());
  CHECK(hand.count() == 0);
  record(untried(lease));
  pass(minutes(1));
  CHECK(hand.count() == 0);
  CHECK(list().size() == (verb == Verb::hold ? 1 : 0));
}

TEST_CASE_METHOD(InHand, "full hands keep no deadline from being kept",
                 "[queue][deadline][in_hand]") {
  settings.leased_messages = 16;
  begin();
  record(answer(lease, Verdict::delivered));
  std::vector<MessageId> stuck;
  for (int i = 0; i < 100; ++i) {
    stuck.push_back(must_accept("a@b.test", {"c@s" + std::to_string(i) + ".test"}));
    record(answer(hand.next(stuck.back()), Verdict::retry, clock.now() + minutes(1)));
  }
  pass(minutes(2));
  for (std::size_t before = 0; before != hand.count();) {
    before = hand.count();
    pass(minutes(1));
  }
  CHECK(hand.count() <= 16);
  hand.clear();
  pass(settings.lifetime);
  std::set<std::int64_t> ended;
  for (int i = 0; i < 200 && ended.size() < stuck.size(); ++i) {
    for (const auto& one : hand.overdue()) {
      Record record_of;
      record_of.id = one.id;
      record_of.results.push_back({0, outcome(Verdict::bounce), {}});
      record(std::move(record_of));
      ended.insert(one.id.value);
    }
    while (hand.count() > 0) {
      const auto next = hand.next();
      CHECK(next.reason != Lease::Reason::delay_notice);
      ended.insert(next.message->id.value);
      record(answer(next, Verdict::bounce));
    }
    settle();
  }
  CHECK(ended.size() == stuck.size());
  CHECK(list().empty());
}

TEST_CASE_METHOD(Beside, "a change finds who is in hand in every lease", "[queue][change]") {
  const Lease again = retry();
  hand.under_way = {0, 1};
  SECTION("one of them cannot be stopped") {
    hand.under_way = {0};
    const auto changed = change(Verb::remove, {});
    CHECK(changed.recipients == 1);
    CHECK(changed.under_way_recipients == 1);
    record(untried(again));
    CHECK(queue->counters().removed == 1);
    CHECK(log.count("removed") == 0);
    record(end_of_silent(Verdict::delivered));
    CHECK(queue->counters().delivered == 2);
    CHECK(queue->counters().removed == 1);
    CHECK(log.count("removed") == 1);
    CHECK(list().empty());
  }
  SECTION("removed, and both would be tried again") {
    change(Verb::remove, {});
    REQUIRE(hand.revoked().size() == 1);
    CHECK(hand.revoked()[0].recipients == std::vector<std::uint32_t>{0, 1});
    record(end_of_silent(Verdict::retry, clock.now() + minutes(1)));
    record(answer(again, Verdict::retry, clock.now() + minutes(1)));
    CHECK(queue->counters().removed == 2);
    CHECK(list().empty());
  }
  SECTION("held") {
    change(Verb::hold, {});
    record(end_of_silent(Verdict::retry, clock.now() + minutes(1)));
    record(answer(again, Verdict::retry, clock.now() + minutes(1)));
    clock.pass(minutes(2));
    queue->wake();
    settle();
    CHECK(hand.count() == 0);
    CHECK(list()[0].status == "held");
  }
  SECTION("bounced one by one, as they come back") {
    change(Verb::bounce, {});
    record(answer(again, Verdict::retry, clock.now() + minutes(1)));
    const Lease asked = hand.next(id);
    CHECK(asked.reason == Lease::Reason::bounce);
    REQUIRE(asked.recipients.size() == 1);
    CHECK(asked.recipients[0].index == 1);
    record(answer(asked, Verdict::bounce));
    record(end_of_silent(Verdict::retry, clock.now() + minutes(1)));
    const Lease rest = hand.next(id);
    CHECK(rest.reason == Lease::Reason::bounce);
    REQUIRE(rest.recipients.size() == 1);
    CHECK(rest.recipients[0].index == 0);
  }
}

TEST_CASE_METHOD(QueueFixture, "content in a file stays until the last lease of it has ended",
                 "[queue][body]") {
  open();
  start();
  auto submission = large(100'000);
  auto message = *submission.message;
  message.envelope.recipients.push_back(message.envelope.recipients.front());
  message.envelope.recipients.back().address = "b@grey.test";
  submission.message = std::make_shared<const mail::Message>(message);
  REQUIRE(accept(std::move(submission)).has_value());
  const Lease slow = hand.next(message.id);
  auto part = Beside::part_of(slow);
  part.results.push_back({1, outcome(Verdict::retry), clock.now() + minutes(5)});
  record(std::move(part));
  clock.pass(minutes(5));
  const Lease again = hand.next(message.id);
  hand.under_way = {0, 1};
  change(Verb::remove, {});
  record(answer(again, Verdict::delivered));
  CHECK(queue->open_body(*slow.message).has_value());
  record(answer(slow, Verdict::delivered));
  queue.reset();
  CHECK_FALSE(std::filesystem::exists(settings.spool + "/body/" + message.content.file));
}

TEST_CASE_METHOD(Waiting, "what is left of a lease counts where it is, not where it was wanted",
                 "[queue][due]") {
  settings.leased_messages = 8;
  queue.reset();
  open();
  start();
  for (int i = 0; i < 4; ++i)
    must_accept("a@b.test", {"c@good.test", "c@slow.test"});
  queue->assign_site("good.test", "mx.good.test");
  queue->assign_site("slow.test", "mx.slow.test");
  std::set<MessageId> out;
  for (int i = 0; i < 4; ++i) {
    const Lease lease = hand.next();
    CHECK(out.insert(lease.message->id).second);
    REQUIRE(lease.recipients.size() == 2);
    auto part = Beside::part_of(lease);
    part.results.push_back({0, outcome(Verdict::delivered), {}});
    record(std::move(part));
  }
  // Four of eight hang at the slow one: none of them is the good one's.
  const auto id = must_accept("a@b.test", {"c@good.test"});
  record(answer(hand.next(id), Verdict::delivered));
}

TEST_CASE_METHOD(QueueFixture, "a notice that could not be made does not come back at once",
                 "[queue][deadline]") {
  open();
  start();
  const auto id = must_accept("a@b.test", {"c@d.test"});
  record(answer(hand.next(id), Verdict::retry, clock.now() + hours(1)));
  change(Verb::bounce, {});
  const Lease asked = hand.next(id);
  CHECK(asked.reason == Lease::Reason::bounce);
  record(untried(asked));
  settle();
  CHECK(hand.count() == 0);
  clock.pass(std::chrono::seconds(61));
  queue->wake();
  CHECK(hand.next(id).reason == asked.reason);
}

TEST_CASE_METHOD(QueueFixture,
                 "a notice of a delay that could not be made does not come back at once",
                 "[queue][deadline]") {
  open();
  start();
  const auto id = must_accept("a@b.test", {"c@d.test"});
  record(answer(hand.next(id), Verdict::retry, clock.now() + hours(100)));
  clock.pass(hours(4));
  queue->wake();
  const Lease asked = hand.next(id);
  CHECK(asked.reason == Lease::Reason::delay_notice);
  record(untried(asked));
  queue->wake();
  settle();
  CHECK(hand.count() == 0);
  clock.pass(std::chrono::seconds(61));
  queue->wake();
  CHECK(hand.next(id).reason == asked.reason);
}

// The bounce of one recipient came with a notice of the others' delay, hours before its time.
TEST_CASE_METHOD(QueueFixture, "while some are returned the others are not told of as delayed",
                 "[queue][deadline]") {
  open();
  start();
  const auto id = must_accept("a@b.test", {"c@d.test", "e@f.test"});
  record(answer(hand.next(id), Verdict::retry, clock.now() + hours(1)));
  Filter filter;
  filter.domain = "d.test";
  CHECK(change(Verb::bounce, filter).recipients == 1);
  const Lease asked = hand.next(id);
  CHECK(asked.reason == Lease::Reason::bounce);
  for (int i = 0; i < 3; ++i) {
    clock.pass(std::chrono::minutes(2));  // a host's silence could not take longer here
    queue->wake();
    settle();
    CHECK(hand.count() == 0);
  }
  record(answer(asked, Verdict::bounce));
  queue->wake();
  settle();
  CHECK(hand.count() == 0);
  clock.pass(hours(1));
  queue->wake();
  const Lease retried = hand.next(id);
  CHECK(retried.reason == Lease::Reason::due);
  record(answer(retried, Verdict::retry, clock.now() + hours(4)));
  clock.pass(hours(3));
  queue->wake();
  CHECK(hand.next(id).reason == Lease::Reason::delay_notice);
}

TEST_CASE_METHOD(QueueFixture, "no more octets are in hand than allowed, and all are given back",
                 "[queue][due]") {
  const bool is_fresh = GENERATE(true, false);
  if (is_fresh) {
    settings.fresh_bytes = 64 << 10;
    settings.leased_bytes = 1;  // one at a time
  } else {
    settings.fresh_messages = 0;
    settings.leased_bytes = 64 << 10;
  }
  open();
  start();
  const std::string content = "Subject: x\r\n\r\n" + std::string(16 << 10, 'x') + "\r\n";
  std::size_t accepted = 0;
  const auto more = [&](int count) {
    for (int i = 0; i < count; ++i, ++accepted)
      REQUIRE(accept(make("a@b.test", {"c@d" + std::to_string(i) + ".test"}, content)));
  };
  more(10);
  settle();
  const auto most = is_fresh ? 5U : 4U;  // and one that was due
  CHECK(hand.count() >= 3);
  CHECK(hand.count() <= most);
  // Each that ends makes room for another: ten times over nothing is lost of the allowance.
  for (int round = 0; round < 10; ++round) {
    more(10);
    while (accepted > 10) {
      record(answer(hand.next(), Verdict::delivered));
      CHECK(hand.count() <= most);
      --accepted;
    }
  }
  while (accepted-- > 0)
    record(answer(hand.next(), Verdict::delivered));
  CHECK(list().empty());
}

TEST_CASE_METHOD(QueueFixture,
                 "what waits for octets in hand goes out while others are there still",
                 "[queue][due]") {
  settings.fresh_messages = 0;
  settings.leased_bytes = 128 << 10;
  open();
  start();
  const std::string content = "Subject: x\r\n\r\n" + std::string(16 << 10, 'x') + "\r\n";
  for (int i = 0; i < 20; ++i)
    REQUIRE(accept(make("a@b.test", {"c@d" + std::to_string(i) + ".test"}, content)));
  settle();
  const auto slow = hand.next();  // in hand to the end
  for (int ended = 0; ended < 19; ++ended)
    record(answer(hand.next(), Verdict::delivered));
  CHECK(list().size() == 1);
}

TEST_CASE_METHOD(QueueFixture, "what one sender sends leaves room in hand for the others",
                 "[queue][due]") {
  settings.fresh_messages = 40;
  settings.leased_per_domain = 5;
  open();
  start();
  std::set<MessageId> bulk;
  for (int i = 0; i < 200; ++i)
    bulk.insert(must_accept("a@bulk.test", {"c@d.test"}));
  settle();
  std::size_t fresh = 0;
  std::vector<Lease> in_hand;
  while (hand.count() > 0) {
    in_hand.push_back(hand.next());
    fresh += in_hand.back().reason == Lease::Reason::fresh ? 1U : 0U;
  }
  CHECK(fresh == 20);
  // Each who comes new is handed out at once, while there are fewer than half of the others.
  for (const std::string sender : {"a@one.test", "a@two.test", "a@three.test"}) {
    const auto id = must_accept(sender, {"c@d.test"});
    const Lease lease = hand.next(id);
    CHECK(lease.reason == Lease::Reason::fresh);
    in_hand.push_back(lease);
  }
  // What ends makes room for the one whose it was.
  std::size_t ended = 0;
  for (const auto& lease : in_hand)
    if (lease.reason == Lease::Reason::fresh && bulk.contains(lease.message->id)) {
      record(answer(lease, Verdict::delivered));
      ++ended;
    }
  CHECK(ended == 20);
  settle();
  const auto again = must_accept("a@bulk.test", {"c@d.test"});
  CHECK(hand.next(again).reason == Lease::Reason::fresh);
}

TEST_CASE_METHOD(Waiting, "what waits for a site in trouble is deferred, and its notices say why",
                 "[queue][deadline][site]") {
  settings.fresh_messages = 100;
  settings.delay_notice = hours(4);
  queue.reset();
  open();
  start();
  const auto first = must_accept("a@b.test", {"c@d.test"});
  const Lease lease = hand.next(first);
  queue->assign_site("d.test", "mx.d.test");
  queue->set_site(blocked("mx.d.test", hours(200)));
  record(untried(lease));
  const auto second = must_accept("a@b.test", {"e@d.test"});
  settle();
  CHECK(hand.count() == 0);
  Filter deferred;
  deferred.status = "deferred";
  CHECK(list(deferred).size() == 2);
  deferred.status = "queued";
  CHECK(list(deferred).empty());

  clock.pass(hours(5));
  queue->wake();
  for (const auto id : {first, second}) {
    const Lease late = hand.next(id);
    CHECK(late.reason == Lease::Reason::delay_notice);
    REQUIRE(late.recipients[0].last);
    CHECK(late.recipients[0].last->text == "connection refused");
    auto told = untried(late);
    told.delay_notice_sent = true;
    record(std::move(told));
  }
  clock.pass(settings.lifetime);
  queue->wake();
  const Lease expired = hand.next(first);
  CHECK(expired.reason == Lease::Reason::expired);
  REQUIRE(expired.recipients[0].last);
  CHECK(expired.recipients[0].last->text == "connection refused");
}

namespace {

using Figures = std::vector<std::uint64_t>;  // deferred, queued

struct Deferred : Waiting {
  // By the counters, and by the listing.
  Figures deferred_and_queued() {
    Filter filter;
    filter.status = "deferred";
    const auto deferred = list(filter).size();
    filter.status = "queued";
    const auto queued = list(filter).size();
    const auto totals = queue->totals();
    REQUIRE(totals.has_value());
    CHECK(totals->deferred == deferred);
    CHECK(totals->queued == queued);
    for (const char* status : {"deferred", "queued"}) {
      filter.status = status;
      const auto counted = queue->count(filter);
      REQUIRE(counted.has_value());
      CHECK(counted->messages == (filter.status == "queued" ? queued : deferred));
    }
    return {deferred, queued};
  }
  void fails(const std::string& site) { queue->set_site(blocked(site, hours(5))); }
  // Until what is marked in pieces has been.
  void settle_pieces() {
    for (int i = 0; i < 12; ++i)
      settle();
  }
};

}  // namespace

TEST_CASE_METHOD(Deferred,
                 "what was queued before its site came into trouble is deferred from then",
                 "[queue][due][site]") {
  settings.leased_messages = 4;
  queue.reset();
  open();
  start();
  queue->assign_site("d.test", "mx.d.test");
  constexpr int kMany = 900;  // more than one piece
  for (int i = 0; i < kMany; ++i)
    must_accept("a@b.test", {"c@d.test"});
  must_accept("a@b.test", {"c@d.test", "e@d.test"});
  settle();
  CHECK(hand.count() > 0);
  fails("mx.d.test");
  settle_pieces();
  // What is in delivery's hands is told of when it comes back.
  const auto in_hand = hand.count();
  CHECK(log.count("deferred") == kMany + 2 - in_hand);  // of one message two recipients
  CHECK(deferred_and_queued() == Figures{kMany + 1 - in_hand, 0});
  while (hand.count() > 0)
    record(untried(hand.next()));
  settle_pieces();
  CHECK(deferred_and_queued() == Figures{kMany + 1, 0});
  SECTION("once, however often it is probed") {
    const auto lines = log.count("deferred");
    queue->set_site(blocked("mx.d.test", hours(6)));
    settle_pieces();
    SiteState open_again;
    open_again.site = "mx.d.test";
    queue->set_site(open_again);
    fails("mx.d.test");
    settle_pieces();
    CHECK(log.count("deferred") == lines);
  }
  SECTION("over a restart, with the reason") {
    reopen();
    CHECK(deferred_and_queued()[0] == kMany + 1);
    Filter reply;
    reply.reply = "refused";
    reply.domain = "d.test";
    CHECK(queue->count(reply)->messages == kMany + 1);
  }
}

TEST_CASE_METHOD(Deferred,
                 "what comes or comes back behind a site in trouble is deferred after a restart",
                 "[queue][due][site]") {
  settings.fresh_messages = 100;
  queue.reset();
  open();
  start();
  queue->assign_site("d.test", "mx.d.test");
  const auto first = must_accept("a@b.test", {"c@d.test"});
  auto back = untried(hand.next(first));
  fails("mx.d.test");
  record(std::move(back));
  settle_pieces();
  CHECK(deferred_and_queued() == Figures{1, 0});
  const auto in_hand = must_accept("a@b.test", {"c@good.test", "d@d.test"});
  hand.next(in_hand);
  reopen();
  must_accept("a@b.test", {"e@d.test"});
  record(untried(hand.next(in_hand)));
  settle();
  while (hand.count() > 0)
    record(untried(hand.next()));
  settle_pieces();
  CHECK(deferred_and_queued()[1] == 0);
  for (const auto& message : list())
    for (const auto& recipient : message.recipients)
      if (recipient.domain == "d.test") {
        REQUIRE(recipient.last);
        CHECK(recipient.last->text == "connection refused");
      }
}

TEST_CASE_METHOD(Deferred, "what was not marked when the process ended is at the next start",
                 "[queue][due][site]") {
  queue->assign_site("d.test", "mx.d.test");
  queue.reset();
  open();
  queue->start(nullptr);  // as a tool, which hands nothing out
  const auto id = must_accept("a@b.test", {"c@d.test"});
  queue->assign_site("d.test", "mx.d.test");
  fails("mx.d.test");
  settle_pieces();
  queue.reset();
  {
    sqlite3* database = nullptr;
    REQUIRE(sqlite3_open((settings.spool + "/queue.db").c_str(), &database) == SQLITE_OK);
    CHECK(sqlite3_exec(database, "UPDATE message SET tried = 0", nullptr, nullptr, nullptr) ==
          SQLITE_OK);
    sqlite3_close(database);
  }
  open();
  start();
  settle_pieces();
  CHECK(deferred_and_queued() == Figures{1, 0});
  CHECK(list()[0].id == id);
}

TEST_CASE_METHOD(Deferred,
                 "what is released or learned of to wait behind a site in trouble is deferred",
                 "[queue][due][site][change]") {
  start();
  queue->assign_site("d.test", "mx.d.test");
  const auto first = must_accept("a@b.test", {"c@d.test"});
  hand.next(first);
  SECTION("a release") {
    const auto second = must_accept("a@b.test", {"e@d.test"});
    record(untried(hand.next(second)));
    Filter held;
    held.ids = {second};
    change(Verb::hold, held);
    fails("mx.d.test");
    settle_pieces();
    CHECK(deferred_and_queued() == Figures{0, 0});
    change(Verb::release, held);
    settle_pieces();
    CHECK(deferred_and_queued() == Figures{1, 0});
  }
  SECTION("the site of its domain becomes known") {
    fails("mx.d.test");
    const auto other = must_accept("a@b.test", {"c@other.test"});
    record(untried(hand.next(other)));
    settle_pieces();
    CHECK(deferred_and_queued() == Figures{0, 1});
    queue->assign_site("other.test", "mx.d.test");
    settle_pieces();
    CHECK(deferred_and_queued() == Figures{1, 0});
  }
}

}  // namespace postrider::queue::test
