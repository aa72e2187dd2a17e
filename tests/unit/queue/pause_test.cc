// What administrators pause is not handed out, whatever becomes of the process meanwhile.
#include "queue/store/pause_set.h"
#include "tests/unit/queue/queue_fixture.h"

#include <catch2/catch.hpp>

#include <future>

namespace postrider::queue::test {

using mail::Verdict;

namespace {

struct Paused : QueueFixture {
  Paused() {
    open();
    start();
  }
  static Pause pause_of(Pause::Of of, const std::string& name) {
    Pause pause;
    pause.of = of;
    pause.name = name;
    pause.by = {1000, "ann"};
    return pause;
  }
  Result<PauseDone> order(Pause pause, bool is_resume) {
    std::promise<Result<PauseDone>> told;
    auto answer = told.get_future();
    const auto on_done = [&](Result<PauseDone> done) { told.set_value(std::move(done)); };
    if (is_resume)
      queue->resume(std::move(pause), on_done);
    else
      queue->pause(std::move(pause), on_done);
    return answer.get();
  }
  PauseDone pause(Pause::Of of, const std::string& name = "", Duration span = Duration(0)) {
    auto wanted = pause_of(of, name);
    if (span > Duration(0))
      wanted.until = clock.now() + span;
    const auto done = order(wanted, false);
    REQUIRE(done.has_value());
    return *done;
  }
  std::size_t resume(Pause::Of of, const std::string& name = "") {
    const auto done = order(pause_of(of, name), true);
    REQUIRE(done.has_value());
    return done->ended;
  }
  // Everything that could be handed out now has been.
  void look() {
    queue->wake();
    settle();
    settle();
  }
  ListedMessage listed(mail::MessageId id) {
    Filter filter;
    filter.ids = {id};
    auto found = list(filter);
    REQUIRE(found.size() == 1);
    return found[0];
  }
};

}  // namespace

TEST_CASE("names of pauses have one form", "[queue][pause]") {
  using Of = Pause::Of;
  const struct {
    Of of;
    const char* given;
    std::optional<std::string> want;
  } cases[] = {{Of::all, "x", ""},
               {Of::domain, "D.Test", "d.test"},
               {Of::domain, "", std::nullopt},
               {Of::sender, "Ann@D.Test", "ann@d.test"},
               {Of::sender, "@D.Test", "@d.test"},
               {Of::sender, "<>", "<>"},
               {Of::sender, "", "<>"}};
  for (const auto& c : cases) {
    INFO(c.given);
    CHECK(canonical_name(c.of, c.given) == c.want);
  }
  CHECK_FALSE(canonical_name(Of::domain, std::string(1000, 'a')).has_value());
}

TEST_CASE("a pause concerns whom it names", "[queue][pause]") {
  using Of = Pause::Of;
  const struct {
    Of of;
    const char* name;
    const char* sender;
    const char* domain;
    bool want;
  } cases[] = {{Of::all, "", "a@b.test", "d.test", true},
               {Of::domain, "d.test", "a@b.test", "d.test", true},
               {Of::domain, "d.test", "a@b.test", "sub.d.test", false},
               {Of::domain, "d.test", "a@d.test", "e.test", false},
               {Of::sender, "a@b.test", "A@B.Test", "d.test", true},
               {Of::sender, "a@b.test", "c@b.test", "d.test", false},
               {Of::sender, "@b.test", "c@B.test", "d.test", true},
               {Of::sender, "@b.test", "c@x.b.test", "d.test", false},
               {Of::sender, "<>", "", "d.test", true},
               {Of::sender, "<>", "a@b.test", "d.test", false}};
  for (const auto& c : cases) {
    INFO(c.name << " " << c.sender << " " << c.domain);
    Pause pause;
    pause.of = c.of;
    pause.name = c.name;
    CHECK(concerns(pause, c.sender, c.domain) == c.want);
  }
}

TEST_CASE_METHOD(Paused, "mail to a paused domain is not handed out until it is resumed",
                 "[queue][pause]") {
  const auto before = must_accept("a@b.test", {"c@d.test"});
  record(answer(hand.next(before), Verdict::retry, clock.now() + std::chrono::minutes(1)));
  pause(Pause::Of::domain, "D.test");
  const auto fresh = must_accept("a@b.test", {"c@d.test"});
  const auto other = must_accept("a@b.test", {"c@e.test"});
  clock.pass(std::chrono::minutes(2));
  look();
  CHECK(hand.next(other).recipients.size() == 1);
  CHECK(hand.count() == 0);
  const auto waits = listed(fresh);
  REQUIRE(waits.recipients.size() == 1);
  CHECK(waits.status == "queued");
  CHECK(waits.recipients[0].paused);
  CHECK(waits.recipients[0].last->reason() == "mail to d.test is paused by ann");
  CHECK(waits.recipients[0].next_attempt == TimePoint());

  CHECK(resume(Pause::Of::domain, "d.test") == 1);
  look();
  CHECK(hand.next(before).reason == Lease::Reason::due);
  CHECK(hand.next(fresh).reason == Lease::Reason::due);
  CHECK(resume(Pause::Of::domain, "d.test") == 0);
}

TEST_CASE_METHOD(Paused, "of one message only the paused recipients wait", "[queue][pause]") {
  pause(Pause::Of::domain, "d.test");
  const auto id = must_accept("a@b.test", {"c@d.test", "c@e.test"});
  look();
  const auto lease = hand.next(id);
  REQUIRE(lease.recipients.size() == 1);
  CHECK(lease.recipients[0].index == 1);
  record(answer(lease, Verdict::delivered));
  CHECK(listed(id).recipients.size() == 1);
  resume(Pause::Of::all);
  look();
  CHECK(hand.next(id).recipients[0].index == 0);
}

TEST_CASE_METHOD(Paused, "what is in delivery's hands is asked back, and what has begun is counted",
                 "[queue][pause]") {
  const auto id = must_accept("a@b.test", {"c@d.test", "e@d.test", "c@e.test"});
  const auto lease = hand.next(id);
  hand.under_way = {1};
  const auto done = pause(Pause::Of::domain, "d.test");
  REQUIRE(hand.revoked().size() == 1);
  CHECK(hand.revoked()[0].id == id);
  CHECK(hand.revoked()[0].recipients == std::vector<std::uint32_t>{0, 1});
  CHECK(done.under_way_messages == 1);
  CHECK(done.under_way_recipients == 1);
  auto came_back = untried(lease);
  record(std::move(came_back));
  clock.pass(std::chrono::minutes(1));
  look();
  const auto rest = hand.next(id);
  REQUIRE(rest.recipients.size() == 1);
  CHECK(rest.recipients[0].index == 2);
}

TEST_CASE_METHOD(Paused, "a paused sender's many do not hide another's mail to the same domain",
                 "[queue][pause]") {
  pause(Pause::Of::sender, "bulk@b.test");
  for (int i = 0; i < 450; ++i)
    must_accept("Bulk@b.test", {"c@d.test"});
  pause(Pause::Of::sender, "slow@b.test");  // so that this one waits too
  const auto other = must_accept("slow@b.test", {"c@d.test"});
  resume(Pause::Of::sender, "slow@b.test");
  Filter filter;
  filter.from = "slow@b.test";
  change(Verb::retry, filter);
  CHECK(hand.next(other).recipients.size() == 1);
  look();
  CHECK(hand.count() == 0);
  filter.from = "bulk@b.test";
  const auto counted = queue->count(filter);
  REQUIRE(counted.has_value());
  CHECK(counted->messages == 450);
  resume(Pause::Of::sender, "bulk@b.test");
  CHECK(change(Verb::retry, filter).messages == 450);
  CHECK(hand.wait_for(100));
}

TEST_CASE_METHOD(Paused, "a sender's mail that was put off comes back by itself",
                 "[queue][pause]") {
  pause(Pause::Of::sender, "<>", std::chrono::hours(1));
  const auto id = must_accept("", {"c@d.test"});
  look();
  CHECK(hand.count() == 0);
  CHECK(listed(id).recipients[0].next_attempt == clock.now() + std::chrono::hours(1));
  clock.pass(std::chrono::hours(1));
  look();
  CHECK(hand.next(id).reason == Lease::Reason::due);
  CHECK(queue->pauses()->empty());
  CHECK(log.count("queue_resumed") == 1);
}

TEST_CASE_METHOD(Paused, "all mail can be paused, and stays so over a restart", "[queue][pause]") {
  pause(Pause::Of::all, "", std::chrono::hours(3));
  pause(Pause::Of::domain, "d.test");
  const auto id = must_accept("a@b.test", {"c@d.test"});
  look();
  reopen();
  look();
  CHECK(hand.count() == 0);
  const auto pauses = queue->pauses();
  REQUIRE(pauses.has_value());
  REQUIRE(pauses->size() == 2);
  CHECK((*pauses)[0].of == Pause::Of::all);
  CHECK((*pauses)[0].by.name == "ann");
  CHECK((*pauses)[0].until == clock.now() + std::chrono::hours(3));
  CHECK((*pauses)[1].name == "d.test");
  clock.pass(std::chrono::hours(3));
  look();
  CHECK(hand.count() == 0);  // the other one goes on
  CHECK(queue->pauses()->size() == 1);
  CHECK(resume(Pause::Of::all) == 1);
  CHECK(hand.next(id).recipients.size() == 1);
}

TEST_CASE_METHOD(Paused, "notices and ends of lifetimes do not wait for a pause",
                 "[queue][pause]") {
  pause(Pause::Of::all);
  const auto id = must_accept("a@b.test", {"c@d.test"});
  clock.pass(settings.delay_notice);
  look();
  const auto late = hand.next(id);
  CHECK(late.reason == Lease::Reason::delay_notice);
  REQUIRE(late.recipients[0].last);  // without a name: it is for the sender
  CHECK(late.recipients[0].last->text ==
        "its delivery is paused by the administrator of this mail system");
  CHECK(to_string(late.recipients[0].last->status) == "4.3.2");
  auto told = untried(late);
  told.delay_notice_sent = true;
  record(std::move(told));
  clock.pass(settings.lifetime);
  look();
  const auto end = hand.next(id);
  CHECK(end.reason == Lease::Reason::expired);
  REQUIRE(end.recipients[0].last);
  CHECK(end.recipients[0].last->status == late.recipients[0].last->status);
}

TEST_CASE_METHOD(Paused, "the notice of the end of what was tried before a pause says what it met",
                 "[queue][pause]") {
  const auto id = must_accept("a@b.test", {"c@d.test"});
  record(answer(hand.next(id), Verdict::retry, clock.now() + std::chrono::hours(1)));
  pause(Pause::Of::domain, "d.test");
  clock.pass(settings.delay_notice);
  look();
  auto late = hand.next(id);
  REQUIRE(late.recipients[0].last);
  CHECK(to_string(late.recipients[0].last->status) == "4.3.2");
  auto told = untried(late);
  told.delay_notice_sent = true;
  record(std::move(told));
  clock.pass(settings.lifetime);
  look();
  const auto end = hand.next(id);
  CHECK(end.reason == Lease::Reason::expired);
  REQUIRE(end.recipients[0].last);
  CHECK(end.recipients[0].last->text == "said so");
}

TEST_CASE_METHOD(Paused, "nobody is told that held mail is late, and its lifetime has no end",
                 "[queue][pause]") {
  const auto id = must_accept("a@b.test", {"c@d.test"});
  record(answer(hand.next(id), Verdict::retry, clock.now() + std::chrono::hours(1)));
  Filter filter;
  filter.ids = {id};
  change(Verb::hold, filter);
  clock.pass(settings.delay_notice + settings.lifetime);
  look();
  CHECK(hand.count() == 0);
  CHECK(listed(id).status == "held");
}

TEST_CASE_METHOD(Paused, "a retry counts apart what it leaves alone", "[queue][pause]") {
  std::vector<mail::MessageId> ids;
  for (const char* to : {"held@d.test", "paused@e.test", "free@f.test"}) {
    ids.push_back(must_accept("a@b.test", {to}));
    record(answer(hand.next(ids.back()), Verdict::retry, clock.now() + std::chrono::hours(1)));
  }
  Filter one;
  one.ids = {ids[0]};
  change(Verb::hold, one);
  pause(Pause::Of::domain, "e.test");
  Filter all;
  all.from = "a@b.test";
  for (const bool is_dry : {true, false}) {
    const auto changed = change(Verb::retry, all, is_dry);
    CHECK(changed.messages == 1);
    CHECK(changed.recipients == 1);
    CHECK(changed.held.messages == 1);
    CHECK(changed.held.recipients == 1);
    CHECK(changed.paused.messages == 1);
    CHECK(changed.paused.recipients == 1);
    CHECK(changed.unreleased.messages == 0);
  }
  CHECK(hand.next(ids[2]).recipients.size() == 1);
  CHECK(listed(ids[0]).status == "held");
  resume(Pause::Of::domain, "e.test");
  CHECK(hand.next(ids[1]).recipients.size() == 1);  // it was due, too
}

TEST_CASE_METHOD(Paused, "a release and a reroute count what goes on waiting", "[queue][pause]") {
  std::vector<mail::MessageId> ids;
  for (const char* to : {"held@d.test", "paused@e.test", "free@f.test"}) {
    ids.push_back(must_accept("a@b.test", {to}));
    record(answer(hand.next(ids.back()), Verdict::retry, clock.now() + std::chrono::hours(1)));
  }
  Filter held;
  held.ids = {ids[0]};
  change(Verb::hold, held);
  pause(Pause::Of::domain, "e.test");
  pause(Pause::Of::domain, "d.test");
  Filter all;
  all.from = "a@b.test";
  auto changed = change(Verb::release, all, true);
  CHECK(changed.messages == 1);
  CHECK(changed.paused.messages == 2);  // the released one among them
  REQUIRE(changed.pauses.size() == 2);
  CHECK(changed.pauses[0].name == "d.test");
  CHECK(changed.pauses[1].name == "e.test");
  CHECK(changed.paused.recipients == 2);
  CHECK(changed.held.messages == 0);
  changed = change(Verb::reroute, all, true);  // to another host than the paused ones
  CHECK(changed.messages == 3);
  CHECK(changed.paused.messages == 0);
  CHECK(changed.held.messages == 1);
  CHECK(changed.pauses.empty());
  pause(Pause::Of::sender, "a@b.test");
  CHECK(change(Verb::reroute, all, true).paused.messages == 3);
}

TEST_CASE_METHOD(Paused, "each pause is an event with who and what", "[queue][pause]") {
  pause(Pause::Of::sender, "@b.test", std::chrono::hours(1));
  resume(Pause::Of::sender, "@B.test");
  const auto all = log.all();
  CHECK(all.find("queue_paused") != std::string::npos);
  CHECK(all.find("name=@b.test") != std::string::npos);
  CHECK(all.find("user=ann") != std::string::npos);
  CHECK(log.count("queue_resumed") == 1);
}

TEST_CASE_METHOD(Paused, "an expiry ends the chosen recipients as their lifetime would",
                 "[queue][change]") {
  const auto id = must_accept("a@b.test", {"c@d.test", "c@e.test", "c@f.test"});
  record(answer(hand.next(id), Verdict::retry, clock.now() + std::chrono::hours(1)));
  Filter filter;
  filter.to = "c@f.test";
  change(Verb::hold, filter);
  filter = {};
  filter.to = "c@d.test";
  CHECK(change(Verb::bounce, filter, true).recipients == 1);
  CHECK(change(Verb::expire, filter, true).recipients == 1);
  CHECK(hand.count() == 0);
  CHECK(change(Verb::expire, filter).recipients == 1);
  const auto lease = hand.next(id);
  CHECK(lease.reason == Lease::Reason::expired);
  REQUIRE(lease.recipients.size() == 1);
  CHECK(lease.recipients[0].index == 0);
  REQUIRE(lease.recipients[0].last);
  CHECK(lease.recipients[0].last->text == "said so");
  const auto ending = listed(id);
  CHECK(ending.recipients[0].next_attempt == TimePoint());
  record(answer(lease, Verdict::bounce));
  REQUIRE(listed(id).recipients.size() == 2);
  CHECK(listed(id).recipients[0].state == RecipientState::queued);

  filter = {};
  filter.ids = {id};
  CHECK(change(Verb::expire, filter).recipients == 2);  // the held one too
  const auto rest = hand.next(id);
  CHECK(rest.reason == Lease::Reason::expired);
  CHECK(rest.recipients.size() == 2);
  record(answer(rest, Verdict::bounce));
  CHECK(list().empty());
}

TEST_CASE_METHOD(Paused, "an expiry that was cut off by a stop is carried out at the next start",
                 "[queue][change]") {
  const auto id = must_accept("a@b.test", {"c@d.test", "c@e.test"});
  record(answer(hand.next(id), Verdict::retry, clock.now() + std::chrono::hours(1)));
  Filter filter;
  filter.domain = "d.test";
  change(Verb::expire, filter);
  hand.next(id);
  reopen();
  const auto lease = hand.next(id);
  CHECK(lease.reason == Lease::Reason::expired);
  CHECK(lease.recipients.size() == 1);
}

TEST_CASE_METHOD(Paused, "what is rerouted goes to that host, whatever becomes of its domain",
                 "[queue][change]") {
  const auto reroute = [this](const Filter& filter, bool dry_run) {
    std::promise<Result<Changed>> told;
    queue->change(
        Verb::reroute, filter, dry_run,
        [&](Result<Changed> changed) { told.set_value(std::move(changed)); }, {1000, "ann"},
        "smtp://relay.test:25");
    auto changed = told.get_future().get();
    REQUIRE(changed.has_value());
    return *changed;
  };
  const auto id = must_accept("a@b.test", {"c@d.test", "c@e.test"});
  const auto other = must_accept("a@b.test", {"x@d.test"});
  for (const auto one : {id, other})
    record(answer(hand.next(one), Verdict::retry, clock.now() + std::chrono::hours(1)));
  queue->assign_site("d.test", "dead");
  SiteState dead;
  dead.site = "dead";
  dead.failures = 3;
  dead.blocked_until = clock.now() + std::chrono::hours(5);
  queue->set_site(dead);
  settle();

  Filter filter;
  filter.to = "c@d.test";
  CHECK(reroute(filter, true).recipients == 1);
  look();
  CHECK(hand.count() == 0);
  CHECK(reroute(filter, false).recipients == 1);
  auto lease = hand.next(id);
  REQUIRE(lease.recipients.size() == 1);
  CHECK(lease.recipients[0].index == 0);
  CHECK(lease.recipients[0].next_hop == "smtp://relay.test:25");
  record(answer(lease, Verdict::retry, clock.now() + std::chrono::minutes(5)));

  // It is found as what it is, and counted so.
  filter = {};
  filter.domain = "d.test";
  const auto found = list(filter);
  REQUIRE(found.size() == 2);
  REQUIRE(found[0].recipients.size() == 1);
  CHECK(found[0].recipients[0].next_hop == "smtp://relay.test:25");
  CHECK(found[0].recipients[0].domain == "d.test");
  CHECK(found[1].recipients[0].next_hop.empty());
  const auto counted = queue->count(filter);
  REQUIRE(counted.has_value());
  CHECK(counted->messages == 2);
  CHECK(counted->recipients == 2);
  Summarizing summarizing({}, SummaryKey::domain, clock.now());
  while (!summarizing.is_done)
    REQUIRE(queue->summarize_on(summarizing).has_value());
  REQUIRE(summarizing.summary.groups() == 2);
  CHECK(summarizing.summary.largest(1)[0]->key == "d.test");
  CHECK(summarizing.summary.largest(1)[0]->recipients == 2);

  // Also after a stop; and what is held stays held.
  filter = {};
  filter.ids = {other};
  change(Verb::hold, filter);
  CHECK(reroute(filter, false).recipients == 1);
  reopen();
  clock.pass(std::chrono::minutes(5));
  look();
  lease = hand.next(id);
  CHECK(lease.recipients[0].next_hop == "smtp://relay.test:25");
  record(answer(lease, Verdict::delivered));
  CHECK(hand.count() == 0);
  change(Verb::release, filter);
  lease = hand.next(other);
  CHECK(lease.recipients[0].next_hop == "smtp://relay.test:25");
  record(answer(lease, Verdict::delivered));
  CHECK(list().size() == 1);
  CHECK(log.all().find("next_hop=smtp://relay.test:25") != std::string::npos);
}

}  // namespace postrider::queue::test
