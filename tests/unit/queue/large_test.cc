// Messages with so many recipients that they are stored in pieces.
#include "tests/unit/queue/failing_vfs.h"
#include "tests/unit/queue/queue_fixture.h"

#include <catch2/catch.hpp>
#include <sqlite3.h>

#include <algorithm>
#include <filesystem>
#include <future>
#include <map>
#include <set>

namespace postrider::queue::test {

using mail::Verdict;

namespace {

constexpr std::uint32_t kPart = 1000;  // of a record, as delivery divides it

struct HasVfs {
  FailingVfs vfs;  // outlives the queue
};

struct Large : HasVfs, QueueFixture {
  Large() {
    settings.delay_notice = {};
    open_on_vfs();
    start();
  }

  void open_on_vfs() {
    auto opened = Queue::open_with(settings, clock, log, vfs.name());
    INFO((opened ? "" : opened.error().describe()));
    REQUIRE(opened.has_value());
    queue = *std::move(opened);
  }

  static std::vector<std::string> many(std::uint32_t recipients, std::uint32_t domains = 7) {
    std::vector<std::string> all;
    for (std::uint32_t i = 0; i < recipients; ++i)
      all.push_back("c" + std::to_string(i) + "@d" + std::to_string(i % domains) + ".test");
    return all;
  }

  Lease accept_many(std::uint32_t recipients) {
    return hand.next(must_accept("a@b.test", many(recipients)));
  }

  // Parts of what became of [from, to), the last of which ends the lease if it is to.
  std::vector<Record> parts(const Lease& lease, std::uint32_t from, std::uint32_t to,
                            Verdict verdict, bool ends_lease) {
    std::vector<Record> all;
    for (std::uint32_t first = from; first < to; first += kPart) {
      auto& part = all.emplace_back();
      part.id = lease.message->id;
      part.partial = true;
      for (std::uint32_t i = first; i < std::min(first + kPart, to); ++i)
        part.results.push_back(
            {i, outcome(verdict),
             verdict == Verdict::retry ? clock.now() + std::chrono::hours(1) : TimePoint()});
    }
    all.back().partial = !ends_lease;
    return all;
  }

  void record_all(std::vector<Record> records, std::size_t pieces = 14) {
    queue->record(std::move(records));
    settle_all(pieces);
  }

  static std::vector<Record> only(Record record) {
    std::vector<Record> records;
    records.push_back(std::move(record));
    return records;
  }

  // It goes on by itself, once the store has been opened again.
  void recover() {
    int settled = 0;
    for (int i = 0; i < 120'000 && settled < 14; ++i) {
      std::promise<bool> told;
      Filter nothing;
      nothing.ids = {mail::MessageId{1}};
      queue->change(Verb::retry, nothing, true,
                    [&](const Result<Changed>& changed) { told.set_value(changed.has_value()); });
      if (told.get_future().get()) {
        ++settled;
        continue;
      }
      clock.pass(std::chrono::seconds(1));
      queue->wake();
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    REQUIRE(settled == 14);
  }

  // What was given takes that many transactions at most.
  void settle_all(std::size_t pieces = 14) {
    for (std::size_t i = 0; i < pieces; ++i)
      settle();
  }

  std::map<std::uint32_t, ListedRecipient> listed() {
    const auto all = list();
    REQUIRE(all.size() == 1);
    std::map<std::uint32_t, ListedRecipient> recipients;
    for (const auto& recipient : all[0].recipients)
      REQUIRE(recipients.emplace(recipient.index, recipient).second);
    return recipients;
  }
};

}  // namespace

TEST_CASE_METHOD(Large, "however many recipients a message has, no commit is larger",
                 "[queue][large]") {
  const auto cost_of = [&](std::uint32_t recipients) {
    struct Cost {
      std::uint64_t largest, writes, commits;
    };
    const auto lease = accept_many(recipients);
    settle();
    vfs.take_largest_commit();
    const auto writes = vfs.writes();
    const auto commits = queue->counters().commits;
    record_all(parts(lease, 0, recipients, Verdict::retry, true), 2 * recipients / kPart + 2);
    return Cost{vfs.take_largest_commit(), vfs.writes() - writes,
                queue->counters().commits - commits};
  };
  const auto few = cost_of(3000);
  const auto many = cost_of(24'000);
  INFO(few.largest << " " << few.writes << "; " << many.largest << " " << many.writes);
  CHECK(queue->totals()->deferred == 2);
  CHECK(queue->totals()->recipients == 27'000);
  CHECK(many.commits >= 24 + 24);  // a piece each for its rows, and each record
  // But the one that moves what names all of them, as one stored it.
  CHECK(many.largest < few.largest + 24'000 * 32);
  CHECK(many.writes < 8 * few.writes * 3 / 2);
}

TEST_CASE_METHOD(Large, "who came to an end is gone, who waits is tried again", "[queue][large]") {
  const auto lease = accept_many(5500);
  CHECK(lease.recipients.size() == 5500);
  record_all(parts(lease, 0, 2000, Verdict::delivered, false));
  CHECK(queue->totals()->recipients == 3500);
  CHECK(list()[0].status == "active");
  record_all(parts(lease, 2000, 4000, Verdict::retry, false));
  record_all(parts(lease, 4000, 5000, Verdict::bounce, false));
  Record rest;
  rest.id = lease.message->id;
  for (std::uint32_t i = 5000; i < 5500; ++i)
    rest.untried.push_back(i);
  record_all(only(std::move(rest)));
  CHECK(queue->counters().delivered == 2000);
  CHECK(queue->counters().bounced == 1000);
  CHECK(queue->counters().deferrals == 2000);
  auto left = listed();
  REQUIRE(left.size() == 2500);
  for (const auto& [index, recipient] : left) {
    REQUIRE(recipient.address == many(5500)[index]);
    REQUIRE(recipient.attempts == (index < 4000 ? 1 : 0));
    if (left.size() != 2500)
      break;
  }
  clock.pass(std::chrono::seconds(5));  // those not tried rest a little
  queue->wake();
  auto again = hand.next(lease.message->id);
  CHECK(again.recipients.size() == 500);
  record_all(parts(again, 5000, 5500, Verdict::delivered, true));
  clock.pass(std::chrono::hours(2));
  queue->wake();
  again = hand.next(lease.message->id);
  REQUIRE(again.recipients.size() == 2000);
  CHECK(again.recipients.front().attempts == 1);
  record_all(parts(again, 2000, 4000, Verdict::delivered, true));
  CHECK(list().empty());
  CHECK(queue->totals()->messages == 0);
  CHECK(queue->counters().delivered == 4500);
  CHECK(log.count("removed") == 1);
}

TEST_CASE_METHOD(Large, "figures are exact while very many land", "[queue][large]") {
  constexpr std::uint32_t kAll = 14'000;
  const auto lease = accept_many(kAll);
  Filter one;
  one.domain = "d3.test";
  Filter queued;
  queued.status = "active";
  queue->record(parts(lease, 0, 1000, Verdict::retry, false));
  const auto commits = queue->counters().commits;
  while (queue->counters().commits < commits + kAll / kPart + 2) {
    REQUIRE(queue->count(one)->recipients == kAll / 7);
    REQUIRE(queue->count(queued)->messages == 1);
    REQUIRE(queue->totals()->recipients == kAll);
    REQUIRE(queue->totals()->messages == 1);
    REQUIRE(listed().size() == kAll);
    settle();
  }
  CHECK(queue->totals()->active == 1);
}

TEST_CASE_METHOD(Large, "the latest attempts of very many are kept", "[queue][large]") {
  const auto lease = accept_many(2500);
  record_all(parts(lease, 0, 2500, Verdict::retry, true));
  const auto attempts = queue->attempts(lease.message->id).value();
  REQUIRE(attempts.size() == 100);
  CHECK(attempts.front().recipient == 2400);
  CHECK(attempts.back().recipient == 2499);
}

TEST_CASE_METHOD(Large, "an administrator may change what is landing", "[queue][large]") {
  const auto lease = accept_many(4500);
  queue->record(parts(lease, 0, 1000, Verdict::retry, false));
  Filter one;
  one.to = "@d3.test";
  const auto held = change(Verb::hold, one);
  CHECK(held.messages == 1);
  CHECK(held.recipients == 643);
  record_all(parts(lease, 1000, 4500, Verdict::retry, true));
  CHECK(queue->totals()->recipients == 4500);
  std::size_t still_held = 0;
  for (const auto& [index, recipient] : listed())
    still_held += recipient.state == RecipientState::held ? 1 : 0;
  CHECK(still_held == 643);
  CHECK(change(Verb::remove, one).recipients == 643);
  CHECK(queue->totals()->recipients == 4500 - 643);
  CHECK(queue->totals()->held == 0);
  CHECK(change(Verb::retry, {}).recipients == 4500 - 643);
  const auto again = hand.next(lease.message->id);
  CHECK(again.recipients.size() == 4500 - 643);
  queue->record(only(untried(again)));
  settle_all();
  CHECK(change(Verb::remove, {}).recipients == 4500 - 643);
  settle_all();
  CHECK(queue->totals()->messages == 0);
}

TEST_CASE_METHOD(Large, "wished again while it was tried, it is due at once", "[queue][large]") {
  const auto lease = accept_many(1500);
  record_all(parts(lease, 0, 1, Verdict::delivered, false));
  CHECK(change(Verb::retry, {}).recipients == 1499);
  record_all(parts(lease, 1, 1500, Verdict::retry, true));
  std::size_t again = 0;
  while (again < 1499)  // as they are recorded
    again += hand.next(lease.message->id).recipients.size();
  CHECK(again == 1499);
}

TEST_CASE_METHOD(Large, "one whose site is dead waits like any other", "[queue][large]") {
  SiteState site;
  site.site = "mx.d0.test";
  site.failures = 1;
  site.blocked_until = clock.now() + std::chrono::hours(2);
  queue->assign_site("d0.test", site.site);
  queue->set_site(site);
  settle();
  const auto id = must_accept("a@b.test", many(2500, 1));
  const auto lease = hand.next(id);  // to be given back, in pieces
  queue->record(only(untried(lease)));
  settle_all();
  CHECK(list()[0].status == "deferred");
  CHECK(queue->totals()->recipients == 2500);
  clock.pass(std::chrono::hours(3));
  queue->wake();
  CHECK(hand.next(id).recipients.size() == 2500);
}

TEST_CASE_METHOD(Large, "an orderly stop records what waits to be recorded", "[queue][large]") {
  const auto lease = accept_many(6500);
  queue->record(parts(lease, 0, 3000, Verdict::delivered, false));
  queue->record(parts(lease, 3000, 6500, Verdict::retry, true));
  queue.reset();
  hand.clear();
  open_on_vfs();
  CHECK(listed().size() == 3500);
  CHECK(listed().begin()->first == 3000);
}

TEST_CASE("a power cut at any write leaves each of very many recipients once", "[queue][large]") {
  constexpr std::uint32_t kAll = 2300;
  std::uint64_t steps = 0;
  {
    Large whole;
    const auto lease = whole.accept_many(kAll);
    whole.settle_all();
    whole.vfs.heal();
    whole.queue->record(whole.parts(lease, 0, 1000, Verdict::delivered, false));
    whole.queue->record(whole.parts(lease, 1000, kAll, Verdict::retry, true));
    whole.settle_all();
    steps = whole.vfs.operations();
  }
  REQUIRE(steps > 10);
  const auto mode =
      GENERATE(FailingVfs::Mode::cut, FailingVfs::Mode::unheard, FailingVfs::Mode::once);
  for (std::uint64_t step = 1; step <= steps; step += 1 + steps / 40) {
    INFO("step " << step << " of " << steps << ", mode " << static_cast<int>(mode));
    Large life;
    const auto lease = life.accept_many(kAll);
    life.settle_all();
    life.vfs.fail_at(step, SQLITE_IOERR, mode);
    life.queue->record(life.parts(lease, 0, 1000, Verdict::delivered, false));
    life.queue->record(life.parts(lease, 1000, kAll, Verdict::retry, true));
    for (int i = 0; i < 12'000 && !life.vfs.has_failed(); ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    REQUIRE(life.vfs.has_failed());
    if (mode == FailingVfs::Mode::once) {
      life.recover();
      CHECK(life.listed().size() == kAll - 1000);
      CHECK(life.queue->totals()->recipients == kAll - 1000);
    }
    life.queue.reset();
    life.vfs.heal();
    life.hand.clear();
    QueueFixture again;
    again.settings.spool = life.settings.spool;
    again.clock.pass(std::chrono::hours(3));
    again.open();
    const auto left = again.list();
    REQUIRE(left.size() == 1);
    std::set<std::uint32_t> indexes;
    for (const auto& recipient : left[0].recipients)
      REQUIRE(indexes.insert(recipient.index).second);
    // Nobody who waits is missing; who had it may come again, for that was not recorded yet.
    for (std::uint32_t i = 1000; i < kAll; ++i)
      REQUIRE(indexes.contains(i));
    CHECK((indexes.size() == kAll || indexes.size() == kAll - 1000));
    CHECK(again.queue->totals()->recipients == indexes.size());
    again.start();
    again.clock.pass(std::chrono::hours(3));
    again.queue->wake();
    std::size_t leased = again.hand.next(left[0].id).recipients.size();
    CHECK(leased == indexes.size());
  }
}

}  // namespace postrider::queue::test
