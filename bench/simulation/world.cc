#include "bench/simulation/world.h"

#include "bench/simulation/pilot.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <queue>
#include <random>
#include <unordered_map>

namespace postrider::simulation {

namespace {

using scheduler::Seen;
using scheduler::SiteAction;
using scheduler::SiteJob;
using Kind = SiteAction::Kind;

constexpr std::size_t kSupply = 200;  // jobs that wait in a saturated site
constexpr unsigned kSmallSenders = 5;
constexpr double kSampleTime = 10;

TimePoint at(double seconds) {
  return TimePoint(Duration(static_cast<std::int64_t>(std::ceil(seconds * 1000 - 1e-6))));
}

double in_seconds(TimePoint time) {
  return static_cast<double>(time.time_since_epoch().count()) / 1000;
}

// What the site counts of the messages of one source.
class RateMeter {
 public:
  explicit RateMeter(const Behaviour& site)
      : site_(site), tokens_(site.rate_count), window_begun_(0) {}

  bool take(double now) {
    switch (site_.rate_kind) {
      case RateKind::none:
        return true;
      case RateKind::sliding:
        return take_sliding(now);
      case RateKind::fixed:
        return take_fixed(now);
      case RateKind::bucket:
        return take_token(now);
    }
    return true;
  }
  double free_in(double now) const {
    return times_.empty() ? 1 : std::max(1.0, times_.front() + site_.rate_window - now);
  }

 private:
  bool take_sliding(double now) {
    while (!times_.empty() && times_.front() <= now - site_.rate_window)
      times_.pop_front();
    const bool is_room = times_.size() < site_.rate_count;
    if (is_room || (site_.refusals_count && times_.size() < 2UL * site_.rate_count))
      times_.push_back(now);
    return is_room;
  }
  bool take_fixed(double now) {
    if (now - window_begun_ >= site_.rate_window) {
      window_begun_ = std::floor(now / site_.rate_window) * site_.rate_window;
      used_ = 0;
    }
    return used_ < site_.rate_count && ++used_;
  }
  bool take_token(double now) {
    tokens_ = std::min<double>(site_.rate_count,
                               tokens_ + (now - last_) * site_.rate_count / site_.rate_window);
    last_ = now;
    if (tokens_ < 1)
      return false;
    tokens_ -= 1;
    return true;
  }

  const Behaviour& site_;
  std::deque<double> times_;
  double tokens_, window_begun_, last_ = 0;
  unsigned used_ = 0;
};

class World {
 public:
  World(const Behaviour& site, std::unique_ptr<Pilot> pilot, const Plan& plan)
      : site_(site), pilot_(std::move(pilot)), plan_(plan), random_(site.seed) {
    for (unsigned i = 0; i < site.sources; ++i) {
      meters_.emplace_back(site);
      seen_open_.emplace_back(site.hosts, 0U);
    }
    ln_sigma_ = std::sqrt(std::log(1 + site.cv * site.cv));
  }

  Result run() {
    for (const double restart : site_.restarts)
      push(restart, Event::Type::restart);
    push(kSampleTime, Event::Type::sample);
    pilot_->on_time(at(0));
    supply();
    perform();
    while (!events_.empty() && events_.top().time <= plan_.horizon) {
      const Event event = events_.top();
      events_.pop();
      now_ = event.time;
      handle(event);
      perform();
      supply();
      perform();
    }
    finish();
    return std::move(result_);
  }

 private:
  struct Event {
    enum class Type : std::uint8_t { connected, reply, closed, gone, job, wake, restart, sample };
    double time = 0;
    std::uint64_t order = 0;
    Type type = Type::wake;
    std::uint64_t id = 0;
    unsigned source = 0;
    std::size_t host = 0;
    double latency = 0;
    unsigned life = 0;  // of the pilot
    bool operator<(const Event& other) const {
      return time != other.time ? time > other.time : order > other.order;
    }
  };
  struct Open {
    unsigned source = 0;
    std::size_t host = 0;
    std::uint64_t job = 0;
    unsigned carried = 0;
    bool is_up = false;
  };
  struct Known {  // a job outside
    SiteJob job;
    double arrived = 0;
    double first_refused = -1;
    std::uint64_t taken_before = 0;
    bool was_tried = false;
  };

  Event& push(double time, Event::Type type) {
    Event event;
    event.time = time;
    event.order = ++order_;
    event.type = type;
    event.life = life_;
    scratch_ = event;
    events_.push(event);
    return scratch_;
  }
  void push_event(Event event) {
    event.order = ++order_;
    event.life = life_;
    events_.push(event);
  }

  double uniform() { return static_cast<double>(random_() >> 11) / 9007199254740992.0; }
  double log_normal() {
    const double u = std::max(uniform(), 1e-12), v = uniform();
    const double normal = std::sqrt(-2 * std::log(u)) * std::cos(2 * 3.14159265358979 * v);
    return std::exp(normal * ln_sigma_);
  }

  bool is_down() const { return now_ >= site_.down_from && now_ < site_.down_to; }
  unsigned limit_now() const {
    const bool is_later = now_ >= plan_.horizon / 3 && now_ < plan_.horizon * 2 / 3;
    return site_.later_limit && is_later ? site_.later_limit : site_.limit;
  }

  // Mail without end from one sender, a little from some others.
  void supply() {
    if (is_blocked_)
      return;
    while (pilot_->waiting() < kSupply) {
      const auto id = ++next_job_;
      SiteJob job;
      job.id = job.message = id;
      const bool is_small = id % 50 == 0;
      job.sender = is_small ? 1 + (id / 50) % kSmallSenders : 0;
      job.size = static_cast<std::uint32_t>(random_() % 100'000);
      add(std::move(job));
    }
  }
  void add(SiteJob job) {
    Known known;
    known.job = job;
    known.arrived = now_;
    known.taken_before = result_.taken;
    jobs_[job.id] = known;
    pilot_->on_job(std::move(job), at(now_));
  }
  void add_again(std::uint64_t id) {
    const auto found = jobs_.find(id);
    if (found == jobs_.end())
      return;
    found->second.taken_before = result_.taken;
    pilot_->on_job(found->second.job, at(now_));
  }

  void handle(const Event& event) {
    const bool is_stale = event.life != life_ && event.type != Event::Type::gone &&
                          event.type != Event::Type::sample && event.type != Event::Type::restart &&
                          event.type != Event::Type::job;
    if (is_stale)
      return;
    switch (event.type) {
      case Event::Type::connected:
        return connected(event);
      case Event::Type::reply:
        return reply(event);
      case Event::Type::closed:
        return closed(event.id);
      case Event::Type::gone:
        --seen_open_[event.source][event.host];
        return;
      case Event::Type::job:
        return add_again(event.id);
      case Event::Type::wake:
        return pilot_->on_time(at(now_));
      case Event::Type::restart:
        return restart();
      case Event::Type::sample:
        return sample();
    }
  }

  void perform() {
    for (auto actions = pilot_->take_actions(); !actions.empty(); actions = pilot_->take_actions())
      for (const SiteAction& action : actions)
        perform(action);
  }
  void perform(const SiteAction& action) {
    Event event;
    switch (action.kind) {
      case Kind::open:
        event.type = Event::Type::connected;
        event.time = now_ + connect_time(action.host);
        event.id = action.connection;
        open_[action.connection] = {action.source, action.host, 0, 0, false};
        return push_event(event);
      case Kind::close:
        event.type = Event::Type::closed;
        event.time = now_ + 0.02;
        event.id = action.connection;
        return push_event(event);
      case Kind::give:
        return begin(action);
      case Kind::put_back:
        return put_back(action);
      case Kind::bounce:
        jobs_.erase(action.job);
        return;
      case Kind::hold:
        held_.push_back(action.job);
        return;
      case Kind::block:
        is_blocked_ = true;
        return;
      case Kind::opened:
        return release();
      case Kind::wake:
        event.type = Event::Type::wake;
        event.time = std::max(in_seconds(action.until), now_ + 0.001);
        return push_event(event);
    }
  }

  double connect_time(std::size_t host) const { return is_dead(host) || is_down() ? 10 : 0.1; }
  bool is_dead(std::size_t host) const { return site_.first_host_is_dead && host == 0; }

  void begin(const SiteAction& action) {
    Open& open = open_.at(action.connection);
    open.job = action.job;
    ++busy_;
    Known& known = jobs_.at(action.job);
    if (!known.was_tried && known.job.sender != 0 && now_ > plan_.settle)
      result_.worst_turn =
          std::max(result_.worst_turn, static_cast<double>(result_.taken - known.taken_before));
    known.was_tried = true;
    Event event;
    event.type = Event::Type::reply;
    event.id = action.connection;
    const double load = site_.knee > 0 ? std::max(1.0, std::pow(busy_ / site_.knee, 1.3)) : 1;
    event.latency = site_.latency * log_normal() * load;
    event.time = now_ + event.latency;
    push_event(event);
  }

  void put_back(const SiteAction& action) {
    const auto found = jobs_.find(action.job);
    if (found == jobs_.end())
      return;
    SiteJob& job = found->second.job;
    ++job.tries;
    if (action.klass == scheduler::ReplyClass::greylisted) {
      job.source = action.source;
      job.greylisted_for = action.until - at(found->second.first_refused);
    }
    Event event;
    event.type = Event::Type::job;
    event.id = action.job;
    event.time = in_seconds(action.until);
    push_event(event);
  }

  void release() {
    is_blocked_ = false;
    for (const auto id : std::exchange(held_, {}))
      add_again(id);
  }

  void connected(const Event& event) {
    const auto found = open_.find(event.id);
    if (found == open_.end())
      return;
    Open& open = found->second;
    Seen seen;
    if (is_down() || is_dead(open.host)) {
      seen.stage = mail::Stage::connect;
      open_.erase(found);
      return pilot_->on_failed(event.id, seen, at(now_));
    }
    auto& counts = seen_open_[open.source];
    unsigned count = counts[open.host];
    if (!site_.per_host) {
      count = 0;
      for (const unsigned each : counts)
        count += each;
    }
    if (limit_now() > 0 && count >= limit_now()) {
      note_try(true, false);
      seen.stage = mail::Stage::greeting;
      seen.reply = mail::Reply(421, {4, 7, 0}, "Error: too many connections from 192.0.2.1");
      open_.erase(found);
      return pilot_->on_failed(event.id, seen, at(now_));
    }
    ++counts[open.host];
    open.is_up = true;
    pilot_->on_ready(event.id, at(now_));
  }

  void reply(const Event& event) {
    const auto found = open_.find(event.id);
    if (found == open_.end())
      return;
    Open& open = found->second;
    const auto id = std::exchange(open.job, 0);
    --busy_;
    ++open.carried;
    Seen seen;
    seen.stage = mail::Stage::body_end;
    seen.latency = Duration(static_cast<std::int64_t>(event.latency * 1000));
    judge(open, jobs_.at(id), seen);
    const bool is_end = !seen.is_taken && (seen.reply.code == 0 || seen.reply.code == 421);
    note_try(!seen.is_taken && is_limit_, !seen.is_taken && is_rate_);
    if (seen.is_taken) {
      jobs_.erase(id);
      ++result_.taken;
      ++taken_since_sample_;
      if (now_ >= plan_.settle)
        ++result_.taken_late;
    }
    pilot_->on_outcome(event.id, seen, at(now_));
    if (is_end)
      closed(event.id);
  }

  void judge(Open& open, Known& known, Seen& seen) {
    is_limit_ = is_rate_ = false;
    if (is_down() || uniform() < site_.breaks)
      return;
    if (site_.per_connection && open.carried > site_.per_connection) {
      seen.reply = mail::Reply(421, {4, 7, 0}, "Too many messages in this connection");
      return;
    }
    if (site_.refuses_ipv6 && open.host == 0) {
      seen.reply = mail::Reply(550, {5, 7, 1}, "does not meet IPv6 sending guidelines");
      return;
    }
    if (known.first_refused < 0)
      known.first_refused = now_;
    if (site_.greylisting > 0 && now_ - known.first_refused < site_.greylisting) {
      seen.stage = mail::Stage::rcpt;
      seen.reply = mail::Reply(450, {4, 2, 0}, "Recipient address rejected: Greylisted");
      return;
    }
    if (!meters_[open.source].take(now_)) {
      is_limit_ = is_rate_ = true;
      seen.reply = mail::Reply(451, {4, 7, 28}, rate_text(open.source));
      return;
    }
    seen.is_taken = true;
  }

  std::string rate_text(unsigned source) const {
    if (site_.hint == HintKind::none)
      return "rate limit reached, try again later";
    const double wait = site_.hint == HintKind::wrong ? 3600 : meters_[source].free_in(now_);
    return "rate limit reached, try again in " + std::to_string(static_cast<int>(wait) + 1) +
           " seconds";
  }

  void closed(std::uint64_t id) {
    const auto found = open_.find(id);
    if (found == open_.end())
      return;
    if (found->second.is_up) {
      Event event;
      event.type = Event::Type::gone;
      event.source = found->second.source;
      event.host = found->second.host;
      event.time = now_ + site_.close_lag;
      push_event(event);
    }
    open_.erase(found);
    pilot_->on_ended(id, at(now_));
  }

  // Its connections end, its mail comes to it again.
  void restart() {
    ++life_;
    for (const auto& [id, open] : open_) {
      if (open.job)
        --busy_;
      if (open.is_up)
        --seen_open_[open.source][open.host];
    }
    open_.clear();
    held_.clear();
    is_blocked_ = false;
    jobs_.clear();
    pilot_->restart(at(now_));
  }

  void note_try(bool is_refused, bool is_rate) {
    if (now_ < std::max(plan_.settle, 3600.0))
      return;
    ++result_.tries_late;
    result_.refused_late += is_refused ? 1 : 0;
    result_.rate_refused_late += is_rate ? 1 : 0;
  }

  void sample() {
    push(now_ + kSampleTime, Event::Type::sample);
    result_.samples.push_back({now_, pilot_->limit(), pilot_->rate(),
                               static_cast<double>(taken_since_sample_) / kSampleTime});
    taken_since_sample_ = 0;
  }

  void finish() {
    // A factor from what it mostly is, up or down, in the second half.
    std::vector<double> values;
    for (const Sample& sample : result_.samples)
      if (sample.time > plan_.horizon / 2)
        values.push_back(site_.is_rate_limited() ? sample.rate : sample.limit);
    if (!values.empty()) {
      std::sort(values.begin(), values.end());
      const double middle = values[values.size() / 2];
      if (values.front() > 0)
        result_.oscillation = std::max(values.back() / middle, middle / values.front());
    }
    if (!plan_.has_samples)
      result_.samples.clear();
  }

  const Behaviour& site_;
  std::unique_ptr<Pilot> pilot_;
  Plan plan_;
  std::mt19937_64 random_;
  double ln_sigma_ = 0;
  double now_ = 0;
  std::priority_queue<Event> events_;
  Event scratch_;
  std::uint64_t order_ = 0, next_job_ = 0;
  unsigned life_ = 0;
  std::map<std::uint64_t, Open> open_;
  std::unordered_map<std::uint64_t, Known> jobs_;
  std::vector<std::uint64_t> held_;
  bool is_blocked_ = false;
  std::vector<RateMeter> meters_;
  std::vector<std::vector<unsigned>> seen_open_;
  int busy_ = 0;
  bool is_limit_ = false, is_rate_ = false;
  std::uint64_t taken_since_sample_ = 0;
  Result result_;
};

constexpr unsigned kCounts[] = {1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 16, 20, 24, 32, 40, 50};

}  // namespace

Result run_scheduler(const Behaviour& behaviour, const Plan& plan) {
  return World(behaviour, scheduler_pilot(behaviour), plan).run();
}

Result run_fixed(const Behaviour& behaviour, const Fixed& fixed, const Plan& plan) {
  return World(behaviour, fixed_pilot(behaviour, fixed), plan).run();
}

std::pair<Fixed, Result> best_fixed(const Behaviour& behaviour, const Plan& plan) {
  std::pair<Fixed, Result> best;
  std::vector<double> rates = {0};
  if (behaviour.is_rate_limited())
    for (const double part : {0.8, 0.9, 0.95, 0.98, 1.0})
      rates.push_back(part * behaviour.most_rate());
  for (const double rate : rates) {
    unsigned worse = 0;
    for (const unsigned count : kCounts) {
      if (rate > 0 && count != 6 && count != 12 && count != 4 && count != 20)
        continue;
      const Fixed fixed{count, rate};
      auto result = run_fixed(behaviour, fixed, plan);
      const auto tries = std::max<std::uint64_t>(1, result.tries_late);
      const bool is_good = result.refused_late * 50 < tries;
      if (is_good && result.taken_late > best.second.taken_late) {
        best = {fixed, std::move(result)};
        worse = 0;
      } else if (++worse == 3 || !is_good) {
        break;  // more connections do not help
      }
    }
  }
  return best;
}

}  // namespace postrider::simulation
