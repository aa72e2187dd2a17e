#include "delivery/other_hosts.h"

#include "base/assert.h"
#include "delivery/job/job_outcome.h"
#include "delivery/refusals.h"

#include <algorithm>

namespace postrider::delivery {

using mail::Outcome;
using mail::Verdict;

namespace {

// Jobs of a site that wait for another host. Beyond them the first refusal stands.
constexpr std::size_t kMostWaiting = 100;
constexpr Duration kLongestWait = std::chrono::seconds(30);  // for a connection
constexpr Duration kLookLate = std::chrono::seconds(1);
constexpr std::uint32_t kMostReturned = 2;          // by connections that ended before they took it
constexpr auto kNoneFor = std::chrono::minutes(1);  // after a connection that could not be made

// Beside those that its pace allows, which are to other hosts.
std::size_t most_for_others(const Site& site) {
  return std::max<std::size_t>(site.pace.bounds().connections / 4, 1);
}

bool is_ipv6(const std::string& address) {
  return address.find(':') != std::string::npos;
}

// What is refused for good, for the address that we come from, is asked again of the other family.
bool is_asked_again(const Outcome& outcome, const std::vector<HostAddress>& others,
                    const std::string& address) {
  if (!may_pass_elsewhere(outcome))
    return false;
  return outcome.reply.is_temporary() ||
         std::any_of(others.begin(), others.end(), [&](const HostAddress& one) {
           return is_ipv6(one.address) != is_ipv6(address);
         });
}

}  // namespace

void OtherHosts::weigh_words(JobEnd& end) {
  if (end.job.refused.empty())
    return;
  for (auto& result : end.results) {
    const auto before =
        std::find_if(end.job.refused.begin(), end.job.refused.end(),
                     [&](const RecipientEnd& one) { return one.index == result.index; });
    if (before != end.job.refused.end())
      result.outcome = Outcome(last_word(before->outcome, result.outcome));
  }
}

// Hosts of another name first: the other addresses of a host have its opinions.
std::vector<HostAddress> OtherHosts::others(const Site& site, const std::string& address) const {
  const auto all = host_.candidates(site);
  const auto now = context_.steady();
  const auto first =
      std::find_if(all.begin(), all.end(), [&](const auto& one) { return one.address == address; });
  const auto host = first == all.end() ? std::string() : first->host;
  std::vector<HostAddress> others;
  for (const bool is_same : {false, true})
    for (const auto& one : all) {
      const auto bad = site.bad.find(one.address);
      const bool is_bad = bad != site.bad.end() && bad->second > now;
      if ((one.host == host) == is_same && one.address != address && !is_bad)
        others.push_back(one);
    }
  return others;
}

void OtherHosts::take(Site& site, const SiteConnection& link, JobEnd& end) {
  const bool may_be_asked = end.job.tries == 0 && site.dialect == Dialect::smtp &&
                            !context_.is_draining && site.refused.size() < kMostWaiting &&
                            site.none_of_others_until <= context_.steady() && !link.address.empty();
  const bool is_refused =
      std::any_of(end.results.begin(), end.results.end(),
                  [](const RecipientEnd& result) { return may_pass_elsewhere(result.outcome); });
  if (!may_be_asked || !is_refused)
    return;
  const auto others = this->others(site, link.address);
  if (others.empty())
    return;
  std::vector<RecipientEnd> refused, rest;
  mail::Reply last;  // a hundred recipients are refused alike as a rule
  bool was_asked_again = false;
  for (auto& result : end.results) {
    if (result.outcome.reply != last || result.outcome.verdict == Verdict::delivered) {
      was_asked_again = is_asked_again(result.outcome, others, link.address);
      last = result.outcome.reply;
    }
    (was_asked_again ? refused : rest).push_back(std::move(result));
  }
  end.results = std::move(rest);
  if (refused.empty())
    return;
  const bool joins = !site.refused.empty() && site.refused.back().lease == end.job.lease &&
                     site.refused.back().refused_by == link.address;
  if (!joins) {
    auto& job = site.refused.emplace_back();
    job.lease = end.job.lease;
    job.message = end.job.message;
    job.tries = 1;
    job.in_doubt = end.job.in_doubt;
    job.refused_by = link.address;
    job.handed_over = context_.steady();
  }
  auto& job = site.refused.back();
  for (auto& one : refused) {
    job.recipients.push_back(one.index);
    job.refused.push_back(std::move(one));
  }
}

// The first refusal stands.
void OtherHosts::give_up(const Site& site, const Job& job) {
  JobEnd end;
  end.job = job;
  end.job.handed_over = context_.steady();
  for (const auto& one : job.refused) {
    leases_.log_attempt(end, one);
    leases_.settle(job.lease, one.index, one.outcome, {}, site.handle);
  }
  leases_.close(job.lease);
}

// One that has nothing to do, of a host that has not refused it.
SiteConnection* OtherHosts::pick(Site& site, const Job& job) const {
  for (const auto& link : site.others)
    if (link->is_idle() && !link->is_closing && link->address != job.refused_by)
      return link.get();
  return nullptr;
}

bool OtherHosts::begin_for(Site& site, const Job& job) {
  auto candidates = others(site, job.refused_by);
  if (candidates.empty() || !line_.may_add(site))
    return false;
  auto link = host_.begin(site, std::move(candidates));
  if (!link)
    return false;
  site.others.push_back(std::move(link));
  return true;
}

void OtherHosts::schedule(Site& site) {
  if (site.refused.empty())
    return;
  if (context_.is_draining || sites_.is_blocked(site)) {
    for (const auto& job : std::exchange(site.refused, {}))
      give_up(site, job);
    return;
  }
  std::deque<Job> waiting;  // for one that is being made, or is busy
  auto being_made = static_cast<std::size_t>(
      std::count_if(site.others.begin(), site.others.end(),
                    [](const auto& link) { return !link->was_ready && !link->is_closing; }));
  for (auto& job : std::exchange(site.refused, {})) {
    const auto now = context_.pace_time();
    if (auto* link = pick(site, job)) {
      if (!site.pace.may_send(0, now)) {
        give_up(site, job);
        continue;
      }
      site.pace.on_sent(now);
      host_.hand_over(*link, std::move(job));
    } else if (being_made > waiting.size()) {
      waiting.push_back(std::move(job));
    } else if (site.others.size() < most_for_others(site) &&
               site.none_of_others_until <= context_.steady() && begin_for(site, job)) {
      ++being_made;
      waiting.push_back(std::move(job));
    } else if (site.others.empty()) {
      give_up(site, job);
    } else {
      waiting.push_back(std::move(job));
    }
  }
  site.refused = std::move(waiting);
  // Those that none of the open ones may carry need the place of one.
  if (!site.refused.empty() && being_made == 0)
    for (const auto& link : site.others)
      if (link->is_idle() && !link->is_closing)
        line_.close(*link);
  look_soon(site);
}

void OtherHosts::look_soon(Site& site) {
  if (site.refused.empty())
    return;
  if (!site.look_at_refused)
    site.look_at_refused = std::make_unique<Deadline>(context_.home.deadlines(),
                                                      [this, &site] { give_up_late(site); });
  if (!site.look_at_refused->is_set())
    site.look_at_refused->set(kLookLate);
}

// Where the other hosts hang, what waits for them is better off with its next attempt.
void OtherHosts::give_up_late(Site& site) {
  while (!site.refused.empty() &&
         context_.steady() - site.refused.front().handed_over >= kLongestWait) {
    const auto job = std::move(site.refused.front());
    site.refused.pop_front();
    give_up(site, job);
  }
  look_soon(site);
}

bool OtherHosts::on_event(Site& site, CourierEvent& event) {
  const auto found = std::find_if(site.others.begin(), site.others.end(),
                                  [&](const auto& link) { return link->courier == event.courier; });
  if (found == site.others.end())
    return false;
  auto& link = **found;
  switch (event.kind) {
    case CourierEvent::Kind::ready:
      on_ready(link, event);
      break;
    case CourierEvent::Kind::ended:
      on_ended(site, link, event);
      break;
    case CourierEvent::Kind::unreachable:
      break;  // noted by the caller
    case CourierEvent::Kind::stays:
      line_.on_stays(link);
      break;
    case CourierEvent::Kind::waits_aside:
      line_.on_waits_aside(link);
      break;
    case CourierEvent::Kind::gone:
      on_gone(site, link, event);
      break;
  }
  schedule(site);
  return true;
}

void OtherHosts::on_ready(SiteConnection& link, const CourierEvent& event) {
  link.was_ready = true;
  link.address = event.address;
  link.room = event.room;
  make_idle(link);
}

void OtherHosts::make_idle(SiteConnection& link) {
  const auto& site = *link.site;
  const auto most_jobs = site.pace.bounds().per_connection;
  const bool is_spent = most_jobs > 0 && link.carried >= most_jobs;
  if (!link.is_idle() || link.is_closing)
    return;
  if (context_.is_draining || is_spent)
    line_.close(link);
  else
    line_.on_idle(link);
}

void OtherHosts::on_ended(Site& site, SiteConnection& link, CourierEvent& event) {
  auto& end = event.end;
  weigh_words(end);
  const bool is_taken = std::any_of(
      end.results.begin(), end.results.end(),
      [](const RecipientEnd& result) { return result.outcome.verdict == Verdict::delivered; });
  if (is_taken) {
    site.health.on_success();
    note_taken(site.refusals, end, context_.steady());
    note_taken(site.breaks, end, context_.steady());
  }
  for (auto& result : end.results) {
    leases_.log_attempt(end, result);
    leases_.settle(end.job.lease, result.index, std::move(result.outcome), {}, site.handle);
  }
  leases_.close(end.job.lease);
  if (event.room == 0)
    link.room = 0;
  if (event.partial)
    return;
  POSTRIDER_ASSERT(link.in_hand > 0);
  --link.in_hand;
  ++link.carried;
  (void)line_.prove(link);
  line_.on_job_ended(link);
  make_idle(link);
}

void OtherHosts::take_back(Site& site, std::vector<Job>& returned) {
  for (auto& job : returned) {
    if (++job.returns < kMostReturned)
      site.refused.push_front(std::move(job));
    else
      give_up(site, job);
  }
  returned.clear();
}

void OtherHosts::on_gone(Site& site, SiteConnection& link, CourierEvent& event) {
  take_back(site, event.returned);
  if (!link.was_ready)
    site.none_of_others_until = context_.steady() + kNoneFor;
  line_.on_gone(link);
  std::erase_if(site.others, [&](const auto& one) { return one.get() == &link; });
}

}  // namespace postrider::delivery
