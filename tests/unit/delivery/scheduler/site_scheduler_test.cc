#include "delivery/scheduler/site_scheduler.h"

#include <catch2/catch.hpp>

#include <algorithm>

namespace postrider::scheduler {
namespace {

using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;
using Kind = SiteAction::Kind;

const TimePoint kStart{Duration(1'000'000'000)};
const RetrySchedule kSchedule;

struct Bench {
  explicit Bench(SiteRules rules = {},
                 std::vector<RemoteHost> hosts = {{"mx.example", Family::ipv4, 10}})
      : site(7, std::move(rules), kSchedule) {
    site.on_hosts(hosts, now);
  }
  SiteScheduler site;
  TimePoint now = kStart;
  std::vector<SiteAction> last;

  void jobs(unsigned count, std::uint64_t first = 1) {
    for (unsigned i = 0; i < count; ++i) {
      SiteJob job;
      job.id = job.message = first + i;
      site.on_job(job, now);
    }
    take();
  }
  void take() { last = site.take_actions(); }
  unsigned count(Kind kind) const {
    return static_cast<unsigned>(
        std::count_if(last.begin(), last.end(),
                      [kind](const SiteAction& action) { return action.kind == kind; }));
  }
  const SiteAction& first(Kind kind) const {
    const auto found = std::find_if(
        last.begin(), last.end(), [kind](const SiteAction& action) { return action.kind == kind; });
    REQUIRE(found != last.end());
    return *found;
  }
  std::uint64_t open() { return first(Kind::open).connection; }
  void ready(std::uint64_t id) {
    site.on_ready(id, now);
    take();
  }
  void taken(std::uint64_t id) {
    Seen seen;
    seen.is_taken = true;
    seen.latency = seconds(1);
    now += seconds(1);
    site.on_outcome(id, seen, now);
    take();
  }
  void refused(std::uint64_t id, int code, mail::EnhancedCode enhanced, std::string text) {
    Seen seen;
    seen.stage = mail::Stage::rcpt;
    seen.reply = mail::Reply(code, enhanced, std::move(text));
    site.on_outcome(id, seen, now);
    take();
  }
  void failed(std::uint64_t id) {
    site.on_failed(id, {}, now);
    take();
  }
};

TEST_CASE("site: one connection first, more once it has taken a message", "[site_scheduler]") {
  Bench bench;
  bench.jobs(100);
  REQUIRE(bench.count(Kind::open) == 1);
  const auto id = bench.open();
  bench.ready(id);
  CHECK(bench.first(Kind::give).job == 1);
  bench.taken(id);
  CHECK(bench.count(Kind::open) == 1);
  CHECK(bench.first(Kind::give).job == 2);
  CHECK(bench.site.limit(0) == 2);
}

TEST_CASE("site: dead, it costs one probe at a time and gives everything back once",
          "[site_scheduler]") {
  Bench bench;
  bench.jobs(1000);
  bench.failed(bench.open());
  CHECK(bench.count(Kind::hold) == 999);
  CHECK(bench.count(Kind::block) == 1);
  CHECK(bench.count(Kind::open) == 0);
  unsigned probes = 0;
  for (const auto end = bench.now + hours(2); bench.now < end;) {
    bench.now = std::max(bench.now + Duration(1), bench.first(Kind::wake).until);
    bench.site.on_time(bench.now);
    bench.take();
    if (bench.count(Kind::open) == 0)
      continue;
    REQUIRE(bench.count(Kind::open) == 1);
    ++probes;
    bench.failed(bench.open());
    CHECK(bench.count(Kind::hold) == 0);
    CHECK(bench.count(Kind::block) == 0);
  }
  CHECK(probes >= 20);
  CHECK(probes <= 90);
  CHECK(bench.site.is_blocked());
  CHECK(bench.site.explain(bench.now).find("nothing is sent") != std::string::npos);
}

TEST_CASE("site: it returns with a ramp, and releases what it held", "[site_scheduler]") {
  Bench bench;
  bench.jobs(10);
  bench.failed(bench.open());
  bench.now = bench.first(Kind::wake).until;
  bench.site.on_time(bench.now);
  bench.take();
  const auto id = bench.open();
  bench.ready(id);
  CHECK(bench.count(Kind::give) == 1);
  CHECK(bench.count(Kind::opened) == 0);
  bench.taken(id);
  CHECK(bench.count(Kind::opened) == 1);
  CHECK(!bench.site.is_blocked());
  CHECK(bench.site.limit(0) <= 2);
}

TEST_CASE("site: refused for the rate, the message stays in front and waits here",
          "[site_scheduler]") {
  Bench bench;
  bench.jobs(5);
  const auto id = bench.open();
  bench.ready(id);
  bench.refused(id, 451, {4, 7, 28}, "rate limit reached");
  CHECK(bench.count(Kind::put_back) == 0);
  CHECK(bench.count(Kind::give) == 0);
  CHECK(bench.site.waiting() == 5);
  const auto wake = bench.first(Kind::wake).until;
  CHECK(wake > bench.now);
  bench.now += seconds(10);
  bench.site.on_time(bench.now);
  bench.take();
  if (bench.count(Kind::give) == 0)
    bench.ready(bench.open());
  CHECK(bench.first(Kind::give).job == 1);
}

TEST_CASE("site: greylisted mail comes back from the same source, by the learned delay",
          "[site_scheduler]") {
  Bench bench;
  bench.jobs(1);
  auto id = bench.open();
  bench.ready(id);
  bench.refused(id, 450, {4, 2, 0}, "Greylisted");
  const auto& back = bench.first(Kind::put_back);
  CHECK(back.klass == ReplyClass::greylisted);
  CHECK(back.until - bench.now >= seconds(305));
  SiteJob job;
  job.id = 2;
  job.tries = 1;
  job.source = back.source;
  job.greylisted_for = seconds(61);
  bench.site.on_job(job, bench.now);
  bench.take();
  CHECK(bench.first(Kind::give).job == 2);
  bench.taken(id);
  bench.jobs(1, 3);
  bench.refused(id, 450, {4, 2, 0}, "Greylisted");
  CHECK(bench.first(Kind::put_back).until - bench.now < seconds(70));
}

TEST_CASE("site: a message refused over IPv6 goes over IPv4 at once", "[site_scheduler]") {
  Bench bench({}, {{"a.example", Family::ipv6, 10}, {"a.example", Family::ipv4, 10}});
  bench.jobs(3);
  const auto id = bench.open();
  REQUIRE(bench.first(Kind::open).host == 0);
  bench.ready(id);
  bench.refused(id, 550, {5, 7, 1}, "does not meet IPv6 sending guidelines");
  CHECK(bench.count(Kind::bounce) == 0);
  CHECK(bench.first(Kind::close).connection == id);
  bench.site.on_ended(id, bench.now);
  bench.take();
  CHECK(bench.first(Kind::open).host == 1);
  CHECK(bench.site.explain(bench.now).find("IPv6 is not used") != std::string::npos);
}

TEST_CASE("site: where there is only IPv6 its refusal is one", "[site_scheduler]") {
  Bench bench({}, {{"a.example", Family::ipv6, 10}});
  bench.jobs(1);
  const auto id = bench.open();
  bench.ready(id);
  bench.refused(id, 550, {5, 7, 1}, "does not meet IPv6 sending guidelines");
  CHECK(bench.count(Kind::bounce) == 1);
}

TEST_CASE("site: one bad host of two is no trouble of the site", "[site_scheduler]") {
  Bench bench({}, {{"a.example", Family::ipv4, 10}, {"b.example", Family::ipv4, 10}});
  bench.jobs(2);
  const auto bad = bench.first(Kind::open).host;
  bench.failed(bench.open());
  CHECK(bench.count(Kind::block) == 0);
  CHECK(bench.first(Kind::open).host != bad);
}

TEST_CASE("site: a reputation row suspends it, and no probe goes before", "[site_scheduler]") {
  Bench bench;
  bench.jobs(3);
  const auto id = bench.open();
  bench.ready(id);
  bench.refused(id, 421, {4, 7, 0}, "[TSS04] temporarily deferred");
  CHECK(bench.first(Kind::block).until == bench.now + hours(2));
  bench.site.on_ended(id, bench.now);
  bench.site.on_time(bench.now + hours(1));
  bench.take();
  CHECK(bench.count(Kind::open) == 0);
  bench.now += hours(2);
  bench.site.on_time(bench.now);
  bench.take();
  CHECK(bench.count(Kind::open) == 1);
}

TEST_CASE("site: a job that two connections lost is put back", "[site_scheduler]") {
  Bench bench;
  bench.jobs(1);
  for (int i = 0; i < 2; ++i) {
    const auto id = bench.open();
    bench.ready(id);
    bench.site.on_ended(id, bench.now);
    bench.take();
  }
  CHECK(bench.first(Kind::put_back).klass == ReplyClass::network);
}

TEST_CASE("site: idle connections are closed, and those an operator does not want never made",
          "[site_scheduler]") {
  SiteRules rules;
  rules.most_connections = 1;
  rules.per_connection = 2;
  Bench bench(rules);
  bench.jobs(3);
  auto id = bench.open();
  bench.ready(id);
  bench.taken(id);
  CHECK(bench.count(Kind::open) == 0);
  bench.taken(id);
  CHECK(bench.first(Kind::close).connection == id);
  bench.site.on_ended(id, bench.now);
  bench.take();
  id = bench.open();
  bench.ready(id);
  bench.taken(id);
  CHECK(bench.count(Kind::close) == 0);
  bench.now += seconds(6);
  bench.site.on_time(bench.now);
  bench.take();
  CHECK(bench.first(Kind::close).connection == id);
}

TEST_CASE("site: what it learned outlives a restart; what is not a state is refused",
          "[site_scheduler]") {
  Bench bench;
  bench.jobs(400);
  const auto id = bench.open();
  bench.ready(id);
  bench.taken(id);
  bench.refused(id, 451, {4, 7, 28}, "rate limit reached");
  bench.now += seconds(20);
  bench.site.on_time(bench.now);
  bench.take();
  Bench again;
  CHECK(again.site.restore(bench.site.store(), minutes(1)));
  CHECK(again.site.store() == bench.site.store());
  CHECK(!again.site.restore("", minutes(1)));
  CHECK(!again.site.restore("2 x", minutes(1)));
  CHECK(again.site.restore("1 0 0; 5 1", minutes(1)));
  CHECK(!again.site.restore("1 0 0; 5 1 30 nan 1 1;", minutes(1)));
}

}  // namespace
}  // namespace postrider::scheduler
