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

  mail::MessageId accept_many(std::uint32_t recipients) {
    return must_accept("a@b.test", many(recipients));
  }

  // Parts that hold so many together, each recipient once.
  std::vector<Lease> lease_many(mail::MessageId id, std::size_t recipients) {
    std::vector<Lease> all;
    std::set<std::uint32_t> seen;
    while (seen.size() < recipients) {
      all.push_back(hand.next(id));
      REQUIRE(all.back().recipients.size() <= kPart);
      for (const auto& recipient : all.back().recipients)
        REQUIRE(seen.insert(recipient.index).second);
    }
    REQUIRE(seen.size() == recipients);
    return all;
  }

  std::vector<Lease> accept_and_lease(std::uint32_t recipients) {
    return lease_many(accept_many(recipients), recipients);
  }

  // What became of each; nullopt: it was not tried.
  template <class Judge>
  std::vector<Record> answers(const std::vector<Lease>& leases, Judge judge) {
    std::vector<Record> all;
    for (const auto& lease : leases) {
      auto& record = all.emplace_back();
      record.id = lease.message->id;
      record.lease = lease.number;
      for (const auto& recipient : lease.recipients)
        if (const std::optional<Verdict> verdict = judge(recipient.index))
          record.results.push_back(
              {recipient.index, outcome(*verdict),
               *verdict == Verdict::retry ? clock.now() + std::chrono::hours(1) : TimePoint()});
        else
          record.untried.push_back(recipient.index);
    }
    return all;
  }

  std::vector<Record> answers(const std::vector<Lease>& leases, Verdict verdict) {
    return answers(leases, [verdict](std::uint32_t) { return verdict; });
  }

  std::vector<Record> first_delivered(const std::vector<Lease>& leases, std::uint32_t delivered) {
    return answers(leases, [delivered](std::uint32_t index) {
      return index < delivered ? Verdict::delivered : Verdict::retry;
    });
  }

  void record_all(std::vector<Record> records, std::size_t pieces = 14) {
    queue->record(std::move(records));
    settle_all(pieces);
  }

  // Answers what is handed out until nothing more comes.
  std::size_t answer_all(Verdict verdict) {
    std::size_t answered = 0;
    for (settle_all(); hand.count() > 0; settle_all()) {
      std::vector<Lease> leases;
      leases.push_back(hand.next());
      answered += leases[0].recipients.size();
      queue->record(answers(leases, verdict));
    }
    return answered;
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

TEST_CASE_METHOD(QueueFixture, "a page of a listing is bounded by its octets", "[queue]") {
  open();
  start();
  constexpr std::size_t kMessages = 19;
  std::vector<std::string> recipients;
  for (int i = 0; i < 100; ++i)
    recipients.push_back(std::string(60, 'r') + std::to_string(i) + "@" + std::string(60, 'd') +
                         "." + std::string(60, 'd') + "." + std::string(50, 'd') + ".test");
  for (std::size_t i = 0; i < kMessages; ++i)
    must_accept("a@b.test", recipients);
  std::size_t seen = 0, pages = 0;
  mail::MessageId after;
  for (bool is_last = false; !is_last; ++pages) {
    const auto page = queue->list_on({}, after, 200);
    REQUIRE(page.has_value());
    CHECK(page->messages.size() < kMessages);
    seen += page->messages.size();
    after = page->after;
    is_last = page->is_last;
  }
  CHECK(pages > 1);
  CHECK(seen == kMessages);
}

TEST_CASE_METHOD(Large, "however many recipients a message has, no commit is larger",
                 "[queue][large]") {
  const auto cost_of = [&](std::uint32_t recipients) {
    struct Cost {
      std::uint64_t largest, commits;
    };
    settle();
    vfs.take_largest_commit();
    const auto commits = queue->counters().commits;
    const auto id = accept_many(recipients);
    for (std::size_t answered = 0; answered < recipients;) {
      std::vector<Lease> leases;
      leases.push_back(hand.next(id));
      answered += leases[0].recipients.size();
      record_all(answers(leases, Verdict::retry), 1);
    }
    return Cost{vfs.take_largest_commit(), queue->counters().commits - commits};
  };
  const auto few = cost_of(12'000);
  const auto many = cost_of(24'000);
  INFO(few.largest << " " << many.largest);
  CHECK(queue->totals()->deferred == 2);
  CHECK(queue->totals()->recipients == 36'000);
  CHECK(many.commits >= 24 + 24);  // a piece each for its rows, and each record
  // But those that move what names all of them, as one stored it.
  CHECK(many.largest < few.largest + 12'000 * 64);
}

TEST_CASE_METHOD(Large, "of very many some are out at one time, of a domain fewer",
                 "[queue][large]") {
  const auto id = accept_many(24'000);
  std::size_t out = 0;
  settle_all(40);
  std::vector<Lease> leases;
  while (hand.count() > 0) {
    leases.push_back(hand.next(id));
    out += leases.back().recipients.size();
  }
  CHECK(out == 10'000);
  std::set<std::uint32_t> seen;
  while (seen.size() < 24'000) {
    if (leases.empty())
      leases.push_back(hand.next(id));
    for (const auto& recipient : leases.back().recipients)
      REQUIRE(seen.insert(recipient.index).second);
    std::vector<Lease> one;
    one.push_back(std::move(leases.back()));
    leases.pop_back();
    queue->record(answers(one, Verdict::delivered));
  }
  settle_all();
  CHECK(list().empty());

  const auto of_one = must_accept("a@b.test", many(5000, 1));
  settle_all(20);
  for (out = 0; hand.count() > 0;)
    out += hand.next(of_one).recipients.size();
  CHECK(out == 2000);
}

TEST_CASE_METHOD(Large, "a message for one goes out beside one for very many", "[queue][large]") {
  settings.fresh_messages = 0;  // it waits before it goes out, as all do
  queue.reset();
  open_on_vfs();
  start();
  const auto id = accept_many(24'000);
  const auto other = must_accept("a@b.test", {"ann@other.test"});
  bool came = false;
  for (int i = 0; i < 12 && !came; ++i)
    came = hand.next().message->id == other;
  CHECK(came);
  CHECK(id.value != other.value);
}

TEST_CASE_METHOD(Large, "who came to an end is gone, who waits is tried again", "[queue][large]") {
  const auto leases = accept_and_lease(5500);
  const auto id = leases[0].message->id;
  record_all(answers(leases, [](std::uint32_t index) -> std::optional<Verdict> {
    if (index >= 5000)
      return std::nullopt;
    return index < 2000 ? Verdict::delivered : index < 4000 ? Verdict::retry : Verdict::bounce;
  }));
  CHECK(queue->counters().delivered == 2000);
  CHECK(queue->counters().bounced == 1000);
  CHECK(queue->counters().deferrals == 2000);
  auto left = listed();
  REQUIRE(left.size() == 2500);
  for (const auto& [index, recipient] : left) {
    REQUIRE(recipient.address == many(5500)[index]);
    REQUIRE(recipient.attempts == (index < 4000 ? 1 : 0));
  }
  clock.pass(std::chrono::seconds(5));  // those not tried rest a little
  queue->wake();
  record_all(answers(lease_many(id, 500), Verdict::delivered));
  clock.pass(std::chrono::hours(2));
  queue->wake();
  const auto again = lease_many(id, 2000);
  CHECK(again.front().recipients.front().attempts == 1);
  record_all(answers(again, Verdict::delivered));
  CHECK(list().empty());
  CHECK(queue->totals()->messages == 0);
  CHECK(queue->counters().delivered == 4500);
  CHECK(log.count("removed") == 1);
}

TEST_CASE_METHOD(Large, "figures are exact while very many land", "[queue][large]") {
  constexpr std::uint32_t kAll = 14'000;
  const auto commits = queue->counters().commits;
  accept_many(kAll);
  Filter one;
  one.domain = "d3.test";
  while (queue->counters().commits < commits + kAll / kPart + 2) {
    REQUIRE(queue->count(one)->recipients == kAll / 7);
    REQUIRE(queue->totals()->recipients == kAll);
    REQUIRE(queue->totals()->messages == 1);
    REQUIRE(listed().size() == kAll);
    settle();
  }
  CHECK(queue->totals()->active == 1);
}

TEST_CASE_METHOD(Large, "the latest attempts of very many are kept", "[queue][large]") {
  const auto leases = accept_and_lease(2500);
  record_all(answers(leases, Verdict::retry));
  CHECK(queue->attempts(leases[0].message->id).value().size() == 100);
}

TEST_CASE_METHOD(Large, "an administrator may change what is landing", "[queue][large]") {
  accept_many(4500);
  Filter one;
  one.to = "@d3.test";
  const auto held = change(Verb::hold, one);
  CHECK(held.messages == 1);
  CHECK(held.recipients == 643);
  answer_all(Verdict::retry);
  CHECK(queue->totals()->recipients == 4500);
  std::size_t still_held = 0;
  for (const auto& [index, recipient] : listed())
    still_held += recipient.state == RecipientState::held ? 1 : 0;
  CHECK(still_held == 643);
  CHECK(change(Verb::remove, one).recipients == 643);
  CHECK(queue->totals()->recipients == 4500 - 643);
  CHECK(queue->totals()->held == 0);
  CHECK(change(Verb::retry, {}).recipients == 4500 - 643);
  CHECK(answer_all(Verdict::retry) == 4500 - 643);
  CHECK(change(Verb::remove, {}).recipients == 4500 - 643);
  settle_all();
  CHECK(queue->totals()->messages == 0);
}

TEST_CASE_METHOD(Large, "wished again while it was tried, it is due at once", "[queue][large]") {
  const auto leases = accept_and_lease(1500);
  const auto id = leases[0].message->id;
  CHECK(change(Verb::retry, {}).recipients == 1500);
  record_all(answers(leases, Verdict::retry));
  lease_many(id, 1500);
}

TEST_CASE_METHOD(Large, "those whose sites are dead wait like any others", "[queue][large]") {
  SiteState site;
  site.site = "mx.d0.test";
  site.failures = 1;
  site.blocked_until = clock.now() + std::chrono::hours(2);
  queue->assign_site("d0.test", site.site);
  queue->set_site(site);
  must_accept("x@b.test", {"x@d0.test"});  // so that its site is known
  settle_all();
  hand.clear();
  const auto id = must_accept("a@b.test", many(2500, 1));
  settle_all();
  CHECK(hand.count() == 0);
  Filter filter;
  filter.ids = {id};
  CHECK(list(filter)[0].status == "deferred");
  CHECK(log.count("deferred") >= 2500);
  const auto half = must_accept("a@b.test", many(2500, 2));
  CHECK(hand.next(half).recipients.size() == 1000);
  CHECK(hand.next(half).recipients.size() == 250);
}

TEST_CASE_METHOD(Large, "very many who expire or are bounced end in parts", "[queue][large]") {
  settings.delay_notice = std::chrono::hours(2);
  queue.reset();
  open_on_vfs();
  start();
  const auto leases = accept_and_lease(2500);
  const auto id = leases[0].message->id;
  record_all(answers(leases, Verdict::retry));
  const auto take = [&](Lease::Reason reason, std::size_t recipients) {
    std::vector<Lease> one;
    do {
      one.clear();
      one.push_back(hand.next(id));
      if (one[0].reason != reason)
        queue->record(answers(one, Verdict::retry));
    } while (one[0].reason != reason);
    CHECK(one[0].recipients.size() == recipients);
    return one;
  };
  clock.pass(std::chrono::hours(3));
  queue->wake();
  {
    auto told = answers(take(Lease::Reason::delay_notice, 1000),
                        [](std::uint32_t) { return std::optional<Verdict>(); });
    told[0].delay_notice_sent = true;
    queue->record(std::move(told));
  }
  answer_all(Verdict::retry);
  Filter some;
  some.to = "@d1.test";  // 357
  CHECK(change(Verb::bounce, some).recipients == 357);
  queue->record(answers(take(Lease::Reason::bounce, 357), Verdict::bounce));
  answer_all(Verdict::retry);
  CHECK(listed().size() == 2500 - 357);
  clock.pass(settings.lifetime);
  queue->wake();
  queue->record(answers(take(Lease::Reason::expired, 1000), Verdict::bounce));
  queue->record(answers(take(Lease::Reason::expired, 1000), Verdict::bounce));
  queue->record(answers(take(Lease::Reason::expired, 143), Verdict::bounce));
  settle_all();
  CHECK(list().empty());
}

TEST_CASE_METHOD(Large, "an orderly stop records what waits to be recorded", "[queue][large]") {
  const auto leases = accept_and_lease(6500);
  queue->record(first_delivered(leases, 3000));
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
    const auto leases = whole.accept_and_lease(kAll);
    whole.settle_all();
    whole.vfs.heal();
    whole.queue->record(whole.first_delivered(leases, 1000));
    whole.settle_all();
    steps = whole.vfs.operations();
  }
  REQUIRE(steps > 10);
  const auto mode =
      GENERATE(FailingVfs::Mode::cut, FailingVfs::Mode::unheard, FailingVfs::Mode::once);
  for (std::uint64_t step = 1; step <= steps; step += 1 + steps / 40) {
    INFO("step " << step << " of " << steps << ", mode " << static_cast<int>(mode));
    Large life;
    const auto leases = life.accept_and_lease(kAll);
    life.settle_all();
    life.vfs.fail_at(step, SQLITE_IOERR, mode);
    life.queue->record(life.first_delivered(leases, 1000));
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
    CHECK(again.queue->totals()->recipients == indexes.size());
    again.start();
    again.clock.pass(std::chrono::hours(3));
    again.queue->wake();
    std::set<std::uint32_t> leased;
    while (leased.size() < indexes.size())
      for (const auto& recipient : again.hand.next(left[0].id).recipients)
        REQUIRE(leased.insert(recipient.index).second);
    CHECK(leased == indexes);
  }
}

TEST_CASE("a power cut while very many land leaves each of them once, or none", "[queue][large]") {
  constexpr std::uint32_t kAll = 2300;
  std::uint64_t steps = 0;
  {
    Large whole;
    whole.settle();
    whole.vfs.heal();
    whole.accept_and_lease(kAll);
    whole.settle_all();
    steps = whole.vfs.operations();
  }
  REQUIRE(steps > 10);
  const auto mode =
      GENERATE(FailingVfs::Mode::cut, FailingVfs::Mode::unheard, FailingVfs::Mode::once);
  for (std::uint64_t step = 1; step <= steps; step += 1 + steps / 40) {
    INFO("step " << step << " of " << steps << ", mode " << static_cast<int>(mode));
    Large life;
    life.settle();
    life.vfs.fail_at(step, SQLITE_IOERR, mode);
    const bool is_promised = life.accept(life.make("a@b.test", Large::many(kAll))).has_value();
    for (int i = 0; i < 12'000 && !life.vfs.has_failed(); ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    REQUIRE(life.vfs.has_failed());
    if (mode == FailingVfs::Mode::once) {
      life.recover();
      if (is_promised)
        life.lease_many(life.list()[0].id, kAll);  // it goes on where it was
      else
        CHECK(life.list().empty());
    }
    life.queue.reset();
    life.vfs.heal();
    QueueFixture again;
    again.settings.spool = life.settings.spool;
    again.clock.pass(std::chrono::hours(3));
    again.open();
    const auto left = again.list();
    REQUIRE((left.size() == 1 || (left.empty() && !is_promised)));
    if (left.empty())
      continue;
    std::set<std::uint32_t> indexes;
    for (const auto& recipient : left[0].recipients)
      REQUIRE(indexes.insert(recipient.index).second);
    CHECK(indexes.size() == kAll);
    CHECK(again.queue->totals()->recipients == kAll);
  }
}

}  // namespace postrider::queue::test
