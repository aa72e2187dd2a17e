#include "delivery/scheduler/site_scheduler.h"

#include "delivery/scheduler/retry_hint.h"

#include <algorithm>

namespace postrider::scheduler {

namespace {

using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;
using Kind = SiteAction::Kind;

constexpr Duration kFirstProbe = seconds(15);
constexpr Duration kCrowdedProbe = seconds(2);  // alone and refused: our closing is seen late
constexpr Duration kLastProbe = minutes(5);
constexpr Duration kLastProbeOfDay = minutes(15);  // behind a day
constexpr unsigned kLeastSpent = 3;
constexpr unsigned kFailedHints = 2;

}  // namespace

SiteScheduler::SiteScheduler(std::uint64_t site, SiteRules rules, const RetrySchedule& schedule)
    : site_(site), rules_(std::move(rules)), schedule_(schedule) {
  if (rules_.sources.empty())
    rules_.sources.push_back({});
  for (const auto& source : rules_.sources) {
    Source entry;
    entry.address = source.address;
    entry.weight = std::max(1U, source.weight);
    entry.limit = LimitFinder(rules_.most_connections);
    entry.rate = RateFinder(rules_.most_rate);
    sources_.push_back(std::move(entry));
  }
}

SiteAction& SiteScheduler::act(Kind kind) {
  actions_.emplace_back();
  actions_.back().kind = kind;
  return actions_.back();
}

std::vector<SiteAction> SiteScheduler::take_actions() {
  return std::exchange(actions_, {});
}

std::size_t SiteScheduler::waiting() const {
  std::size_t count = lanes_.size();
  for (const Source& source : sources_)
    count += source.front.size();
  return count;
}

bool SiteScheduler::is_blocked() const {
  return std::all_of(sources_.begin(), sources_.end(),
                     [](const Source& source) { return source.is_blocked; });
}

// Events

void SiteScheduler::on_hosts(const std::vector<RemoteHost>& hosts, TimePoint now) {
  auto allowed = hosts;
  if (rules_.family)
    std::erase_if(allowed, [&](const RemoteHost& host) { return host.family != *rules_.family; });
  // Connections keep their place in the list: hosts change when none is open, or only at its end.
  for (Source& source : sources_)
    source.hosts.set_hosts(allowed);
  schedule(now);
}

void SiteScheduler::on_job(SiteJob job, TimePoint now) {
  if (job.source && *job.source < sources_.size())
    sources_[*job.source].front.push_back(std::move(job));
  else
    lanes_.add(std::move(job));
  schedule(now);
}

void SiteScheduler::on_ready(std::uint64_t id, TimePoint now) {
  const auto found = connections_.find(id);
  if (found == connections_.end())
    return;
  Connection& connection = found->second;
  Source& source = sources_[connection.source];
  --source.connecting;
  source.hosts.on_worked(connection.host);
  connection.phase = Connection::Phase::idle;
  connection.idle_since = now;
  if (connection.is_spent)
    close_connection(id);
  else
    source.idle.push_back(id);
  schedule(now);
}

void SiteScheduler::on_failed(std::uint64_t id, const Seen& seen, TimePoint now) {
  const auto found = connections_.find(id);
  if (found == connections_.end())
    return;
  const Connection connection = std::move(found->second);
  connections_.erase(found);
  Source& source = sources_[connection.source];
  --source.connecting;
  --source.open;
  source.hosts.on_closed(connection.host);
  const std::string host = source.hosts.host(connection.host).name;
  const auto meaning = seen.reply.code == 0 ? classify_failure(seen.stage)
                                            : classify(seen.stage, seen.reply, host, false);
  if (meaning.limits_rate)
    source.rate.on_refused(find_hint(seen.reply.text), now);
  if (meaning.rate_per_minute > 0)
    source.rate.set_rate(meaning.rate_per_minute / 60, now);
  suspend_if_due(connection.source, meaning, now);
  if (source.is_suspended || meaning.limits_rate) {
    if (source.is_blocked && !source.is_suspended)
      block(connection.source, meaning.klass, kFirstProbe, now);
  } else if (seen.reply.code != 0 && source.open > source.connecting) {
    refused_connection(connection.source, connection.host, now);
  } else if (meaning.klass == ReplyClass::connections) {
    block(connection.source, meaning.klass, kCrowdedProbe, now);
  } else {
    source.hosts.on_failed(connection.host, now);
    if (source.open == source.connecting && !source.hosts.has_healthy(now))
      block(connection.source, meaning.klass, kFirstProbe, now);
  }
  schedule(now);
}

// Others work: it is the host's limit, or the site's.
void SiteScheduler::refused_connection(unsigned index, std::size_t host, TimePoint now) {
  Source& source = sources_[index];
  if (source.hosts.on_refused(host, now))
    source.limit.on_refused(source.open - source.connecting, now);
}

void SiteScheduler::on_ended(std::uint64_t id, TimePoint now) {
  const auto found = connections_.find(id);
  if (found == connections_.end())
    return;
  Connection connection = std::move(found->second);
  connections_.erase(found);
  Source& source = sources_[connection.source];
  if (connection.phase == Connection::Phase::connecting)
    --source.connecting;
  if (connection.phase == Connection::Phase::idle)
    std::erase(source.idle, id);
  --source.open;
  source.hosts.on_closed(connection.host);
  if (connection.job) {
    --source.busy;
    SiteJob job = std::move(*connection.job);
    on_lost(connection, std::move(job), {}, now);
  } else if (connection.phase == Connection::Phase::idle && connection.carried >= kLeastSpent) {
    learn_spent(connection);
  }
  schedule(now);
}

void SiteScheduler::on_time(TimePoint now) {
  wake_ = TimePoint::max();  // even if it comes early
  schedule(now);
}

void SiteScheduler::on_outcome(std::uint64_t id, const Seen& seen, TimePoint now) {
  const auto found = connections_.find(id);
  if (found == connections_.end() || !found->second.job)
    return;
  Connection& connection = found->second;
  Source& source = sources_[connection.source];
  SiteJob job = std::move(*connection.job);
  connection.job.reset();
  ++connection.carried;
  if (seen.is_taken)
    on_taken(connection, job, seen, now);
  else if (seen.reply.code == 0)
    on_lost(connection, std::move(job), seen, now);
  else
    on_refusal(connection, std::move(job), seen, now);
  --source.busy;
  if (seen.reply.code == 421 || (!seen.is_taken && seen.reply.code == 0)) {
    connection.phase = Connection::Phase::leaving;  // the host closes it: on_ended() follows
  } else {
    const unsigned most = rules_.per_connection ? rules_.per_connection : per_connection_;
    connection.phase = Connection::Phase::idle;
    connection.idle_since = now;
    if (connection.is_spent || (most && connection.carried >= most) ||
        source.open > source.limit.limit())
      close_connection(id);
    else
      source.idle.push_back(id);
  }
  schedule(now);
}

// What came of a job

void SiteScheduler::on_taken(Connection& connection, const SiteJob& job, const Seen& seen,
                             TimePoint now) {
  Source& source = sources_[connection.source];
  if (source.is_blocked)
    reopen(connection.source, now);
  const bool is_saturated = has_work(connection.source) && source.rate.rate() == 0;
  source.rate.on_taken(now);
  source.limit.on_answered(seen.latency, source.busy, is_saturated, now);
  source.hosts.on_worked(connection.host);
  if (job.greylisted_for && (grey_delay_ == Duration{0} || *job.greylisted_for < grey_delay_))
    grey_delay_ = std::max<Duration>(*job.greylisted_for, seconds(10));
}

void SiteScheduler::on_lost(Connection& connection, SiteJob job, const Seen& seen, TimePoint now) {
  Source& source = sources_[connection.source];
  source.limit.on_broken(now);
  if (source.is_blocked)
    block(connection.source, ReplyClass::network, kFirstProbe, now);
  if (!job.is_again) {
    job.is_again = true;
    source.front.push_front(std::move(job));
    return;
  }
  const auto meaning = classify_failure(seen.stage);
  defer(job, meaning, seen, now);
}

void SiteScheduler::on_refusal(Connection& connection, SiteJob job, const Seen& seen,
                               TimePoint now) {
  const unsigned index = connection.source;
  Source& source = sources_[index];
  const auto& host = source.hosts.host(connection.host);
  const auto meaning = classify(seen.stage, seen.reply, host.name, job.tries == 0);
  if (apply_to_source(connection, meaning, seen, job, now)) {
    job.is_again = job.is_again || !meaning.limits_rate;
    source.front.push_front(std::move(job));
    return;
  }
  if (source.is_blocked && !is_about_site(meaning.klass))
    reopen(index, now);  // it speaks about messages again
  const bool is_given_up =
      meaning.bounce || (meaning.most_tries && job.tries + 1 >= meaning.most_tries);
  if (is_given_up) {
    auto& action = act(Kind::bounce);
    action.job = job.id;
    action.klass = meaning.klass;
    action.has_alarm = meaning.alarm;
    return;
  }
  if (meaning.klass == ReplyClass::greylisted)
    job.source = index;
  defer(job, meaning, seen, now);
}

// True: the job goes again from here, at once or when the source may send.
bool SiteScheduler::apply_to_source(Connection& connection, const ReplyMeaning& meaning,
                                    const Seen& seen, const SiteJob& job, TimePoint now) {
  Source& source = sources_[connection.source];
  suspend_if_due(connection.source, meaning, now);
  if (meaning.rate_per_minute > 0)
    source.rate.set_rate(meaning.rate_per_minute / 60, now);
  if (meaning.limits_rate) {
    const bool is_heard = hints_failed_ < kFailedHints;
    source.rate.on_refused(is_heard ? find_hint(seen.reply.text) : std::nullopt, now);
    return !source.is_suspended;
  }
  if (meaning.new_connection) {
    if (meaning.klass == ReplyClass::session_spent)
      learn_spent(connection);
    return !job.is_again;
  }
  const bool is_ipv6 = source.hosts.host(connection.host).family == Family::ipv6;
  if ((meaning.try_other_family || (meaning.try_other_host && meaning.klass == ReplyClass::dns)) &&
      is_ipv6 && source.hosts.has_ipv4()) {
    leave_ipv6(connection.source, now);
    return true;
  }
  if (meaning.klass == ReplyClass::connections && source.busy > 1)
    source.limit.on_refused(source.busy - 1, now);
  else if (meaning.limits_connections)
    source.limit.on_broken(now);
  else
    return false;
  return !job.is_again;
}

// No more messages over the family that is refused, on none of its connections.
void SiteScheduler::leave_ipv6(unsigned index, TimePoint now) {
  Source& source = sources_[index];
  source.hosts.on_ipv6_refused(now);
  for (auto& [id, connection] : connections_) {
    if (connection.source != index || source.hosts.host(connection.host).family != Family::ipv6)
      continue;
    connection.is_spent = true;
    if (connection.phase == Connection::Phase::idle) {
      std::erase(source.idle, id);
      close_connection(id);
    }
  }
}

void SiteScheduler::learn_spent(const Connection& connection) {
  // The refused message was not carried.
  const unsigned carried =
      connection.phase == Connection::Phase::busy ? connection.carried - 1 : connection.carried;
  if (carried < kLeastSpent)
    return;
  spent_seen_ = carried == spent_at_ ? spent_seen_ + 1 : 1;
  spent_at_ = carried;
  if (spent_seen_ >= 2)
    per_connection_ = carried;
}

// Between what was too early and what passed, until they are near.
Duration SiteScheduler::next_grey_delay() const {
  const bool is_near = grey_early_ + grey_early_ / 4 >= grey_delay_;
  return (is_near || grey_early_ == Duration{0} ? grey_delay_ : (grey_early_ + grey_delay_) / 2) +
         seconds(2);
}

void SiteScheduler::defer(const SiteJob& job, const ReplyMeaning& meaning, const Seen& seen,
                          TimePoint now) {
  RetrySchedule::Reason reason;
  reason.klass = meaning.klass;
  reason.tries = job.tries + 1;
  reason.row_wait = meaning.wait;
  reason.hints_obeyed = job.hints_obeyed;
  if (hints_failed_ < kFailedHints)
    reason.hint = find_hint(seen.reply.text);
  if (reason.hint && job.hints_obeyed > 0)
    ++hints_failed_;  // it came when it was asked to, and is refused
  if (meaning.klass == ReplyClass::greylisted && job.greylisted_for)
    grey_early_ = std::max(grey_early_, *job.greylisted_for);
  if (grey_delay_ > Duration{0})
    reason.learned = next_grey_delay();
  auto& action = act(Kind::put_back);
  action.job = job.id;
  action.until = now + schedule_.wait(reason, job.message, site_);
  action.klass = meaning.klass;
  action.has_alarm = meaning.alarm;
  if (job.source)
    action.source = *job.source;
}

// The site

void SiteScheduler::suspend_if_due(unsigned index, const ReplyMeaning& meaning, TimePoint now) {
  if (meaning.suspend == Duration{0})
    return;
  Source& source = sources_[index];
  source.complaints.push_back(now);
  while (now - source.complaints.front() > hours(1))
    source.complaints.pop_front();
  if (source.complaints.size() < std::max(1U, meaning.suspend_after))
    return;
  source.complaints.clear();
  source.is_blocked = source.is_suspended = true;
  source.blocked_since = now;
  source.blocked_until = now + meaning.suspend;
  source.blocked_for = meaning.klass;
  release_jobs(index);
}

void SiteScheduler::block(unsigned index, ReplyClass why, Duration first, TimePoint now) {
  Source& source = sources_[index];
  if (!source.is_blocked)
    source.blocked_since = now;
  const Duration outage = now - source.blocked_since;
  const Duration last = outage > hours(24) ? kLastProbeOfDay : kLastProbe;
  source.is_suspended = false;
  source.blocked_until = now + std::clamp<Duration>(outage / 20, first, last);
  source.blocked_for = why;
  if (source.is_blocked)
    return;  // known: no row moves for a probe
  source.is_blocked = true;
  release_jobs(index);
}

// What waits goes back, but for one to probe with.
void SiteScheduler::release_jobs(unsigned index) {
  Source& source = sources_[index];
  if (sources_.size() > 1 && !is_blocked()) {
    for (SiteJob& job : source.front)
      if (!job.source)
        lanes_.add(std::move(job));
    std::erase_if(source.front, [](const SiteJob& job) { return !job.source; });
    return;
  }
  std::vector<SiteJob> all(source.front.begin(), source.front.end());
  source.front.clear();
  for (SiteJob& job : lanes_.take_all())
    all.push_back(std::move(job));
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (i == 0)
      source.front.push_back(std::move(all[i]));
    else
      act(Kind::hold).job = all[i].id;
  }
  auto& action = act(Kind::block);
  action.until = source.blocked_until;
  action.klass = source.blocked_for;
}

void SiteScheduler::reopen(unsigned index, TimePoint now) {
  Source& source = sources_[index];
  const bool was_blocked = is_blocked();
  source.is_blocked = source.is_suspended = false;
  source.limit.restart();
  if (was_blocked) {
    auto& action = act(Kind::opened);
    action.source = index;
    action.until = now;
  }
}

// Connections

bool SiteScheduler::has_work(unsigned index) const {
  return !sources_[index].front.empty() || lanes_.size() > 0;
}

std::optional<SiteJob> SiteScheduler::next_job(unsigned index) {
  Source& source = sources_[index];
  // In turns: mail that comes back does not shut out what is new.
  if (source.front.empty() || (source.was_front && lanes_.size() > 0)) {
    source.was_front = false;
    return lanes_.next();
  }
  source.was_front = true;
  SiteJob job = std::move(source.front.front());
  source.front.pop_front();
  return job;
}

void SiteScheduler::give(std::uint64_t id, SiteJob job, TimePoint now) {
  Connection& connection = connections_.at(id);
  Source& source = sources_[connection.source];
  ++source.busy;
  source.rate.on_sent(now);
  auto& action = act(Kind::give);
  action.connection = id;
  action.job = job.id;
  action.source = connection.source;
  connection.phase = Connection::Phase::busy;
  connection.job = std::move(job);
}

bool SiteScheduler::give_one(unsigned index, TimePoint now) {
  Source& source = sources_[index];
  if (source.idle.empty() || !has_work(index) || !source.rate.may_send(source.busy, now))
    return false;
  if (source.is_blocked && (source.busy > 0 || now < source.blocked_until))
    return false;
  const auto id = source.idle.back();
  source.idle.pop_back();
  give(id, *next_job(index), now);
  return true;
}

bool SiteScheduler::may_open(unsigned index, TimePoint now) const {
  const Source& source = sources_[index];
  if (!source.idle.empty() || !has_work(index))
    return false;
  if (source.is_blocked)
    return source.open == 0 && now >= source.blocked_until && source.rate.may_send(0, now);
  const std::size_t work = source.front.size() + lanes_.size();
  if (work <= source.connecting || !source.limit.may_open(source.open, source.connecting, now))
    return false;
  if (source.rate.rate() > 0 || source.rate.is_searching() || source.rate.is_limiting(now))
    return source.connecting == 0 && source.rate.may_send(source.busy, now);
  return true;
}

bool SiteScheduler::open_one(unsigned index, TimePoint now) {
  if (!may_open(index, now))
    return false;
  Source& source = sources_[index];
  const auto host = source.hosts.choose(now, source.is_blocked);
  if (!host)
    return false;
  const auto id = ++next_connection_;
  Connection connection;
  connection.source = index;
  connection.host = *host;
  connections_.emplace(id, std::move(connection));
  ++source.open;
  ++source.connecting;
  source.hosts.on_opening(*host);
  auto& action = act(Kind::open);
  action.connection = id;
  action.source = index;
  action.host = *host;
  return true;
}

void SiteScheduler::schedule(TimePoint now) {
  // The source that does least for its weight is next.
  for (;;) {
    bool has_acted = false;
    std::optional<unsigned> best;
    for (unsigned i = 0; i < sources_.size(); ++i) {
      const Source& source = sources_[i];
      if ((!best || source.busy * sources_[*best].weight < sources_[*best].busy * source.weight) &&
          !source.idle.empty() && has_work(i) && source.rate.may_send(source.busy, now))
        best = i;
    }
    if (best)
      has_acted = give_one(*best, now);
    if (!has_acted)
      for (unsigned i = 0; i < sources_.size() && !has_acted; ++i)
        has_acted = give_one(i, now) || open_one(i, now);
    if (!has_acted)
      break;
  }
  close_idle(now);
  set_wake(now);
}

void SiteScheduler::close_connection(std::uint64_t id) {
  connections_.at(id).phase = Connection::Phase::leaving;
  act(Kind::close).connection = id;
}

void SiteScheduler::close_idle(TimePoint now) {
  for (Source& source : sources_)
    while (!source.idle.empty()) {
      const auto id = source.idle.front();
      const bool is_too_many = source.open > source.limit.limit();
      if (!is_too_many && now - connections_.at(id).idle_since < rules_.idle)
        break;
      source.idle.erase(source.idle.begin());
      close_connection(id);
    }
}

TimePoint SiteScheduler::next_event(unsigned index, TimePoint now) const {
  const Source& source = sources_[index];
  TimePoint next = TimePoint::max();
  if (!source.idle.empty())
    next = connections_.at(source.idle.front()).idle_since + rules_.idle;
  if (!has_work(index))
    return next;
  if (source.is_blocked)
    return std::min(
        next, source.open == 0 ? std::max(source.blocked_until, source.rate.next_send(now)) : next);
  const auto send = source.rate.next_send(now);
  if (send > now)
    next = std::min(next, send);
  if (source.limit.paused_until() > now)
    next = std::min(next, source.limit.paused_until());
  if (const auto test = source.hosts.next_test(); test > now)
    next = std::min(next, test);
  return next;
}

void SiteScheduler::set_wake(TimePoint now) {
  TimePoint next = TimePoint::max();
  for (unsigned i = 0; i < sources_.size(); ++i)
    next = std::min(next, next_event(i, now));
  if (next >= wake_)
    return;
  wake_ = std::max(next, now + Duration(1));
  act(Kind::wake).until = wake_;
}

}  // namespace postrider::scheduler
