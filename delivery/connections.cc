#include "delivery/connections.h"

#include "base/assert.h"
#include "delivery/delivery_log.h"
#include "delivery/job/job_outcome.h"
#include "delivery/local/addresses/left_out_entries.h"
#include "delivery/refusals.h"
#include "delivery/site_links.h"
#include "delivery/site_verdicts.h"

#include <boost/asio/local/stream_protocol.hpp>

#include <algorithm>

namespace postrider::delivery {

using mail::Outcome;
using mail::Stage;
using mail::Verdict;

namespace {

constexpr auto kBadAddress = std::chrono::minutes(1);
constexpr std::size_t kMostBadAddresses = 1000;
constexpr std::uint32_t kMostReturns = 3;
// A connection that is silent behind the content for that long leaves its place to other mail of
// its site, if there is some; which is looked at as often as the second says.
constexpr Duration kHangs = std::chrono::seconds(5);
constexpr Duration kLookAtSilent = std::chrono::seconds(1);
constexpr Duration kLongestSleep = std::chrono::minutes(1);
// While this machine lacks something no connection is made to a site for that long, and for the
// second where its token cannot be got, which is asked for no sooner. What has waited so for longer
// than the third, and could not go otherwise, is tried again within the last.
constexpr Duration kFaultPause = std::chrono::seconds(1);
constexpr Duration kTokenPause = std::chrono::seconds(10);
constexpr Duration kMostFault = std::chrono::seconds(10);
constexpr Duration kAgainBehindFault = std::chrono::seconds(10);

std::vector<HostAddress> socket_candidate(const std::string& path) {
  HostAddress candidate;
  candidate.endpoint = asio::local::stream_protocol::endpoint(path);
  candidate.address = candidate.remote = path;
  return {std::move(candidate)};
}

// How often the job came back untried while its site took nothing else either: one that takes other
// messages meanwhile, and closes behind each, is well, and the job has had bad luck.
std::uint32_t count_return(const Site& site, Job& job) {
  if (site.progress != job.progress)
    job.returns = 0;
  job.progress = site.progress;
  return ++job.returns;
}

// A failure that says more about the site than about the message.
bool is_about_site(const Outcome& outcome) {
  return outcome.verdict == Verdict::retry && !is_our_fault(outcome) &&
         (outcome.stage < Stage::mail || outcome.reply.code == 421 || outcome.reply.code == 0);
}

// Addresses of the families that a site's connections come from.
Families families_of(const Site& site, Families in_use) {
  const auto sources = site.sources.empty() ? choose_sources(site.rule_sources, 0) : site.sources;
  if (sources.empty())
    return in_use;
  const auto has = [&](bool v4) {
    return std::any_of(sources.begin(), sources.end(),
                       [&](const auto& source) { return source.is_v4() == v4; });
  };
  if (in_use == Families::both && has(true) && has(false))
    return in_use;
  return has(true) && in_use != Families::ipv6 ? Families::ipv4 : Families::ipv6;
}

// Its turn comes behind the others for a while.
void note_bad(Site& site, const std::string& address, SteadyTime now) {
  if (site.bad.size() >= kMostBadAddresses)
    site.bad.clear();
  site.bad[address] = now + kBadAddress;
}

void no_longer_made(Site& site, SiteConnection& link) {
  site.connecting -= std::exchange(link.is_being_made, false) ? 1 : 0;
}

}  // namespace

Connections::Connections(DispatchContext& context, std::vector<Loop*> loops, LeaseBook& leases,
                         SiteBook& sites, Router& router, TlsDemands& tls, BlockingPool& pool,
                         std::function<void()> on_gone)
    : context_(context),
      leases_(leases),
      sites_(sites),
      router_(router),
      tls_(tls),
      on_gone_(std::move(on_gone)),
      line_(context, sites, [this](Site& site) { schedule(site); }),
      couriers_(context, std::move(loops), tls, pool),
      doubts_(context, leases),
      others_(context, leases, sites, line_,
              {[this](const Site& site) { return candidates(site); },
               [this](Site& site, std::vector<HostAddress> hosts) {
                 return begin_for_refused(site, std::move(hosts));
               },
               [this](SiteConnection& link, Job job) { give(link, std::move(job)); }}) {}

void Connections::open_channels() {
  couriers_.open_channels([this](CourierEvent event) { on_event(std::move(event)); });
}

void Connections::close_all() {
  for (const auto& [name, site] : sites_.all()) {
    for (auto& link : site->links)
      line_.close(*link);
    for (auto& link : site->others)
      line_.close(*link);
    others_.schedule(*site);
  }
}

void Connections::abort_all() {
  for (const auto& [name, site] : sites_.all())
    for (const auto* links : {&site->links, &site->others})
      for (const auto& link : *links)
        Couriers::abort(*link);
}

void Connections::send(Site& site, Job job) {
  if (sites_.is_blocked(site) || context_.is_draining) {
    sites_.park(site, job);
    return;
  }
  site.ready.add(std::move(job));
  if (!site.unavailable.empty()) {
    sites_.block(site, decide(Verdict::retry, Stage::starttls, {4, 7, 4}, site.unavailable));
    return;
  }
  schedule(site);
}

void Connections::schedule(Site& site) {
  if (site.ready.empty() || context_.is_draining)
    return;
  site.pace.age(site.unused_for(context_.steady()));
  site.used = context_.steady();
  const auto now = context_.pace_time();
  bool may_send = true;
  while (!site.ready.empty()) {
    if (site.ready.next().in_doubt && !line_.may_take_doubt(site)) {
      doubts_.stand_back(site);
      continue;
    }
    may_send = site.pace.may_send(under_way(site), now);
    SiteConnection* link =
        may_send ? free_link(site, most_connections(site, context_.clock.now())) : nullptr;
    if (link == nullptr)
      break;
    site.pace.on_sent(now);
    give(*link, site.ready.take());
  }
  while (may_send && site.connecting < site.ready.size() && may_connect(site)) {
    const auto before = site.connecting;
    connect(site);
    if (site.connecting == before)
      break;  // a lookup is under way, or the site turned out to be blocked
  }
  wake_later(site);
  look_at_silent(site);
}

// While mail waits there: connections that are silent behind the content leave their places to it.
void Connections::look_at_silent(Site& site) {
  if (site.ready.all() == 0)
    return;
  if (!site.look_at_silent)
    site.look_at_silent = std::make_unique<Deadline>(context_.home.deadlines(), [this, &site] {
      auto room = line_.room_aside(site), unanswered = line_.room_unanswered(site);
      const bool has_most = site.links.size() >= site.pace.hard_limit();
      if (has_most)
        unanswered = 0;
      const auto now = context_.steady();
      for (const auto& link : site.links) {
        const auto began = link->was_ready ? link->busy_since : link->since;
        const bool may_hang = (link->in_hand > 0 || !link->was_ready) && !link->is_aside &&
                              now - began >= kHangs && now - link->asked >= kHangs;
        auto& left = link->was_ready ? room : unanswered;
        if (!may_hang || left == 0)
          continue;
        --left;
        link->asked = now;
        link->courier->loop().post(
            [courier = link->courier, has_most] { courier->stand_aside(kHangs, has_most); });
      }
      for (auto& job : site.ready.take_back())
        site.ready.add(std::move(job));
      schedule(site);
      look_at_silent(site);
    });
  if (!site.look_at_silent->is_set())
    site.look_at_silent->set(kLookAtSilent);
}

// Where only time brings what is not allowed now.
void Connections::wake_later(Site& site) {
  const auto now = context_.pace_time();
  const auto next = site.pace.next_chance(now);
  if (site.ready.empty() || next == TimePoint::max())
    return;
  if (!site.wake)
    site.wake =
        std::make_unique<Deadline>(context_.home.deadlines(), [this, &site] { schedule(site); });
  site.wake->set(std::min<Duration>(next - now, kLongestSleep));
}

bool Connections::may_connect(const Site& site) const {
  const auto open = counted(site);
  // Those that are silent behind the content are beyond the limit, others are not.
  const auto beyond = static_cast<std::size_t>(
      std::count_if(site.links.begin(), site.links.end(),
                    [](const auto& link) { return link->is_aside && !link->is_at_command; }));
  return site.links.size() - std::min(beyond, kMostHanging) < site.pace.hard_limit() &&
         open < most_connections(site, context_.clock.now()) &&
         !(site.fault && site.fault->is_set()) &&
         site.pace.may_open(static_cast<unsigned>(open), static_cast<unsigned>(site.connecting),
                            context_.pace_time());
}

void Connections::give(SiteConnection& link, Job job) {
  line_.on_job(link, job);
  leases_.note_attempt(job.lease);
  job.handed_over = link.busy_since = context_.steady();
  link.may_take = usual_time(*job.message);
  ++link.in_hand;
  couriers_.give(link, std::move(job));
}

void Connections::connect(Site& site) {
  if (!line_.may_add(site)) {
    line_.wait(site);
    return;
  }
  if (site.kind == Site::Kind::socket || site.found_until > context_.steady()) {
    start_courier(site);
    return;
  }
  if (std::exchange(site.is_looking_up, true))
    return;
  try {
    context_.home.spawn(look_up_and_connect(context_.alive(), site), context_.log,
                        "address lookup");
  } catch (...) {
    site.is_looking_up = false;
    throw;
  }
}

Task<Found> Connections::look_up(Site& site) {
  const bool by_mx = site.kind == Site::Kind::mx;
  auto hosts = co_await router_.look_up_usable(site.hosts, site.port, by_mx);
  co_await tls_.demand(hosts, site.tls, site.port);
  const auto refused = tls_.drop_refused(site.tls, domain_of_front(site), hosts);
  Found found;
  if (refused && hosts.empty())
    found.outcome = refused;
  else
    found = usable_hosts(std::move(hosts), site.name, by_mx && site.hosts.size() < kMostHosts);
  // A domain that leads to us may be one of ours, in a table that cannot be read.
  if (by_mx && found.outcome && context_.settings->local.book &&
      lacks_domains(*context_.settings->local.book)) {
    found.outcome->verdict = Verdict::retry;
    found.outcome->status.klass = 4;
  }
  co_return found;
}

// Site lives: sites under lookup are not forgotten.
Task<void> Connections::look_up_and_connect(std::shared_ptr<void> alive, Site& site) {
  Found found;
  try {
    found = co_await look_up(site);
  } catch (const std::exception& error) {  // its mail shall not wait for ever
    found.outcome = went_wrong_here(Stage::route, error);
  }
  site.is_looking_up = false;
  if (found.outcome && found.outcome->verdict == Verdict::bounce) {
    sites_.refuse_ready(site, *found.outcome);
    co_return;
  }
  if (found.outcome) {
    on_failure(site, *found.outcome);
    co_return;
  }
  site.found = std::move(found.hosts);
  site.found_until = context_.steady() + std::chrono::minutes(1);
  schedule(site);
}

// This machine could not do it. That is not the site's fault: what waits for it waits a little, and
// if nothing else carries it and it is so again and again, by the schedule of each message.
void Connections::on_own_fault(Site& site, const Outcome& why, Duration pause) {
  ++site.faults;
  const bool is_stuck = working(site) == 0 && site.connecting == 0;
  if (is_stuck && site.faults * pause >= kMostFault) {
    const auto ready = site.ready.take_all();
    for (const auto& job : ready) {
      leases_.settle_all(job, why, kAgainBehindFault);
      leases_.close(job.lease);
    }
  }
  if (!site.fault)
    site.fault =
        std::make_unique<Deadline>(context_.home.deadlines(), [this, &site] { schedule(site); });
  site.fault->set(pause);
}

// No candidate could be talked to.
void Connections::on_failure(Site& site, const Outcome& why) {
  if (is_our_fault(why))
    return on_own_fault(site, why, kFaultPause);
  const auto others = working(site);
  Duration stop{0};
  bool is_for_rate = false;
  if (why.reply.code != 0) {
    const auto meaning = meaning_of(why, false);
    is_for_rate = meaning.limits_rate;
    if (is_for_rate || meaning.suspend > Duration{0})
      stop = site.pace.on_refused(meaning, why.reply, 0, context_.pace_time());
  }
  if (stop > Duration{0}) {
    sites_.stop(site, why, stop);
  } else if (others > 0) {
    if (!is_for_rate)
      site.pace.on_crowded(others, context_.pace_time());
    schedule(site);
  } else if (site.connecting == 0) {
    sites_.block(site, why);
  }
}

// It hangs: what waits for its site waits until it is tried again, and it has more time then.
void Connections::on_hang(Site& site, const SiteConnection& link, const mail::Outcome& why) {
  const auto others = std::count_if(site.links.begin(), site.links.end(), [&](const auto& one) {
    return one.get() != &link && one->was_ready && !one->gave_way;
  });
  if (others > 0)
    site.pace.on_silent(static_cast<unsigned>(others), context_.pace_time());
  else if (site.health.state(context_.clock.now()) != SiteHealth::State::blocked)
    sites_.block(site, why);
  site.is_patient = true;
}

std::vector<HostAddress> Connections::candidates(const Site& site) {
  if (site.kind == Site::Kind::socket)
    return socket_candidate(site.hosts.front().name);
  return candidates_of(site.found, site.port,
                       families_of(site, site.families.value_or(context_.settings->families)),
                       site.bad, context_.steady(), context_.random);
}

void Connections::start_courier(Site& site) {
  auto prepared = couriers_.order_for(site);
  auto& order = prepared.order;
  order.candidates = candidates(site);
  if (site.kind == Site::Kind::mx && !line_.reserve_address(site, order)) {
    site.is_crowded = true;
    line_.wait(site);
    return;
  }
  if (order.candidates.empty()) {
    on_failure(site, decide(Verdict::retry, Stage::route, {4, 4, 4},
                            "no host of " + site.name + " has an address of a family in use"));
    return;
  }
  site.links.push_back(begin(site, std::move(prepared)));
  site.links.back()->is_being_made = true;
  ++site.connecting;
}

std::unique_ptr<SiteConnection> Connections::begin(Site& site, Couriers::Order order) {
  auto link = couriers_.prepare(site, std::move(order));
  line_.on_begun(*link);
  couriers_.start(*link);
  ++counts_.opened;
  return link;
}

std::unique_ptr<SiteConnection> Connections::begin_for_refused(Site& site,
                                                               std::vector<HostAddress> hosts) {
  auto prepared = couriers_.order_for(site);
  auto& order = prepared.order;
  order.candidates = std::move(hosts);
  order.conversations = 1;
  if (site.kind == Site::Kind::mx && !line_.reserve_address(site, order))
    return nullptr;
  auto link = begin(site, std::move(prepared));
  link->is_of_others = true;
  return link;
}

void Connections::on_event(CourierEvent event) {
  auto* known = sites_.of_handle(event.courier->site());
  POSTRIDER_ASSERT(known != nullptr);
  auto& site = *known;
  if (event.kind == CourierEvent::Kind::unreachable) {
    note_bad(site, event.address, context_.steady());
    ++counts_.failed;
    return;
  }
  if (event.kind == CourierEvent::Kind::ended)
    doubts_.note_end(event.end);
  if (others_.on_event(site, event)) {
    if (event.kind == CourierEvent::Kind::gone) {
      line_.feed();
      on_gone_();
    }
    return;
  }
  const auto found = std::find_if(site.links.begin(), site.links.end(),
                                  [&](const auto& link) { return link->courier == event.courier; });
  if (found == site.links.end()) {
    // A job that crossed the courier's end on its way.
    POSTRIDER_ASSERT(event.kind == CourierEvent::Kind::gone);
    event.was_ready = true;
    take_returned(site, event);
    schedule(site);
    others_.schedule(site);
    return;
  }
  switch (event.kind) {
    case CourierEvent::Kind::ready:
      on_ready(site, **found, event);
      break;
    case CourierEvent::Kind::ended:
      on_ended(site, **found, std::move(event));
      break;
    case CourierEvent::Kind::unreachable:
      break;  // above
    case CourierEvent::Kind::stays:
      line_.on_stays(**found);
      break;
    case CourierEvent::Kind::waits_aside:
      on_waits_aside(site, **found, event);
      break;
    case CourierEvent::Kind::gone:
      on_gone(site, **found, std::move(event));
      break;
  }
}

// A host that has not greeted yet goes behind the others, and one more connection is made.
void Connections::on_waits_aside(Site& site, SiteConnection& link, const CourierEvent& event) {
  link.is_at_command = event.is_at_command;
  line_.on_waits_aside(link);
  if (link.is_aside && !link.was_ready) {
    no_longer_made(site, link);
    note_bad(site, event.address, context_.steady());
  }
  schedule(site);
}

void Connections::on_ready(Site& site, SiteConnection& link, const CourierEvent& event) {
  if (!std::exchange(link.was_ready, true)) {
    line_.on_ready(link);
    no_longer_made(site, link);
    site.is_slow = context_.steady() - link.since > usual_time({});
    site.pace.on_greeted(working(site), context_.pace_time());
  }
  link.address = event.address;
  link.room = event.room;
  site.is_patient = false;
  site.faults = 0;
  if (site.health.on_answer())
    sites_.open_again(site);
  site.alarm.clear();
  if (link.in_hand == 0)
    make_idle(link);
  schedule(site);
}

void Connections::make_idle(SiteConnection& link) {
  if (link.idle)
    return;
  const auto& site = *link.site;
  const auto closing = static_cast<std::size_t>(
      std::count_if(site.links.begin(), site.links.end(),
                    [](const auto& one) { return one->is_closing && !one->is_aside; }));
  const auto open = counted(site) - closing;
  const auto most_jobs = site.pace.bounds().per_connection;
  const bool is_spent = most_jobs > 0 && link.carried >= most_jobs;
  if (context_.is_draining || is_spent ||
      open > std::max(1U, most_connections(site, context_.clock.now())))
    line_.close(link);
  else
    line_.on_idle(link);
}

void Connections::on_ended(Site& site, SiteConnection& link, CourierEvent event) {
  auto& end = event.end;
  bool success = false;
  const Outcome* broken = nullptr;
  if (end.reused && !end.goes_on)
    ++counts_.messages_on_reused;
  ++site.progress;
  OtherHosts::weigh_words(end);
  for (const auto& result : end.results)
    success = success || result.outcome.verdict == Verdict::delivered;
  Outcome why;
  if (!success && !end.goes_on && !end.results.empty() &&
      is_about_site(end.results.front().outcome)) {
    why = end.results.front().outcome;
    broken = &why;
  }
  const auto lease = end.job.lease;
  const bool was_heard =
      std::any_of(end.results.begin(), end.results.end(), [](const RecipientEnd& result) {
        return result.outcome.stage >= Stage::mail && result.outcome.reply.code != 0;
      });
  bool has_left_a_place = false;
  if (was_heard && !event.partial) {
    site.is_slow = context_.steady() - end.job.handed_over > usual_time(*end.job.message);
    has_left_a_place = line_.prove(link);
  }
  if (success)
    note_success(site, event, context_.steady(), context_.pace_time());
  const auto stop = weigh_refusal(site, end, context_.steady(), context_.pace_time());
  const bool breaks_for_all =
      broken != nullptr &&
      weigh_break(site.breaks, end, context_.steady()) == Evidence::Scope::site;
  // It took mail, or refused it on the mail's own account.
  if ((success || (was_heard && broken == nullptr && !stop)) &&
      site.health.on_verdict(context_.clock.now()))
    sites_.open_again(site);
  if (!stop)
    others_.take(site, link, end);
  for (auto& result : end.results) {
    leases_.log_attempt(end, result);
    leases_.settle(lease, result.index, std::move(result.outcome), {}, site.handle);
  }
  leases_.close(lease);
  if (!event.partial) {
    POSTRIDER_ASSERT(link.in_hand > 0);
    --link.in_hand;
    ++link.carried;
    line_.on_job_ended(link);
    if (end.job.in_doubt)
      doubts_.bring_back(site);
  }
  if (event.room == 0)
    link.room = 0;
  if (link.is_idle())
    make_idle(link);
  if (stop && !sites_.is_blocked(site))
    sites_.stop(site, stop->why, stop->wait);
  else if (broken != nullptr && link.gave_way)
    on_hang(site, link, *broken);
  else if (broken != nullptr && site.health.on_broken() && breaks_for_all)
    sites_.block(site, *broken);
  else
    schedule(site);
  others_.schedule(site);
  if (has_left_a_place)
    line_.feed();
}

void Connections::take_returned(Site& site, CourierEvent& event) {
  auto why = event.failure;
  if (!why.status)
    why = decide(Verdict::retry, Stage::connect, {4, 4, 2},
                 "the connection was closed before the message could be sent");
  // A host that closes after each message: keep nothing waiting behind one.
  if (event.was_useful && !event.returned.empty())
    site.is_one_by_one = true;
  for (auto& job : event.returned) {
    if (!job.refused_by.empty()) {
      std::vector<Job> back;
      back.push_back(std::move(job));
      others_.take_back(site, back);
    } else if (context_.is_draining) {
      leases_.put_back(job);
      leases_.close(job.lease);
    } else if (sites_.is_blocked(site)) {
      sites_.park(site, job);
    } else if (event.was_ready && !event.was_useful && count_return(site, job) >= kMostReturns) {
      leases_.settle_all(job, why);  // a host that greets and hangs up must not make us spin
      leases_.close(job.lease);
    } else {
      site.ready.add_first(std::move(job));
    }
  }
}

void Connections::on_gone(Site& site, SiteConnection& link, CourierEvent event) {
  take_returned(site, event);
  const bool was_ready = link.was_ready;
  const bool was_aside = link.is_aside;
  no_longer_made(site, link);
  const bool gave_way = link.gave_way && !was_ready;
  line_.on_gone(link);
  std::erase_if(site.links, [&](const auto& one) { return one.get() == &link; });
  if (event.takes_no_mail && !was_ready) {
    auto why = event.failure;
    why.verdict = Verdict::bounce;
    why.status.klass = 5;
    sites_.refuse_ready(site, why);
  } else if (gave_way) {
    site.is_patient = true;
    if (!site.ready.empty())
      line_.wait(site);
  } else if (event.is_crowded && !was_ready) {
    site.is_crowded = true;
    line_.wait(site);
  } else if (event.login != LoginTrouble::none && !was_ready) {
    on_login_trouble(site, event);
  } else if (!was_ready && event.failure.status && !(was_aside && working(site) > 0)) {
    on_failure(site, event.failure);
  } else {
    schedule(site);
  }
  line_.feed();
  on_gone_();
}

void Connections::on_login_trouble(Site& site, const CourierEvent& event) {
  const std::string user = site.secrets ? site.secrets->user() : "";
  if (event.login == LoginTrouble::refused) {
    site.alarm = "the credentials of " + user + " are refused: put them right, then reload";
    maillog::credentials_refused(context_.log, site.name, user, event.failure, event.login_detail);
  } else {
    site.alarm = user + ": " + event.failure.text;
    maillog::no_token(context_.log, site.name, user, event.failure);
    return on_own_fault(site, event.failure, kTokenPause);
  }
  on_failure(site, event.failure);
}

}  // namespace postrider::delivery
