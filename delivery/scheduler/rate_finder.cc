#include "delivery/scheduler/rate_finder.h"

#include <algorithm>
#include <cmath>

namespace postrider::scheduler {

namespace {

using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;

constexpr Duration kFirstPause = seconds(10);
constexpr Duration kLastPause = minutes(10);
constexpr Duration kMostHint = seconds(120);
constexpr Duration kFirstHold = minutes(2);
constexpr Duration kLastHold = minutes(15);
constexpr Duration kCounted = hours(1);  // the longest window that is common
constexpr double kBelowMean = 0.9;
constexpr unsigned kStepMessages = 50;
constexpr Duration kStepTime = seconds(60);
constexpr unsigned kCredit = 100;
constexpr Duration kLongHold = hours(1);
constexpr unsigned kMostAgain = 3;
constexpr double kBelowHour = 0.97;
constexpr double kNear = 1.06;  // low and high are one
constexpr double kLeastRate = 1.0 / 3600;
constexpr double kLeastFound = 0.1;  // the mean of little mail says nothing of a limit

std::int64_t micros(TimePoint time) {
  return std::chrono::duration_cast<std::chrono::microseconds>(time.time_since_epoch()).count();
}

Duration seconds_of(double value) {
  return Duration(static_cast<std::int64_t>(std::min(value, 1e9) * 1000));
}

double seconds_in(Duration value) {
  return static_cast<double>(value.count()) / 1000;
}

}  // namespace

double RateFinder::rate() const {
  if (rate_ == 0)
    return most_;
  return most_ > 0 ? std::min(rate_, most_) : rate_;
}

double RateFinder::burst() const {
  return std::max(1.0, 0.5 * rate());
}

bool RateFinder::may_send(unsigned under_way, TimePoint now) const {
  if (now < pause_until_)
    return false;
  if (is_searching_)
    return under_way == 0;
  return rate() == 0 || now >= next_send(now);
}

TimePoint RateFinder::next_send(TimePoint now) const {
  if (rate() == 0 || is_searching_)
    return std::max(now, pause_until_);
  const auto tolerance = static_cast<std::int64_t>((burst() - 1) / rate() * 1e6);
  const auto at = tat_ - tolerance;
  // Up to the next millisecond: not too early.
  const TimePoint time{Duration(at <= 0 ? 0 : (at + 999) / 1000)};
  return std::max({now, time, pause_until_});
}

void RateFinder::on_sent(TimePoint now) {
  if (rate() == 0)
    return;
  const auto interval = static_cast<std::int64_t>(1e6 / rate());
  const auto at = micros(now);
  ++step_sent_;
  if (tat_ > at - interval)
    ++step_bound_;  // the bucket was not full: the rate is what binds
  tat_ = std::max(tat_, at) + interval;
}

void RateFinder::count(TimePoint now) {
  if (counted_ == 0)
    counted_since_ = now;
  // Longer ago than any window: the older half counts no more.
  if (!is_searching_ && now - counted_since_ > kCounted) {
    counted_since_ += (now - counted_since_) / 2;
    counted_ /= 2;
  }
  ++counted_;
  if (first_taken_ == TimePoint{})
    first_taken_ = now;
  const std::int64_t minute = now.time_since_epoch() / minutes(1);
  for (auto passed = std::min<std::int64_t>(minute - minute_, 60); passed > 0; --passed)
    minutes_[static_cast<std::size_t>((minute - passed + 1) % 60)] = 0;
  minute_ = std::max(minute_, minute);
  ++minutes_[static_cast<std::size_t>(minute_ % 60)];
}

double RateFinder::hour_mean(TimePoint now) const {
  if (first_taken_ == TimePoint{} || now - first_taken_ < hours(1))
    return 0;
  const std::int64_t minute = now.time_since_epoch() / minutes(1);
  double sum = 0;
  for (std::int64_t i = std::max(minute - 59, minute_ - 59); i <= minute_; ++i)
    sum += minutes_[static_cast<std::size_t>(i % 60)];
  return sum / 3600;
}

void RateFinder::begin_step(TimePoint now) {
  step_begun_ = now;
  step_sent_ = step_bound_ = step_taken_ = 0;
}

void RateFinder::on_taken(TimePoint now) {
  count(now);
  ++credit_;
  if (is_searching_ && now < pause_until_)
    return;  // it was under way when the pause began, and says nothing of what is taken now
  if (is_searching_) {
    const double span = std::max(seconds_in(now - counted_since_), 1.0);
    rate_ = std::max(kLeastFound, kBelowMean * counted_ / span);
    low_ = rate_;
    high_ = 0;
    step_ = 0.05;
    is_searching_ = false;
    pause_ = Duration{0};
    tat_ = micros(now);
    begin_step(now);
    return;
  }
  ++step_taken_;
  if (rate_ > 0 && now - step_begun_ >= (is_long_ ? kLongHold : kStepTime) &&
      step_taken_ >= kStepMessages)
    raise(now);
}

void RateFinder::raise(TimePoint now) {
  const bool was_used = step_bound_ * 5 >= step_sent_ * 4;
  begin_step(now);
  if (!was_used || (most_ > 0 && rate_ >= most_))
    return;
  low_ = rate_;
  pause_ = Duration{0};
  if (is_probe_) {
    is_probe_ = false;
    backoff_ = kFirstHold;
  }
  if (high_ > 0 && high_ / low_ <= kNear) {
    if (now < hold_until_ || credit_ < kCredit)
      return;
    high_ = 0;  // it may have been raised
    is_probe_ = true;
  }
  if (high_ > 0) {
    rate_ = std::sqrt(low_ * high_);
    return;
  }
  rate_ *= 1 + step_;
  step_ = std::min(1.0, step_ * 1.5);
}

void RateFinder::begin_search(std::optional<Duration> hint, TimePoint now) {
  is_searching_ = true;
  if (pause_ == Duration{0})
    pause_ = hint ? std::clamp<Duration>(*hint, seconds(5), kMostHint) : kFirstPause;
  else
    pause_ = std::min(2 * pause_, kLastPause);
  pause_until_ = now + pause_;
}

void RateFinder::on_refused(std::optional<Duration> hint, TimePoint now) {
  if (now < pause_until_)
    return;  // under way when the pause began
  if (rate_ == 0 || is_searching_)
    begin_search(hint, now);
  else
    lower(now);
  last_refusal_ = now;
  credit_ = 0;
}

void RateFinder::lower(TimePoint now) {
  const bool is_again =
      last_refusal_ != TimePoint{} && now - last_refusal_ < seconds(60) + 2 * pause_;
  if (is_again) {
    pause_ = std::min(2 * std::max(pause_, Duration(seconds(5))), kLastPause);
    const double mean = ++again_ >= kMostAgain ? hour_mean(now) : 0;
    is_long_ = is_long_ || mean > 0;
    if (mean > 0) {
      rate_ = low_ = kBelowHour * mean;
      high_ = mean;
    } else {
      rate_ *= 0.7;
      low_ = std::min(low_, rate_);
    }
  } else {
    again_ = 0;
    high_ = rate_;
    const bool is_near = low_ > 0 && low_ < rate_ && low_ > 0.8 * rate_;
    rate_ = is_near ? low_ * 0.985 : rate_ * 0.95;
    low_ = std::min(low_, rate_);
    pause_ = std::max<Duration>(seconds(5), seconds_of(3 / rate_));
  }
  rate_ = std::max(rate_, kLeastRate);
  if (is_probe_) {
    is_probe_ = false;
    backoff_ = std::min(2 * backoff_, kLastHold);
  }
  step_ = 0.05;
  hold_until_ = now + (is_long_ ? kLongHold : backoff_);
  pause_until_ = now + std::min(pause_, kLastPause);
  tat_ = micros(pause_until_);
  begin_step(pause_until_);
}

void RateFinder::set_rate(double per_second, TimePoint now) {
  if (rate_ > 0 && rate_ <= per_second)
    return;
  rate_ = low_ = per_second;
  high_ = 0;
  is_searching_ = false;
  tat_ = micros(now) + static_cast<std::int64_t>(1e6 / per_second);
  last_refusal_ = now;
  begin_step(now);
}

RateFinder::Stored RateFinder::stored() const {
  Stored stored;
  stored.rate = static_cast<float>(rate_);
  stored.low = static_cast<float>(low_);
  stored.backoff =
      static_cast<std::uint16_t>(std::chrono::duration_cast<seconds>(backoff_).count());
  return stored;
}

void RateFinder::restore(const Stored& stored, Duration idle) {
  if (!(stored.rate > 0))
    return;
  // What was only tried is tried again from what was proven.
  rate_ = stored.low > 0 && stored.low < stored.rate ? static_cast<double>(stored.low)
                                                     : static_cast<double>(stored.rate);
  rate_ = std::clamp(rate_, kLeastRate, 1e5);
  low_ = rate_;
  backoff_ = std::clamp<Duration>(seconds(stored.backoff), kFirstHold, kLastHold);
  age(idle);
}

void RateFinder::age(Duration idle) {
  if (rate_ == 0 || idle < hours(1))
    return;
  high_ = 0;
  is_long_ = false;
  if (idle >= hours(24 * 7)) {
    rate_ = low_ = 0;
    is_searching_ = false;
    counted_ = 0;
    return;
  }
  rate_ *= std::exp2(static_cast<double>(idle / hours(24)));
  low_ = std::min(low_, rate_);
  step_ = 0.05;
}

}  // namespace postrider::scheduler
