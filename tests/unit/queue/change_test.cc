#include "tests/unit/queue/queue_fixture.h"

#include <catch2/catch.hpp>

#include <filesystem>
#include <unistd.h>

namespace postrider::queue::test {

using mail::Verdict;

namespace {

Filter from(const std::string& sender) {
  Filter filter;
  filter.from = sender;
  return filter;
}

}  // namespace

// Three messages: deferred to d.test and e.test, in delivery's hands to d.test.
struct ThreeMessages : QueueFixture {
  ThreeMessages() {
    open();
    start();
    first = must_accept("one@b.test", {"c@d.test", "c@e.test"});
    defer(first);
    second = must_accept("two@b.test", {"c@e.test"});
    defer(second);
    third = must_accept("three@b.test", {"c@d.test"});
    in_hand = hand.next(third);
  }
  void defer(mail::MessageId id) {
    record(answer(hand.next(id), Verdict::retry, clock.now() + std::chrono::hours(1)));
  }
  mail::MessageId first, second, third;
  Lease in_hand;
};

TEST_CASE_METHOD(ThreeMessages, "a filter finds what it says", "[queue][filter]") {
  struct Case {
    std::string name;
    Filter filter;
    std::vector<std::string> want;  // senders
    std::size_t recipients;
  };
  std::vector<Case> cases;
  const auto add = [&](std::string name, std::vector<std::string> want, std::size_t recipients,
                       auto set) {
    Case each{std::move(name), {}, std::move(want), recipients};
    set(each.filter);
    cases.push_back(std::move(each));
  };
  add("everything", {"one@b.test", "two@b.test", "three@b.test"}, 4, [](Filter&) {});
  add("sender", {"one@b.test"}, 2, [](Filter& f) { f.from = "ONE@B.test"; });
  add("sender's domain", {"one@b.test", "two@b.test", "three@b.test"}, 4,
      [](Filter& f) { f.from = "@b.test"; });
  add("the null sender", {}, 0, [](Filter& f) { f.from = "<>"; });
  add("recipient", {"one@b.test", "two@b.test"}, 2, [](Filter& f) { f.to = "c@e.test"; });
  add("recipient's domain", {"one@b.test", "three@b.test"}, 2, [](Filter& f) { f.to = "@d.test"; });
  add("domain", {"one@b.test", "three@b.test"}, 2, [](Filter& f) { f.domain = "D.test"; });
  add("domain of others than what landed", {"one@b.test", "two@b.test"}, 2,
      [](Filter& f) { f.domain = "e.test"; });
  add("domain of nobody", {}, 0, [](Filter& f) { f.domain = "f.test"; });
  add("recipient that is nobody", {}, 0, [](Filter& f) { f.to = "d@d.test"; });
  add("another sender's domain", {}, 0, [](Filter& f) { f.from = "@d.test"; });
  add("queued", {}, 0, [](Filter& f) { f.status = "queued"; });
  add("active", {"three@b.test"}, 1, [](Filter& f) { f.status = "active"; });
  add("deferred", {"one@b.test", "two@b.test"}, 3, [](Filter& f) { f.status = "deferred"; });
  add("held", {}, 0, [](Filter& f) { f.status = "held"; });
  add("reply", {"one@b.test", "two@b.test"}, 3, [](Filter& f) { f.reply = "SAID so"; });
  add("another reply", {}, 0, [](Filter& f) { f.reply = "no such user"; });
  add("larger", {}, 0, [](Filter& f) { f.larger = 1000; });
  add("larger than less", {"one@b.test", "two@b.test", "three@b.test"}, 4,
      [](Filter& f) { f.larger = 3; });
  add("older", {}, 0, [](Filter& f) { f.older = std::chrono::minutes(1); });
  add("SQL in a value (I05)", {}, 0, [](Filter& f) { f.from = "x'/**/UNION/**/SELECT/**/1--@us"; });
  add("two conditions", {"one@b.test"}, 1, [](Filter& f) {
    f.domain = "e.test";
    f.from = "one@b.test";
  });
  for (const auto& c : cases) {
    DYNAMIC_SECTION(c.name) {
      std::vector<std::string> senders;
      std::size_t recipients = 0;
      for (const auto& message : list(c.filter)) {
        senders.push_back(message.sender);
        recipients += message.recipients.size();
      }
      CHECK(senders == c.want);
      CHECK(recipients == c.recipients);
      const auto counted = queue->count(c.filter);
      REQUIRE(counted.has_value());
      CHECK(counted->messages == c.want.size());
      CHECK(counted->recipients == c.recipients);
    }
  }
}

TEST_CASE_METHOD(ThreeMessages, "a dry run counts and changes nothing", "[queue][change]") {
  for (const auto verb : {Verb::hold, Verb::retry, Verb::remove, Verb::bounce}) {
    const auto changed = change(verb, {}, true);
    CHECK(changed.messages == 3);
    CHECK(changed.recipients == 4);
  }
  CHECK(list().size() == 3);
  CHECK(hand.count() == 0);
}

TEST_CASE_METHOD(ThreeMessages, "a change finds what a listing finds, in delivery's hands too",
                 "[queue][change]") {
  const auto counted = [&](auto set) {
    Filter filter;
    set(filter);
    const auto hold = change(Verb::hold, filter, true), remove = change(Verb::remove, filter, true);
    CHECK(hold.messages == remove.messages);
    CHECK(hold.recipients == remove.recipients);
    return std::pair(remove.messages, remove.recipients);
  };
  using Counts = std::pair<std::uint64_t, std::uint64_t>;
  CHECK(counted([](Filter& f) { f.domain = "d.test"; }) == Counts(2, 2));
  CHECK(counted([](Filter& f) { f.domain = "e.test"; }) == Counts(2, 2));
  CHECK(counted([](Filter& f) { f.domain = "f.test"; }) == Counts(0, 0));
  CHECK(counted([](Filter& f) { f.to = "@e.test"; }) == Counts(2, 2));
  CHECK(counted([](Filter& f) { f.to = "C@d.test"; }) == Counts(2, 2));
  CHECK(counted([](Filter& f) { f.to = "x@d.test"; }) == Counts(0, 0));
  CHECK(counted([](Filter& f) { f.from = "three@b.test"; }) == Counts(1, 1));
  CHECK(counted([](Filter& f) { f.from = "<>"; }) == Counts(0, 0));
  CHECK(counted([](Filter& f) { f.larger = 1000; }) == Counts(0, 0));
  CHECK(counted([](Filter& f) { f.older = std::chrono::minutes(1); }) == Counts(0, 0));
  CHECK(counted([&](Filter& f) { f.ids = {third}; }) == Counts(1, 1));
  CHECK(counted([&](Filter& f) { f.ids = {first}; }) == Counts(1, 2));
}

TEST_CASE_METHOD(ThreeMessages, "held mail is not tried until it is released", "[queue][change]") {
  Filter one;
  one.ids = {first};
  const auto held = change(Verb::hold, one);
  CHECK(held.messages == 1);
  CHECK(held.recipients == 2);
  CHECK(list(one)[0].status == "held");
  clock.pass(std::chrono::hours(2));
  queue->wake();
  hand.next(second);
  settle();
  CHECK(hand.count() == 0);

  CHECK(change(Verb::release, {}).messages == 1);
  const Lease again = hand.next(first);
  CHECK(again.reason == Lease::Reason::due);
  CHECK(again.recipients.size() == 2);
}

TEST_CASE_METHOD(ThreeMessages, "one of two recipients can be held", "[queue][change]") {
  Filter filter;
  filter.to = "c@d.test";
  filter.ids = {first};
  CHECK(change(Verb::hold, filter).recipients == 1);
  CHECK(list(from("one@b.test"))[0].status == "deferred");
  clock.pass(std::chrono::hours(1));
  queue->wake();
  const Lease lease = hand.next(first);
  REQUIRE(lease.recipients.size() == 1);
  CHECK(lease.recipients[0].index == 1);
  record(answer(lease, Verdict::delivered));
  CHECK(list(from("one@b.test"))[0].status == "held");
}

TEST_CASE_METHOD(ThreeMessages, "a retry of what is being tried counts when that has ended",
                 "[queue][change]") {
  const auto later = [this](const Lease& lease, bool partial = false) {
    auto said = answer(lease, Verdict::retry, clock.now() + std::chrono::hours(1));
    if (partial)
      said.results.resize(1);
    said.partial = partial;
    record(std::move(said));
  };
  change(Verb::retry, from("one@b.test"));
  const Lease waited = hand.next(first);
  REQUIRE(waited.recipients.size() == 2);
  for (const char* sender : {"one@b.test", "three@b.test"})  // this one has just landed
    CHECK(change(Verb::retry, from(sender)).messages == 1);
  CHECK(hand.revoked().empty());
  SECTION("tried again at once, and that once") {
    later(in_hand);
    later(hand.next(third));
    later(waited);
    later(hand.next(first));
    settle();
    CHECK(hand.count() == 0);
  }
  SECTION("each recipient when its own attempt has ended") {
    later(waited, true);
    const Lease one = hand.next(first);
    REQUIRE(one.recipients.size() == 1);
    CHECK(one.recipients[0].index == 0);
    later(one);
    Record rest;
    rest.id = first;
    rest.results.push_back({1, answer(waited, Verdict::retry, clock.now()).results[1].outcome,
                            clock.now() + std::chrono::hours(1)});
    record(std::move(rest));
    const Lease other = hand.next(first);
    REQUIRE(other.recipients.size() == 1);
    CHECK(other.recipients[0].index == 1);
    later(other);
    settle();
    CHECK(hand.count() == 0);
  }
  SECTION("only whom the filter names") {
    Filter filter;
    filter.to = "c@e.test";
    filter.ids = {second};
    change(Verb::retry, from("two@b.test"));
    const Lease lease = hand.next(second);
    change(Verb::retry, filter, true);  // a dry run wishes nothing
    later(lease);
    settle();
    CHECK(hand.count() == 0);
  }
  SECTION("delivered is delivered") {
    record(answer(in_hand, Verdict::delivered));
    record(answer(waited, Verdict::delivered));
    settle();
    CHECK(hand.count() == 0);
    CHECK(list().size() == 1);
  }
}

TEST_CASE_METHOD(ThreeMessages, "a retry brings everything forward", "[queue][change]") {
  CHECK(change(Verb::retry, {}).messages == 3);
  CHECK(hand.next(first).recipients.size() == 2);
  CHECK(hand.next(second).recipients.size() == 1);
}

TEST_CASE_METHOD(ThreeMessages, "removed mail is gone, and what delivery says later is ignored",
                 "[queue][change]") {
  const auto removed = change(Verb::remove, {});
  CHECK(removed.messages == 3);
  CHECK(removed.recipients == 4);
  CHECK(list().empty());
  record(answer(in_hand, Verdict::retry, clock.now()));
  CHECK(list().empty());
  CHECK(queue->counters().removed == 4);
  CHECK(queue->totals()->messages == 0);
}

TEST_CASE_METHOD(ThreeMessages, "mail to bounce is handed out for that", "[queue][change]") {
  CHECK(change(Verb::bounce, from("one@b.test")).recipients == 2);
  const Lease lease = hand.next(first);
  CHECK(lease.reason == Lease::Reason::bounce);
  REQUIRE(lease.recipients.size() == 2);
  REQUIRE(lease.recipients[0].last);
  CHECK(lease.recipients[0].last->text == "said so");
  record(answer(lease, Verdict::bounce));
  CHECK(list().size() == 2);
}

TEST_CASE_METHOD(ThreeMessages, "mail in delivery's hands that was held stays held after its try",
                 "[queue][change]") {
  CHECK(change(Verb::hold, from("three@b.test")).messages == 1);
  CHECK(list(from("three@b.test"))[0].status == "active");
  record(answer(in_hand, Verdict::retry, clock.now()));
  CHECK(list(from("three@b.test"))[0].status == "held");
  CHECK(list(from("three@b.test"))[0].recipients[0].attempts == 1);
}

TEST_CASE_METHOD(ThreeMessages, "mail in delivery's hands that was held may still be delivered",
                 "[queue][change]") {
  change(Verb::hold, from("three@b.test"));
  record(answer(in_hand, Verdict::delivered));
  CHECK(list(from("three@b.test")).empty());
}

TEST_CASE_METHOD(ThreeMessages, "delivery is told what was changed of its mail, and tells the rest",
                 "[queue][change]") {
  const auto verb = GENERATE(Verb::hold, Verb::remove, Verb::bounce);
  const auto fresh = must_accept("four@b.test", {"a@d.test", "b@d.test", "c@x.test"});
  const Lease lease = hand.next(fresh);
  Filter filter = from("four@b.test");
  filter.domain = "d.test";
  hand.under_way = {0};
  const auto dry = change(verb, filter, true);
  CHECK(hand.revoked().empty());
  const auto changed = change(verb, filter);
  CHECK(dry.messages == changed.messages);
  CHECK(dry.recipients == changed.recipients);
  CHECK(dry.under_way_messages == changed.under_way_messages);
  CHECK(dry.under_way_recipients == changed.under_way_recipients);
  REQUIRE(hand.revoked().size() == 1);
  CHECK(hand.revoked()[0].id == fresh);
  CHECK(hand.revoked()[0].recipients == std::vector<std::uint32_t>{0, 1});
  CHECK(changed.messages == 1);
  CHECK(changed.recipients == 1);
  CHECK(changed.under_way_messages == 1);
  CHECK(changed.under_way_recipients == 1);

  // What is not leased needs no asking; what is under way as a whole counts as such alone.
  CHECK(change(verb, from("two@b.test")).messages == 1);
  CHECK(hand.revoked().size() == 1);
  const auto whole = change(verb, from("three@b.test"));
  CHECK(whole.messages == 0);
  CHECK(whole.under_way_messages == 1);
  CHECK(change(verb, from("one@b.test"), true).under_way_messages == 0);

  Record ends;
  ends.id = fresh;
  ends.results.push_back({0, outcome(Verdict::delivered), {}});
  ends.untried = {1};
  ends.results.push_back({2, outcome(Verdict::delivered), {}});
  record(std::move(ends));
  const auto left = list(from("four@b.test"));
  REQUIRE(left.size() == (verb == Verb::remove ? 0 : 1));
  if (verb == Verb::hold)
    CHECK(left[0].status == "held");
  if (verb == Verb::bounce)
    CHECK(hand.next(fresh).reason == Lease::Reason::bounce);
  if (verb == Verb::remove)
    CHECK(queue->counters().removed == 2);  // one of four@, and two@
  CHECK(queue->counters().delivered == 2);
}

TEST_CASE_METHOD(ThreeMessages, "mail that is removed under way may still bounce, and is told",
                 "[queue][change]") {
  hand.under_way = {0};
  change(Verb::remove, from("three@b.test"));
  auto bounced = answer(in_hand, Verdict::bounce);
  Submission notice;
  notice.message = std::make_shared<const mail::Message>(make("", {"three@b.test"}));
  const auto id = notice.message->id;
  bounced.notices.push_back(std::move(notice));
  record(std::move(bounced));
  CHECK(hand.next(id).reason == Lease::Reason::fresh);
  CHECK(queue->counters().removed == 0);
  CHECK(queue->counters().bounced == 1);
}

TEST_CASE_METHOD(ThreeMessages, "mail that is removed under way and ends in parts is counted once",
                 "[queue][change]") {
  auto submission = large(70'000, "four@b.test");
  auto message = *submission.message;
  message.envelope.recipients.resize(3);
  message.envelope.recipients[1].address = "d@large.test";
  message.envelope.recipients[2].address = "e@large.test";
  submission.message = std::make_shared<const mail::Message>(std::move(message));
  const auto id = submission.message->id;
  const auto body = queue->body_path(submission.message->content.file);
  REQUIRE(accept(std::move(submission)).has_value());
  const Lease lease = hand.next(id);
  hand.under_way = {0, 1, 2};
  change(Verb::remove, from("four@b.test"));
  Record part;
  part.id = id;
  part.partial = true;
  part.results.push_back({0, outcome(Verdict::delivered), {}});
  record(std::move(part));
  // Others are still being sent the content. Files go in their order.
  auto other = large(70'000, "five@b.test");
  const auto other_id = other.message->id;
  const auto other_body = queue->body_path(other.message->content.file);
  REQUIRE(accept(std::move(other)).has_value());
  record(answer(hand.next(other_id), Verdict::delivered));
  for (int i = 0; i < 60'000 && std::filesystem::exists(other_body); ++i)
    ::usleep(1000);
  REQUIRE_FALSE(std::filesystem::exists(other_body));
  CHECK(std::filesystem::exists(body));

  Record rest;
  rest.id = id;
  rest.results.push_back({1, outcome(Verdict::bounce), {}});
  rest.untried = {2};
  record(std::move(rest));
  CHECK(queue->counters().delivered == 2);
  CHECK(queue->counters().bounced == 1);
  CHECK(queue->counters().removed == 1);
  for (int i = 0; i < 60'000 && std::filesystem::exists(body); ++i)
    ::usleep(1000);
  CHECK_FALSE(std::filesystem::exists(body));
}

TEST_CASE_METHOD(ThreeMessages, "of mail that is removed under way is said once who ended it",
                 "[queue][change]") {
  hand.under_way = {0};
  change(Verb::remove, from("three@b.test"));
  CHECK(log.count("removed") == 0);
  const auto is_by_administrator = [&] {
    CHECK(log.count("removed") == 1);
    const auto text = log.all();
    const auto at = text.rfind(to_string(third));
    return text.substr(at, text.find('\n', at) - at).find("by=administrator") != text.npos;
  };
  SECTION("delivery") {
    record(answer(in_hand, GENERATE(Verdict::delivered, Verdict::bounce)));
    CHECK_FALSE(is_by_administrator());
  }
  SECTION("the administrator, for it was not tried") {
    record(untried(in_hand));
    CHECK(is_by_administrator());
  }
  SECTION("the administrator, for its try failed for now") {
    record(answer(in_hand, Verdict::retry, clock.now() + std::chrono::hours(1)));
    CHECK(is_by_administrator());
  }
}

TEST_CASE_METHOD(ThreeMessages, "mail in delivery's hands that is to bounce does so at once",
                 "[queue][change]") {
  CHECK(change(Verb::bounce, from("three@b.test")).messages == 1);
  SECTION("it comes back untried") {
    record(untried(in_hand));
  }
  SECTION("its try failed for now") {
    record(answer(in_hand, Verdict::retry, clock.now() + std::chrono::hours(1)));
  }
  CHECK(hand.next(third).reason == Lease::Reason::bounce);
}

TEST_CASE_METHOD(ThreeMessages, "mail that is released beyond its lifetime gets an hour more",
                 "[queue][change]") {
  change(Verb::hold, from("two@b.test"));
  clock.pass(settings.lifetime + std::chrono::hours(1));
  queue->wake();
  settle();
  change(Verb::release, from("two@b.test"));
  const auto next_but_delay = [this] {
    Lease lease = hand.next(second);
    if (lease.reason != Lease::Reason::delay_notice)
      return lease;
    auto told = untried(lease);
    told.delay_notice_sent = true;
    record(std::move(told));
    return hand.next(second);
  };
  const Lease again = next_but_delay();
  CHECK(again.reason == Lease::Reason::due);
  record(answer(again, Verdict::retry, clock.now() + std::chrono::minutes(50)));
  clock.pass(std::chrono::minutes(51));
  queue->wake();
  const Lease late = next_but_delay();
  CHECK(late.reason == Lease::Reason::due);
  record(answer(late, Verdict::retry, clock.now() + std::chrono::minutes(50)));
  clock.pass(std::chrono::minutes(10));
  queue->wake();
  CHECK(hand.next(second).reason == Lease::Reason::expired);
}

}  // namespace postrider::queue::test
