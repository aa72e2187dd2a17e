// Sites and couriers: who may connect, who gets the next job, what a failure does.
#include "base/assert.h"
#include "delivery/core.h"
#include "delivery/local/maildir.h"
#include "delivery/outcome.h"
#include "queue/schedule.h"

#include <boost/asio/local/stream_protocol.hpp>

#include <algorithm>

namespace postrider::delivery {

using mail::Outcome;
using mail::Stage;
using mail::Verdict;
using Core = Dispatcher::Core;

namespace {

constexpr auto kBadAddress = std::chrono::minutes(1);
constexpr std::size_t kMostBadAddresses = 1000;
constexpr std::uint32_t kMostReturns = 3;
constexpr auto kForgetAfter = std::chrono::minutes(10);

std::vector<Candidate> socket_candidate(const std::string& path) {
  Candidate candidate;
  candidate.endpoint = asio::local::stream_protocol::endpoint(path);
  candidate.address = candidate.remote = path;
  return {std::move(candidate)};
}

// A failure that says more about the site than about the message.
bool is_about_site(const Outcome& outcome) {
  return outcome.verdict == Verdict::retry &&
         (outcome.stage < Stage::mail || outcome.reply.code == 421 || outcome.reply.code == 0);
}

}  // namespace

Site& Core::site_named(const std::string& name) {
  auto& slot = sites_[name];
  if (!slot) {
    slot = std::make_unique<Site>();
    slot->handle = ++next_handle_;
    slot->name = name;
    site_of_handle_[slot->handle] = slot.get();
  }
  return *slot;
}

void Core::restore(std::vector<queue::SiteState> sites) {
  for (auto& state : sites)
    site_named(state.site).health = SiteHealth(state);
}

void Core::add_job(Site& site, Job job) {
  if (site.health.state(clock_.now()) == SiteHealth::State::blocked || is_draining_) {
    put_back(job);
    close_if_done(job.lease);
    return;
  }
  site.ready.push_back(std::move(job));
  if (!site.unavailable.empty()) {
    block(site, decide(Verdict::retry, Stage::starttls, {4, 7, 4}, site.unavailable));
    return;
  }
  schedule(site);
}

void Core::schedule(Site& site) {
  if (site.ready.empty() || is_draining_)
    return;
  site.used = steady();
  if (site.kind == Site::Kind::local) {
    run_local(site);
    return;
  }
  while (!site.ready.empty()) {
    Link* link = pick(site);
    if (link == nullptr)
      break;
    hand_over(site, *link);
  }
  while (site.connecting < site.ready.size() && may_connect(site)) {
    const auto before = site.connecting;
    connect(site);
    if (site.connecting == before)
      break;  // a lookup is under way, or the site turned out to be blocked
  }
}

// An idle link; or, when no more connections may be made, one with room behind its job.
Link* Core::pick(Site& site) {
  if (!site.idle.empty())
    return site.idle.back();
  if (site.links.size() < site.health.limit(clock_.now(), settings_->site_connections))
    return nullptr;
  for (const auto& link : site.links)
    if (link->room > link->in_hand && !(site.is_one_by_one && link->in_hand > 0))
      return link.get();
  return nullptr;
}

bool Core::may_connect(const Site& site) const {
  return site.links.size() < site.health.limit(clock_.now(), settings_->site_connections);
}

void Core::hand_over(Site& site, Link& link) {
  std::erase(site.idle, &link);
  auto job = std::move(site.ready.front());
  site.ready.pop_front();
  job.handed_over = steady();
  ++link.in_hand;
  to_loops_[link.loop]->put({link.courier, std::move(job)});
}

void Core::connect(Site& site) {
  if (links_ >= settings_->connections) {
    starved_.push_back(site.handle);
    evict_idle();
    return;
  }
  if (site.kind == Site::Kind::socket || site.found_until > steady()) {
    start_courier(site);
    return;
  }
  if (!std::exchange(site.is_looking_up, true))
    home().spawn(look_up_and_connect(shared_from_this(), site), log_, "address lookup");
}

// Site lives: sites under lookup are not forgotten.
Task<void> Core::look_up_and_connect(std::shared_ptr<Core> self, Site& site) {
  auto hosts = co_await look_up(site.hosts);
  site.is_looking_up = false;
  const bool by_mx = site.kind == Site::Kind::mx;
  find_ourselves(hosts, *settings_, site.port, by_mx);
  auto found = usable_hosts(std::move(hosts), site.name, by_mx);
  if (found.outcome && found.outcome->verdict == Verdict::bounce) {
    auto ready = std::exchange(site.ready, {});
    for (const auto& job : ready) {
      settle_all(job, *found.outcome);
      close_if_done(job.lease);
    }
    co_return;
  }
  if (found.outcome) {
    on_failure(site, *found.outcome);
    co_return;
  }
  site.found = std::move(found.hosts);
  site.found_until = steady() + std::chrono::minutes(1);
  schedule(site);
}

void Core::start_courier(Site& site) {
  CourierOrder order;
  order.candidates =
      site.kind == Site::Kind::socket
          ? socket_candidate(site.hosts.front().name)
          : candidates_of(site.found, site.port, settings_->families, site.bad, steady(), random_);
  if (order.candidates.empty()) {
    on_failure(site, decide(Verdict::retry, Stage::route, {4, 4, 4},
                            "no host of " + site.name + " has an address of a family in use"));
    return;
  }
  const auto loop = next_loop_++ % loops_.size();
  order.site = site.handle;
  order.dialect = site.dialect;
  order.settings = settings_;
  order.log = &log_;
  order.open_body = [custody = custody_.get()](const mail::Message& message) {
    return custody->open_body(message);
  };
  order.tell = [bag = from_loops_[loop]](CourierEvent event) { bag->put(std::move(event)); };
  auto link = std::make_unique<Link>();
  link->courier = std::make_shared<Courier>(*loops_[loop], std::move(order));
  link->site = &site;
  link->loop = loop;
  loops_[loop]->post([courier = link->courier] { courier->start(); });
  site.links.push_back(std::move(link));
  ++site.connecting;
  ++links_;
  ++counters_.connections_opened;
}

void Core::on_event(CourierEvent event) {
  const auto found_site = site_of_handle_.find(event.courier->site());
  POSTRIDER_ASSERT(found_site != site_of_handle_.end());
  auto& site = *found_site->second;
  const auto found = std::find_if(site.links.begin(), site.links.end(),
                                  [&](const auto& link) { return link->courier == event.courier; });
  if (found == site.links.end()) {
    // A job that crossed the courier's end on its way.
    POSTRIDER_ASSERT(event.kind == CourierEvent::Kind::gone);
    event.was_ready = true;
    take_returned(site, event);
    schedule(site);
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
      if (site.bad.size() >= kMostBadAddresses)
        site.bad.clear();
      site.bad[event.address] = steady() + kBadAddress;
      ++counters_.connections_failed;
      break;
    case CourierEvent::Kind::gone:
      on_gone(site, **found, std::move(event));
      break;
  }
}

void Core::on_ready(Site& site, Link& link, const CourierEvent& event) {
  if (!std::exchange(link.was_ready, true))
    --site.connecting;
  link.room = event.room;
  if (site.health.on_answer())
    open_again(site);
  if (link.in_hand == 0)
    make_idle(site, link);
  schedule(site);
}

void Core::make_idle(Site& site, Link& link) {
  if (std::find(site.idle.begin(), site.idle.end(), &link) != site.idle.end())
    return;
  if (is_draining_ || (site.ready.empty() && !starved_.empty())) {
    close_link(link);
    return;
  }
  site.idle.push_back(&link);
}

void Core::close_link(Link& link) {
  link.room = 0;
  std::erase(link.site->idle, &link);
  link.courier->loop().post([courier = link.courier] { courier->close(); });
}

void Core::on_ended(Site& site, Link& link, CourierEvent event) {
  auto& end = event.end;
  const auto found = in_hand_.find(end.job.lease);
  POSTRIDER_ASSERT(found != in_hand_.end());
  bool success = false;
  const Outcome* broken = nullptr;
  if (end.reused)
    ++counters_.messages_on_reused;
  for (auto& result : end.results) {
    success = success || result.outcome.verdict == Verdict::delivered;
    log_attempt(*found->second, end, result);
  }
  Outcome why;
  if (!success && !end.results.empty() && is_about_site(end.results.front().outcome)) {
    why = end.results.front().outcome;
    broken = &why;
  }
  const auto lease = end.job.lease;
  for (auto& result : end.results)
    settle(lease, result.index, std::move(result.outcome));
  close_if_done(lease);
  if (success)
    site.health.on_success(clock_.now());
  if (!event.partial) {
    POSTRIDER_ASSERT(link.in_hand > 0);
    --link.in_hand;
  }
  if (event.room == 0)
    link.room = 0;
  if (link.is_idle())
    make_idle(site, link);
  if (broken != nullptr && site.health.on_broken())
    block(site, *broken);
  else
    schedule(site);
}

void Core::take_returned(Site& site, CourierEvent& event) {
  auto why = event.failure;
  if (!why.status)
    why = decide(Verdict::retry, Stage::connect, {4, 4, 2},
                 "the connection was closed before the message could be sent");
  // A host that closes after each message: keep nothing waiting behind one.
  if (event.was_useful && !event.returned.empty())
    site.is_one_by_one = true;
  for (auto& job : event.returned) {
    if (is_draining_) {
      put_back(job);
      close_if_done(job.lease);
    } else if (event.was_ready && !event.was_useful && ++job.returns >= kMostReturns) {
      settle_all(job, why);  // a host that greets and hangs up must not make us spin
      close_if_done(job.lease);
    } else {
      site.ready.push_front(std::move(job));
    }
  }
}

void Core::on_gone(Site& site, Link& link, CourierEvent event) {
  take_returned(site, event);
  const bool was_ready = link.was_ready;
  if (!was_ready)
    --site.connecting;
  std::erase(site.idle, &link);
  std::erase_if(site.links, [&](const auto& one) { return one.get() == &link; });
  --links_;
  if (event.takes_no_mail && !was_ready) {
    auto why = event.failure;
    why.verdict = Verdict::bounce;
    why.status.klass = 5;
    auto ready = std::exchange(site.ready, {});
    for (const auto& job : ready) {
      settle_all(job, why);
      close_if_done(job.lease);
    }
  } else if (!was_ready && event.failure.status) {
    on_failure(site, event.failure);
  } else {
    schedule(site);
  }
  feed_starved();
  check_drained();
}

// No candidate could be talked to.
void Core::on_failure(Site& site, const Outcome& why) {
  const auto working = static_cast<unsigned>(std::count_if(
      site.links.begin(), site.links.end(), [](const auto& link) { return link->was_ready; }));
  if (working > 0) {
    site.health.on_crowded(working, clock_.now());
    schedule(site);
  } else if (site.connecting == 0) {
    block(site, why);
  }
}

void Core::block(Site& site, const Outcome& why) {
  if (is_draining_)
    return;
  const auto wait = queue::retry_wait(settings_->retry, site.health.failures() + 1, random_);
  auto kept = why;
  kept.verdict = Verdict::retry;
  kept.status.klass = 4;
  site.health.on_unreachable(kept, clock_.now(), wait);
  site.found_until = {};
  maillog::site_blocked(log_, site.name, kept, site.health.blocked_until(), site.health.failures());
  custody_->set_site(site.health.stored(site.name));
  put_back_all(site, kept);
}

// why: logged for each recipient, when there is one; the queue keeps it once, with the site.
void Core::put_back_all(Site& site, const Outcome& why) {
  auto ready = std::exchange(site.ready, {});
  for (const auto& job : ready) {
    const auto found = in_hand_.find(job.lease);
    POSTRIDER_ASSERT(found != in_hand_.end());
    JobEnd end;
    end.job.handed_over = steady();
    for (const auto index : job.recipients)
      if (why.status)
        log_attempt(*found->second, end, {index, why});
    put_back(job);
    close_if_done(job.lease);
  }
}

void Core::open_again(Site& site) {
  site.health.open_again();
  maillog::site_open(log_, site.name);
  custody_->set_site(site.health.stored(site.name));
}

void Core::unblock(const std::string& domain_or_site) {
  const auto assigned = assigned_.find(domain_or_site);
  const auto& wanted = assigned != assigned_.end() ? assigned->second : domain_or_site;
  for (auto& [name, site] : sites_)
    if ((wanted.empty() || name == wanted) && site->health.blocked_until() != TimePoint{})
      open_again(*site);
}

// One idle connection, of any site, makes room.
void Core::evict_idle() {
  for (auto& [name, site] : sites_) {
    if (site->idle.empty())
      continue;
    close_link(*site->idle.front());
    return;
  }
}

void Core::feed_starved() {
  while (!starved_.empty() && links_ < settings_->connections) {
    const auto handle = starved_.front();
    starved_.pop_front();
    const auto found = site_of_handle_.find(handle);
    if (found != site_of_handle_.end())
      schedule(*found->second);
  }
}

// Memory follows the sites in use, not all that ever were.
void Core::forget_unused() {
  if (destinations_.size() + sites_.size() < forget_at_)
    return;
  const auto now = steady();
  std::erase_if(destinations_, [&](const auto& entry) {
    const auto& destination = *entry.second;
    const bool is_unused =
        destination.waiting.empty() && !destination.is_resolving && destination.known_until < now;
    if (is_unused)
      assigned_.erase(destination.domain);
    return is_unused;
  });
  std::erase_if(sites_, [&](const auto& entry) {
    const auto& site = *entry.second;
    const bool is_unused = site.ready.empty() && site.links.empty() && !site.is_looking_up &&
                           site.local_running == 0 && site.used + kForgetAfter < now &&
                           site.health.blocked_until() == TimePoint{};
    if (is_unused)
      site_of_handle_.erase(site.handle);
    return is_unused;
  });
  forget_at_ = std::max<std::size_t>(10000, 2 * (destinations_.size() + sites_.size()));
}

void Core::run_local(Site& site) {
  while (!site.ready.empty() && site.local_running < settings_->local_deliveries) {
    auto job = std::move(site.ready.front());
    site.ready.pop_front();
    job.handed_over = steady();
    ++site.local_running;
    home().spawn(deliver_local(shared_from_this(), site, std::move(job)), log_, "local delivery");
  }
}

Task<void> Core::deliver_local(std::shared_ptr<Core> self, Site& site, Job job) {
  for (const auto index : job.recipients) {
    LocalDelivery delivery;
    delivery.message = job.message;
    delivery.recipient = index;
    delivery.mailbox = settings_->mailbox;
    delivery.hostname = settings_->hostname;
    delivery.directory = &directory_;
    delivery.open_body = [custody = custody_.get()](const mail::Message& message) {
      return custody->open_body(message);
    };
    delivery.now = clock_.now();
    std::function<Outcome()> work = [delivery] { return deliver_locally(delivery); };
    auto outcome = co_await pool_->run<Outcome>(home(), std::move(work));
    JobEnd end;
    end.job.handed_over = job.handed_over;
    const auto found = in_hand_.find(job.lease);
    POSTRIDER_ASSERT(found != in_hand_.end());
    log_attempt(*found->second, end, {index, outcome});
    settle(job.lease, index, std::move(outcome));
  }
  close_if_done(job.lease);
  --site.local_running;
  schedule(site);
  check_drained();
}

}  // namespace postrider::delivery
