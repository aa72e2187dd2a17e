#include "delivery/scheduler/site_pace.h"

#include <catch2/catch.hpp>

namespace postrider::scheduler {
namespace {

using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;

const TimePoint kStart{Duration(1'000'000'000)};

ReplyMeaning said(int code, mail::EnhancedCode enhanced, std::string text, mail::Reply& reply,
                  mail::Stage stage = mail::Stage::mail) {
  reply = mail::Reply(code, enhanced, std::move(text));
  return classify(stage, reply, "mx.example.org", true);
}

Duration refuse(SitePace& pace, TimePoint now, int code, mail::EnhancedCode enhanced,
                std::string text, unsigned busy = 1) {
  mail::Reply reply;
  const auto meaning = said(code, enhanced, std::move(text), reply);
  return pace.on_refused(meaning, reply, busy, now);
}

// Each taken at once, all connections busy.
void take(SitePace& pace, TimePoint& now, unsigned count) {
  for (unsigned i = 0; i < count; ++i) {
    pace.on_sent(now);
    pace.on_taken(Duration(20), pace.limit(), true, now += Duration(1));
  }
}

TEST_CASE("pace: grows to what is allowed, and no further", "[site_pace]") {
  SitePace pace;
  CHECK(pace.limit() == 1);
  TimePoint now = kStart;
  take(pace, now, 100);
  CHECK(pace.limit() == 20);
  SiteBounds bounds;
  bounds.connections = 3;
  pace.set_bounds(bounds);
  CHECK(pace.limit() == 3);
  CHECK_FALSE(pace.may_open(3, 0, now));
  CHECK(pace.may_open(2, 2, now));
}

TEST_CASE("pace: a refusal of the rate stops the site, then one message at a time", "[site_pace]") {
  SitePace pace;
  TimePoint now = kStart;
  take(pace, now, 200);
  CHECK(pace.may_send(20, now));
  const auto stop = refuse(pace, now, 451, {4, 7, 1}, "rate limit exceeded");
  CHECK(stop == seconds(10));
  CHECK_FALSE(pace.may_send(0, now));
  CHECK(pace.next_chance(now) == now + stop);
  CHECK(refuse(pace, now, 451, {4, 7, 1}, "rate limit exceeded") == stop);  // was under way
  now += stop;
  CHECK(pace.may_send(0, now));
  CHECK_FALSE(pace.may_send(1, now));
  CHECK(refuse(pace, now, 451, {4, 7, 1}, "rate limit exceeded") == seconds(20));
  now += seconds(20);
  pace.on_sent(now);
  pace.on_taken(Duration(20), 1, true, now);
  CHECK(pace.rates().rate() > 1);
  // A known rate that is refused again only pauses.
  now += minutes(10);
  CHECK(refuse(pace, now, 451, {4, 7, 1}, "rate limit exceeded") == Duration(0));
  CHECK_FALSE(pace.may_send(0, now));
  CHECK(pace.next_chance(now) > now);
  CHECK(pace.explain(now).find("it refused for the rate 0 s ago") != std::string::npos);
}

TEST_CASE("pace: a hint in a refusal of the rate sets the pause, within bounds", "[site_pace]") {
  SitePace pace;
  CHECK(refuse(pace, kStart, 451, {4, 7, 1}, "rate limit exceeded, try again in 60 seconds") ==
        seconds(60));
  SitePace other;
  CHECK(refuse(other, kStart, 451, {4, 7, 1}, "rate limit exceeded, try again in 9 hours") <=
        minutes(2));
}

TEST_CASE("pace: little mail before a refusal makes no rate of a message an hour", "[site_pace]") {
  SitePace pace;
  TimePoint now = kStart;
  take(pace, now, 2);
  now += hours(1);
  now += refuse(pace, now, 451, {4, 7, 1}, "rate limit exceeded");
  take(pace, now, 1);
  CHECK(pace.rates().rate() >= 0.1);
}

TEST_CASE("pace: too many connections in a reply to a message names the limit", "[site_pace]") {
  SitePace pace;
  TimePoint now = kStart;
  take(pace, now, 40);
  CHECK(refuse(pace, now, 421, {4, 7, 0}, "too many concurrent connections", 6) == Duration(0));
  CHECK(pace.limit() == 5);
  CHECK(pace.explain(now).find("5 connections at one time: one more was refused") !=
        std::string::npos);
}

TEST_CASE("pace: what is about one message is nothing to the site", "[site_pace]") {
  SitePace pace;
  TimePoint now = kStart;
  take(pace, now, 100);
  const auto limit = pace.limit();
  CHECK(refuse(pace, now, 451, {4, 7, 1}, "greylisted for a while") == Duration(0));
  CHECK(refuse(pace, now, 452, {4, 2, 2}, "mailbox full") == Duration(0));
  CHECK(refuse(pace, now, 550, {5, 1, 1}, "no such user") == Duration(0));
  CHECK(refuse(pace, now, 450, {4, 2, 1}, "receiving mail too quickly") == Duration(0));
  CHECK(pace.limit() == limit);
  CHECK(pace.may_send(limit, now));
}

TEST_CASE("pace: what a site thinks of us stops it, at once or behind some", "[site_pace]") {
  SitePace pace;
  CHECK(refuse(pace, kStart, 421, {4, 7, 0}, "very low reputation of the sending domain") ==
        hours(1));
  SitePace patient;
  const auto complain = [&](TimePoint now) {
    return refuse(patient, now, 421, {4, 7, 0}, "unusual rate of unsolicited mail");
  };
  const auto first = complain(kStart);
  CHECK(first < minutes(5));
  CHECK(complain(kStart + minutes(1)) < minutes(5));
  CHECK(complain(kStart + minutes(2)) == minutes(30));
}

TEST_CASE("pace: an operator's rate is kept to", "[site_pace]") {
  SitePace pace;
  SiteBounds bounds;
  bounds.rate = 2;
  pace.set_bounds(bounds);
  TimePoint now = kStart;
  unsigned sent = 0;
  for (const auto end = now + minutes(1); now < end; now += Duration(50))
    while (pace.may_send(0, now)) {
      pace.on_sent(now);
      pace.on_taken(Duration(20), 1, true, now);
      ++sent;
    }
  CHECK(sent >= 119);
  CHECK(sent <= 122);
}

TEST_CASE("pace: stored and restored; what is not a state is refused", "[site_pace]") {
  SitePace pace;
  TimePoint now = kStart;
  take(pace, now, 40);
  pace.on_crowded(5, now);
  refuse(pace, now, 451, {4, 7, 1}, "rate limit exceeded");
  now += seconds(10);
  take(pace, now, 1);
  const auto rate = pace.rates().rate();
  SitePace again;
  REQUIRE(again.restore(pace.store(), minutes(1)));
  CHECK(again.limit() == 5);
  CHECK(again.rates().rate() == Approx(rate));
  SitePace aged;
  REQUIRE(aged.restore(pace.store(), hours(24 * 8)));
  CHECK(aged.rates().rate() == 0);
  for (const auto* text : {"", "1", "2 5 1 30 1 1 1", "1 5 1 30 1 1", "1 5 1 30 nan 1 1",
                           "1 5 1 30 inf 1 1", "1 5 1 30 1 1 1 x", "1 -5 1 30 1 1 1 1"})
    CHECK_FALSE(SitePace().restore(text, minutes(1)));
  SitePace odd;
  CHECK(odd.restore("1 65535 1 65535 1e9 1e9 65535", minutes(1)));
  CHECK(odd.limit() == 20);
}

TEST_CASE("pace: the refusals of one burst are one complaint", "[site_pace]") {
  SitePace pace;
  ReplyMeaning meaning;
  meaning.klass = ReplyClass::reputation;
  meaning.suspend = hours(1);
  meaning.suspend_after = 3;
  const mail::Reply reply{421, {4, 7, 0}, "unsolicited"};
  TimePoint now = kStart;
  for (int burst = 1; burst <= 3; ++burst, now += minutes(1))
    for (int i = 0; i < 5; ++i) {
      const auto stop = pace.on_refused(meaning, reply, 1, now + Duration(i));
      if (burst < 3)
        CHECK(stop == Duration(0));
      else if (i == 0)
        CHECK(stop == hours(1));
    }
}

}  // namespace
}  // namespace postrider::scheduler
