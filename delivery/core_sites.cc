// Sites: who may connect, who gets the next job, what a failure does.
#include "base/assert.h"
#include "delivery/core.h"
#include "delivery/job/job_outcome.h"
#include "delivery/local/addresses/left_out_entries.h"
#include "delivery/local/local_delivery.h"
#include "queue/schedule.h"

#include <algorithm>

namespace postrider::delivery {

using mail::Outcome;
using mail::Stage;
using mail::Verdict;
using Core = Dispatcher::Core;

namespace {

constexpr auto kForgetAfter = std::chrono::minutes(10);

}  // namespace

Site& Core::site_named(const std::string& name) {
  const auto known = sites_.find(name);
  if (known != sites_.end())
    return *known->second;
  auto fresh = std::make_unique<Site>();
  fresh->handle = ++next_handle_;
  fresh->name = name;
  site_of_handle_.emplace(fresh->handle, fresh.get());
  return *sites_.emplace(name, std::move(fresh)).first->second;
}

void Core::restore(std::vector<queue::SiteState> sites) {
  for (auto& state : sites)
    site_named(state.site).health = SiteHealth(state);
}

void Core::add_job(Site& site, Job job) {
  if (site.health.state(clock_.now()) == SiteHealth::State::blocked || is_draining_) {
    log_parked(site, job);
    give_back(site, job);
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
  while (!site.ready.empty()) {
    SiteConnection* link = pick(site);
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
SiteConnection* Core::pick(Site& site) {
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

void Core::hand_over(Site& site, SiteConnection& link) {
  remove_idle(link);
  auto job = std::move(site.ready.front());
  site.ready.pop_front();
  job.handed_over = link.busy_since = steady();
  if (!link.busy)
    link.busy = busy_.insert(busy_.end(), &link);
  link.may_take = usual_time(*job.message);
  ++link.in_hand;
  to_loops_[link.loop]->put({link.courier, std::move(job)});
}

void Core::connect(Site& site) {
  if (!may_add(site)) {
    starve(site);
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
  const bool by_mx = site.kind == Site::Kind::mx;
  auto hosts = co_await look_up_usable(site.hosts, site.port, by_mx);
  const auto sources = site.tls;
  const auto port = site.port;
  co_await demand_tls(hosts, sources, port);
  site.is_looking_up = false;
  const auto refused = drop_refused(site, hosts);
  Found found;
  if (refused && hosts.empty())
    found.outcome = refused;
  else
    found = usable_hosts(std::move(hosts), site.name, by_mx && site.hosts.size() < kMostHosts);
  // A domain that leads to us may be one of ours, in a table that cannot be read.
  if (by_mx && found.outcome && settings_->local.book && lacks_domains(*settings_->local.book)) {
    found.outcome->verdict = Verdict::retry;
    found.outcome->status.klass = 4;
  }
  if (found.outcome && found.outcome->verdict == Verdict::bounce) {
    refuse_ready(site, *found.outcome);
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
  site.is_proven = site.is_patient = site.is_slow = false;
  site.found_until = {};
  maillog::site_blocked(log_, site.name, kept, site.health.blocked_until(), site.health.failures());
  custody_->set_site(site.health.stored(site.name));
  put_back_all(site, kept);
}

// The same end for all that waits there.
void Core::refuse_ready(Site& site, const Outcome& why) {
  const auto ready = std::exchange(site.ready, {});
  for (const auto& job : ready) {
    settle_all(job, why);
    close_if_done(job.lease);
  }
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
      if (why.status && !site.is_aside)
        log_attempt(*found->second, end, {index, why});
    give_back(site, job);
  }
}

void Core::open_again(Site& site) {
  site.health.open_again();
  site.alarm.clear();
  maillog::site_open(log_, site.name);
  custody_->set_site(site.health.stored(site.name));
}

void Core::unblock(const std::string& domain_or_site) {
  const auto assigned = assigned_.find(domain_or_site);
  const auto& wanted = assigned != assigned_.end() ? assigned->second : domain_or_site;
  // What is known of hosts and policies is asked again too: it may be why the mail waits.
  for (auto& [key, destination] : destinations_)
    if (wanted.empty() || destination->domain == domain_or_site || destination->site == wanted)
      destination->known_until = {};
  for (auto& [name, site] : sites_) {
    if (!wanted.empty() && name != wanted)
      continue;
    site->found_until = {};
    site->bad.clear();
    if (site->health.blocked_until() != TimePoint{})
      open_again(*site);
  }
}

// What no courier has in hand goes back to the queue, which knows what was wanted.
void Core::revoke(std::vector<queue::Revocation> wanted, queue::Consumer::UnderWay answer) {
  std::unordered_map<std::int64_t, queue::Revocation*> by_id;
  for (auto& one : wanted)
    by_id.emplace(one.id.value, &one);
  std::unordered_map<std::uint64_t, queue::Revocation*> by_handle;
  for (const auto& [handle, in_hand] : in_hand_)
    if (const auto found = by_id.find(in_hand->record.id.value); found != by_id.end())
      by_handle.emplace(handle, found->second);
  if (!by_handle.empty()) {
    for (auto& [name, site] : sites_)
      take_back(site->ready, by_handle);
    for (auto& [key, destination] : destinations_)
      take_back(destination->waiting, by_handle);
  }
  answer(std::move(wanted));
}

// Leaves in `wanted` what is not among these jobs.
void Core::take_back(std::deque<Job>& jobs,
                     const std::unordered_map<std::uint64_t, queue::Revocation*>& wanted) {
  std::vector<Job> taken;
  for (auto& job : jobs) {
    const auto found = wanted.find(job.lease);
    if (found == wanted.end())
      continue;
    const auto& twins = in_hand_.at(job.lease)->twins;
    auto& recipients = found->second->recipients;
    const auto is_wanted = [&](std::uint32_t index) {
      return std::find(recipients.begin(), recipients.end(), index) != recipients.end();
    };
    Job back = job;
    std::erase_if(back.recipients, [&](std::uint32_t index) {
      const auto others = twins.find(index);
      return !is_wanted(index) &&
             (others == twins.end() ||
              std::none_of(others->second.begin(), others->second.end(), is_wanted));
    });
    for (const auto index : back.recipients) {
      std::erase(job.recipients, index);
      std::erase(recipients, index);
      if (const auto others = twins.find(index); others != twins.end())
        for (const auto twin : others->second)
          std::erase(recipients, twin);
    }
    if (!back.recipients.empty())
      taken.push_back(std::move(back));
  }
  std::erase_if(jobs, [](const Job& job) { return job.recipients.empty(); });
  for (const auto& job : taken) {
    put_back(job);
    close_if_done(job.lease);
  }
}

// Memory follows the sites in use, not all that ever were.
void Core::forget_unused() {
  if (destinations_.size() + sites_.size() < std::max(forget_at_, settings_->remembered))
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
                           site.used + kForgetAfter < now &&
                           site.health.blocked_until() == TimePoint{};
    if (is_unused)
      site_of_handle_.erase(site.handle);
    return is_unused;
  });
  forget_at_ = 2 * (destinations_.size() + sites_.size());
}

// The runner ends before we do: it is ours, and what it posts is dropped once it is gone.
void Core::open_local() {
  LocalRunner::Limits limits;
  limits.slots = std::max(1U, settings_->local.deliveries);
  LocalRunner::Host host;
  host.prepare = [this](const Job& job) { return local_delivery(job); };
  host.ended = [this](const Job& job, LocalResult result) { on_local_end(job, std::move(result)); };
  host.to_lmtp = [this](const std::string& server, Job job) {
    hand_to_lmtp(server, std::move(job));
  };
  host.put_back = [this](const Job& job) {
    put_back(job);
    close_if_done(job.lease);
    check_drained();
  };
  local_ = std::make_shared<LocalRunner>(home(), clock_, limits, std::move(host));
}

LocalDelivery Core::local_delivery(const Job& job) const {
  LocalDelivery delivery;
  delivery.message = job.message;
  delivery.recipient = job.recipients.front();
  delivery.mailbox = settings_->local.mailbox;
  delivery.hostname = settings_->own.hostname;
  delivery.directory = &directory_;
  delivery.book = settings_->local.book;
  delivery.users = settings_->local.users;
  delivery.custody = custody_.get();
  delivery.open_body = [custody = custody_.get()](const mail::Message& message) {
    return custody->open_body(message);
  };
  delivery.performer = performer_.get();
  delivery.minimum_uid = settings_->local.minimum_uid;
  delivery.limits = settings_->local.limits;
  delivery.count_forward = settings_->local.count_forward;
  delivery.lifetime = settings_->lifetime;
  delivery.now = clock_.now();
  return delivery;
}

void Core::on_local_end(const Job& job, LocalResult result) {
  const auto index = job.recipients.front();
  const auto found = in_hand_.find(job.lease);
  POSTRIDER_ASSERT(found != in_hand_.end());
  for (const auto& problem : result.problems)
    maillog::address_problem(log_, *job.message, job.message->envelope.recipients[index], problem);
  for (auto& submission : result.onward)
    found->second->record.notices.push_back(std::move(submission));
  JobEnd end;
  end.job.handed_over = job.handed_over;
  log_attempt(*found->second, end, {index, result.outcome});
  settle(job.lease, index, std::move(result.outcome), result.again_within);
  close_if_done(job.lease);
  check_drained();
}

void Core::hand_to_lmtp(const std::string& server, Job job) {
  const auto hop = lmtp_next_hop(server);
  if (!hop) {
    settle_all(job, decide(Verdict::retry, Stage::local, {4, 3, 5}, hop.error().describe()));
    close_if_done(job.lease);
  } else if (is_draining_) {
    put_back(job);
    close_if_done(job.lease);
  } else {
    Route to_server;
    to_server.next_hop = *hop;
    add_job(fixed_site(to_server, mail::TlsWish::unspecified), std::move(job));
  }
}

}  // namespace postrider::delivery
