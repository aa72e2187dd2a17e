#include "delivery/scheduler/limit_finder.h"

#include <algorithm>
#include <cmath>

namespace postrider::scheduler {

namespace {

using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;

constexpr Duration kFirstBackoff = seconds(30);
constexpr Duration kLastBackoff = minutes(10);
constexpr unsigned kCredit = 100;    // messages between two refused probes: below 1 %
constexpr unsigned kSoftCredit = 8;  // a probe that is only not faster costs nothing
constexpr unsigned kUntested = 4;    // so far it doubles without a test
constexpr Duration kPrompt = std::chrono::milliseconds(100);  // says more of us than of the site
constexpr double kGain = 0.4;    // of the connections added must be seen in replies
constexpr double kSlower = 1.4;  // than when the hold began
constexpr double kSick = 0.15;
constexpr unsigned kMostStrikes = 4;

}  // namespace

bool LimitFinder::may_open(unsigned open, unsigned being_made, TimePoint now) const {
  if (open >= limit() || now < pause_until_)
    return false;
  return strikes_ == 0 || being_made == 0;
}

void LimitFinder::note(Cause cause, TimePoint now) {
  cause_ = cause;
  cause_time_ = now;
}

void LimitFinder::begin_epoch(TimePoint now) {
  epoch_ = {};
  epoch_.skip = current_ + 1;
  epoch_.begun = now;
}

void LimitFinder::set(unsigned limit, Phase phase, TimePoint now) {
  current_ = std::clamp(limit, 1U, most_);
  phase_ = phase;
  begin_epoch(now);
}

double LimitFinder::epoch_variance() const {
  const double mean = epoch_.sum / epoch_.count;
  return std::max(0.0, epoch_.squares / epoch_.count - mean * mean);
}

bool LimitFinder::is_epoch_complete(TimePoint now) const {
  if (epoch_.count < 8)
    return false;
  const bool is_growing = phase_ == Phase::growing && high_ == 0;
  const unsigned base = is_growing ? std::max(8U, 2 * current_) : std::max(128U, 8 * current_);
  if (epoch_.count >= base * std::clamp(epoch_variance() / 0.25, 1.0, 12.0))
    return true;
  return epoch_.count >= 32 && now - epoch_.begun >= minutes(5);
}

bool LimitFinder::is_growing_freely() const {
  return phase_ == Phase::growing && high_ == 0 && current_ < most_;
}

void LimitFinder::count_to_double(TimePoint now) {
  if (++doubled_after_ < current_)
    return;
  doubled_after_ = 0;
  set(current_ * 2, Phase::growing, now);
  if (current_ >= most_)
    note(Cause::most, now);
}

void LimitFinder::on_greeted(unsigned working, TimePoint now) {
  if (is_growing_freely() && current_ < kUntested)
    count_to_double(now);
  const bool is_named = phase_ == Phase::holding && cause_ == Cause::refusal;
  if (!is_named || working <= low_ || working > most_)
    return;
  low_ = working;
  high_ = low_ + 1;
  low_latency_ = held_latency_ = 0;
  set(low_, Phase::holding, now);
}

void LimitFinder::on_answered(Duration latency, unsigned busy, bool is_saturated, TimePoint now) {
  ++credit_;
  sick_ -= sick_ / 32;
  if (strikes_ && ++since_strike_ > 2 * current_ + 8 && busy >= current_)
    strikes_ = 0;
  if (!is_saturated)
    return;
  if (busy + std::max(1U, current_ / 8) < current_)
    return;
  if (is_growing_freely() && (current_ < kUntested || latency < kPrompt)) {
    count_to_double(now);
    return;
  }
  if (epoch_.skip > 0) {
    --epoch_.skip;
    return;
  }
  const double ln = std::log(std::max<double>(1.0, static_cast<double>(latency.count())));
  ++epoch_.count;
  epoch_.sum += ln;
  epoch_.squares += ln * ln;
  if (is_epoch_complete(now))
    finish_epoch(now);
  if (phase_ == Phase::holding)
    probe_if_due(now);
}

void LimitFinder::finish_epoch(TimePoint now) {
  const double latency = std::exp(epoch_.sum / epoch_.count);
  switch (phase_) {
    case Phase::holding:
      low_latency_ = low_latency_ == 0 ? latency : low_latency_ + 0.3 * (latency - low_latency_);
      if (held_latency_ == 0)
        held_latency_ = latency;
      begin_epoch(now);
      return;
    case Phase::lowering:
      finish_lowering(latency, now);
      return;
    case Phase::growing:
    case Phase::probing:
      finish_step(latency, now);
      return;
  }
}

// By Little's law the replies a second are connections by latency.
void LimitFinder::finish_step(double latency, TimePoint now) {
  if (low_ == 0 || low_latency_ == 0 || current_ <= low_) {
    on_gain(latency, now);
    return;
  }
  const double more = static_cast<double>(current_) / low_;
  // Behind a refusal it is enough that one more is taken now and harms nobody.
  const bool is_tried_again = phase_ == Phase::probing && !is_soft_;
  if (more * low_latency_ / latency >= 1 + (is_tried_again ? 0 : kGain) * (more - 1))
    on_gain(latency, now);
  else
    on_no_gain(now);
}

void LimitFinder::on_gain(double latency, TimePoint now) {
  const bool was_probe = phase_ == Phase::probing;
  low_ = current_;
  low_latency_ = held_latency_ = latency;
  if (was_probe) {
    high_ = 0;
    step_ = std::min(step_ * 2, std::max(1U, low_ / 2));
    backoff_ = kFirstBackoff;
  }
  if (low_ >= most_) {
    note(Cause::most, now);
    hold(now, false);
    return;
  }
  if (high_ == 0) {
    set(was_probe ? low_ + step_ : 2 * low_, was_probe ? Phase::probing : Phase::growing, now);
    return;
  }
  if (high_ - low_ <= std::max(1U, high_ / 8))
    hold(now, false);
  else
    set((low_ + high_) / 2, Phase::growing, now);
}

void LimitFinder::on_no_gain(TimePoint now) {
  const bool was_probe = phase_ == Phase::probing;
  high_ = current_;
  is_soft_ = true;
  note(Cause::latency, now);
  if (was_probe || high_ - low_ <= std::max(1U, high_ / 8))
    hold(now, was_probe);
  else
    set((low_ + high_) / 2, Phase::growing, now);
}

void LimitFinder::hold(TimePoint now, bool was_probe) {
  if (was_probe) {
    step_ = 1;
    backoff_ = std::min(2 * backoff_, kLastBackoff);
  }
  set(std::max(1U, low_), Phase::holding, now);
  probe_at_ = now + backoff_;
}

void LimitFinder::probe_if_due(TimePoint now) {
  if (now < probe_at_ || credit_ < (is_soft_ ? kSoftCredit : kCredit))
    return;
  const bool is_slower = held_latency_ > 0 && low_latency_ > kSlower * held_latency_;
  const bool is_first = is_soft_ && !has_lowered_;
  if ((is_slower || is_first) && low_ > 2 && low_latency_ > 0) {
    has_lowered_ = true;
    set(low_ - std::max(1U, low_ / 4), Phase::lowering, now);
    return;
  }
  if (low_ >= most_) {
    probe_at_ = now + backoff_;
    return;
  }
  set(low_ + std::max(step_, is_soft_ ? soft_step() : 1), Phase::probing, now);
}

// Fewer are kept if they bring as many replies.
void LimitFinder::finish_lowering(double latency, TimePoint now) {
  const double fewer = static_cast<double>(current_) / low_;
  if (fewer * low_latency_ / latency >= 1 - kGain * (1 - fewer)) {
    high_ = low_;
    low_ = current_;
    low_latency_ = latency;
    is_soft_ = true;
    note(Cause::latency, now);
  }
  held_latency_ = low_latency_;
  hold(now, false);
}

void LimitFinder::on_refused(unsigned working, TimePoint now) {
  const bool was_probe = phase_ == Phase::probing;
  credit_ = 0;
  if (working + 1 <= low_ && !was_probe) {
    ++strikes_;
    since_strike_ = 0;
    if (strikes_ < kMostStrikes) {
      pause_until_ = now + seconds(1 << (strikes_ - 1));
      return;
    }
  }
  strikes_ = 0;
  since_strike_ = 0;
  // A probe was refused: what was proven stays, however many of it happen to be open.
  const unsigned found = was_probe && low_ > 0 ? std::max(low_, working) : std::max(1U, working);
  if (found != low_)
    low_latency_ = held_latency_ = 0;
  low_ = found;
  high_ = found + 1;
  is_soft_ = false;
  note(Cause::refusal, now);
  hold(now, was_probe);
  pause_until_ = now + seconds(1);
}

void LimitFinder::on_silent(unsigned working, TimePoint now) {
  if (working >= current_)
    return;
  low_ = std::max(1U, working);
  high_ = low_ + 1;
  low_latency_ = held_latency_ = 0;
  is_soft_ = true;
  note(Cause::silence, now);
  hold(now, false);
}

void LimitFinder::on_broken(TimePoint now) {
  sick_ += (1 - sick_) / 32;
  if (sick_ <= kSick || current_ == 1)
    return;
  sick_ = 0;
  high_ = current_;
  low_ = std::max(1U, current_ / 2);
  low_latency_ = held_latency_ = 0;
  is_soft_ = true;
  note(Cause::breaks, now);
  hold(now, false);
}

void LimitFinder::restart() {
  current_ = 1;
  low_ = high_ = 0;
  step_ = 1;
  phase_ = Phase::growing;
  is_soft_ = has_lowered_ = false;
  low_latency_ = held_latency_ = sick_ = 0;
  doubled_after_ = strikes_ = 0;
  pause_until_ = {};
  backoff_ = kFirstBackoff;
  cause_ = Cause::beginning;
  epoch_ = {};
}

LimitFinder::Stored LimitFinder::stored() const {
  Stored stored;
  stored.low = static_cast<std::uint16_t>(std::min(low_, 65535U));
  stored.is_refused = high_ != 0 && !is_soft_;
  stored.backoff =
      static_cast<std::uint16_t>(std::chrono::duration_cast<seconds>(backoff_).count());
  return stored;
}

void LimitFinder::restore(const Stored& stored, Duration idle) {
  restart();
  if (stored.low == 0)
    return;
  low_ = current_ = std::min<unsigned>(stored.low, most_);
  high_ = low_ + 1;
  is_soft_ = !stored.is_refused;
  has_lowered_ = true;
  phase_ = Phase::holding;
  backoff_ = std::clamp<Duration>(seconds(stored.backoff), kFirstBackoff, kLastBackoff);
  cause_ = stored.is_refused ? Cause::refusal : Cause::latency;
  begin_epoch({});
  age(idle);
}

void LimitFinder::age(Duration idle) {
  if (idle < hours(1) || low_ == 0)
    return;
  for (auto days = idle / hours(24); days > 0 && low_ > 4; --days)
    low_ = std::max(4U, low_ / 2);
  current_ = std::max(1U, std::min(current_, low_));
  backoff_ = kFirstBackoff;
  probe_at_ = {};
  low_latency_ = held_latency_ = 0;
  phase_ = Phase::holding;
  epoch_ = {};
}

}  // namespace postrider::scheduler
