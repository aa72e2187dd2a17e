#include "bench/simulation/pilot.h"

#include <algorithm>
#include <deque>
#include <map>

namespace postrider::simulation {

namespace {

using scheduler::Seen;
using scheduler::SiteAction;
using scheduler::SiteJob;
using std::chrono::seconds;
using Kind = SiteAction::Kind;

class SchedulerPilot : public Pilot {
 public:
  explicit SchedulerPilot(const Behaviour& behaviour) : behaviour_(behaviour) {
    begin(TimePoint{});
  }

  void on_job(SiteJob job, TimePoint now) override { site_->on_job(std::move(job), now); }
  void on_ready(std::uint64_t id, TimePoint now) override { site_->on_ready(id, now); }
  void on_failed(std::uint64_t id, const Seen& seen, TimePoint now) override {
    site_->on_failed(id, seen, now);
  }
  void on_outcome(std::uint64_t id, const Seen& seen, TimePoint now) override {
    site_->on_outcome(id, seen, now);
  }
  void on_ended(std::uint64_t id, TimePoint now) override { site_->on_ended(id, now); }
  void on_time(TimePoint now) override { site_->on_time(now); }
  std::vector<SiteAction> take_actions() override { return site_->take_actions(); }
  std::size_t waiting() const override { return site_->waiting(); }
  void restart(TimePoint now) override {
    const auto stored = site_->store();
    begin(now);
    site_->restore(stored, seconds(30));
  }
  double limit() const override { return site_->limit(0); }
  double rate() const override { return site_->rate(0); }

 private:
  void begin(TimePoint now) {
    scheduler::SiteRules rules;
    for (unsigned i = 0; i < behaviour_.sources; ++i)
      rules.sources.push_back({"192.0.2." + std::to_string(i + 1), 1});
    site_ = std::make_unique<scheduler::SiteScheduler>(1, std::move(rules), schedule_);
    site_->on_hosts(hosts_of(behaviour_), now);
  }

  const Behaviour& behaviour_;
  scheduler::RetrySchedule schedule_;
  std::unique_ptr<scheduler::SiteScheduler> site_;
};

// So many connections and so many messages a second. It knows which hosts work, and how long
// greylisting lasts: it is hard to be better.
class FixedPilot : public Pilot {
 public:
  FixedPilot(const Behaviour& behaviour, const Fixed& fixed)
      : behaviour_(behaviour), fixed_(fixed), sources_(behaviour.sources) {}

  void on_job(SiteJob job, TimePoint now) override {
    jobs_.push_back(std::move(job));
    schedule(now);
  }
  void on_ready(std::uint64_t id, TimePoint now) override {
    sources_[connections_.at(id).source].idle.push_back(id);
    schedule(now);
  }
  void on_failed(std::uint64_t id, const Seen&, TimePoint now) override {
    Source& source = sources_[connections_.at(id).source];
    --source.open;
    source.retry_at = now + (source.open > 0 ? seconds(1) : seconds(15));
    connections_.erase(id);
    schedule(now);
  }
  void on_outcome(std::uint64_t id, const Seen& seen, TimePoint now) override {
    Connection& connection = connections_.at(id);
    if (!seen.is_taken)
      refuse(connection.job, seen, now);
    connection.has_job = false;
    if (seen.is_taken || (seen.reply.code != 421 && seen.reply.code != 0))
      sources_[connection.source].idle.push_back(id);
    schedule(now);
  }
  void on_ended(std::uint64_t id, TimePoint now) override {
    const auto found = connections_.find(id);
    if (found == connections_.end())
      return;
    Source& source = sources_[found->second.source];
    if (found->second.has_job)
      jobs_.push_front(found->second.job);
    std::erase(source.idle, id);
    --source.open;
    connections_.erase(found);
    schedule(now);
  }
  void on_time(TimePoint now) override {
    wake_ = TimePoint::max();
    schedule(now);
  }
  std::vector<SiteAction> take_actions() override { return std::exchange(actions_, {}); }
  std::size_t waiting() const override { return jobs_.size(); }
  void restart(TimePoint) override {
    connections_.clear();
    jobs_.clear();
    sources_ = std::vector<Source>(behaviour_.sources);
    wake_ = TimePoint::max();
  }
  double limit() const override { return fixed_.connections; }
  double rate() const override { return fixed_.rate; }

 private:
  struct Source {
    unsigned open = 0;
    std::vector<std::uint64_t> idle;
    TimePoint retry_at;
    double next_send = 0;  // ms
  };
  struct Connection {
    unsigned source = 0;
    bool has_job = false;
    SiteJob job;
  };

  void refuse(SiteJob job, const Seen& seen, TimePoint now) {
    if (seen.reply.code != 450) {
      jobs_.push_front(std::move(job));
      return;
    }
    SiteAction action;
    action.kind = Kind::put_back;
    action.job = job.id;
    action.klass = scheduler::ReplyClass::greylisted;
    action.until = now + Duration(static_cast<std::int64_t>(behaviour_.greylisting * 1000) + 1);
    actions_.push_back(action);
  }

  void schedule(TimePoint now) {
    for (unsigned i = 0; i < sources_.size(); ++i) {
      while (give(i, now) || open(i, now)) {
      }
      TimePoint next = TimePoint::max();
      const Source& source = sources_[i];
      if (!jobs_.empty() && source.retry_at > now)
        next = source.retry_at;
      if (!jobs_.empty() && fixed_.rate > 0 && !source.idle.empty())
        next = std::min(next, TimePoint(Duration(static_cast<std::int64_t>(source.next_send) + 1)));
      if (next < wake_ && next > now) {
        wake_ = next;
        SiteAction action;
        action.until = next;
        actions_.push_back(action);
      }
    }
  }

  bool give(unsigned index, TimePoint now) {
    Source& source = sources_[index];
    const auto ms = static_cast<double>(now.time_since_epoch().count());
    if (source.idle.empty() || jobs_.empty() || (fixed_.rate > 0 && ms < source.next_send))
      return false;
    if (fixed_.rate > 0)
      source.next_send = std::max(source.next_send, ms - 1) + 1000 / fixed_.rate;
    SiteAction action;
    action.kind = Kind::give;
    action.connection = source.idle.back();
    action.job = jobs_.front().id;
    source.idle.pop_back();
    Connection& connection = connections_.at(action.connection);
    connection.job = std::move(jobs_.front());
    connection.has_job = true;
    jobs_.pop_front();
    actions_.push_back(action);
    return true;
  }

  bool open(unsigned index, TimePoint now) {
    Source& source = sources_[index];
    if (source.open >= fixed_.connections || now < source.retry_at || jobs_.empty())
      return false;
    ++source.open;
    SiteAction action;
    action.kind = Kind::open;
    action.connection = ++next_;
    action.source = index;
    const std::size_t bad = behaviour_.first_host_is_dead || behaviour_.refuses_ipv6 ? 1 : 0;
    action.host = bad + next_ % (behaviour_.hosts - bad);
    connections_[next_].source = index;
    actions_.push_back(action);
    return true;
  }

  const Behaviour& behaviour_;
  Fixed fixed_;
  std::vector<Source> sources_;
  std::map<std::uint64_t, Connection> connections_;
  std::deque<SiteJob> jobs_;
  std::vector<SiteAction> actions_;
  std::uint64_t next_ = 0;
  TimePoint wake_ = TimePoint::max();
};

}  // namespace

std::vector<scheduler::RemoteHost> hosts_of(const Behaviour& behaviour) {
  std::vector<scheduler::RemoteHost> hosts;
  for (unsigned i = 0; i < behaviour.hosts; ++i) {
    const bool is_ipv6 = behaviour.refuses_ipv6 && i == 0;
    hosts.push_back({"mx" + std::to_string(i) + ".example.net",
                     is_ipv6 ? scheduler::Family::ipv6 : scheduler::Family::ipv4, 10});
  }
  return hosts;
}

std::unique_ptr<Pilot> scheduler_pilot(const Behaviour& behaviour) {
  return std::make_unique<SchedulerPilot>(behaviour);
}

std::unique_ptr<Pilot> fixed_pilot(const Behaviour& behaviour, const Fixed& fixed) {
  return std::make_unique<FixedPilot>(behaviour, fixed);
}

}  // namespace postrider::simulation
