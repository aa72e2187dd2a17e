#include "delivery/scheduler/site_pace.h"

#include "delivery/scheduler/limit_words.h"
#include "delivery/scheduler/retry_hint.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <utility>

namespace postrider::scheduler {

namespace {

constexpr std::size_t kMostComplaints = 100;
constexpr Duration kBurst = std::chrono::seconds(10);
constexpr std::size_t kLongestStored = 200;

}  // namespace

void SitePace::set_bounds(const SiteBounds& bounds) {
  bounds_ = bounds;
  limit_.set_most(bounds.connections);
  rate_.set_most(bounds.rate);
}

unsigned SitePace::hard_limit() const {
  return limit_.stored().is_refused ? std::min(bounds_.connections, limit()) : bounds_.connections;
}

bool SitePace::may_open(unsigned open, unsigned being_made, TimePoint now) const {
  if (!limit_.may_open(open, being_made, now))
    return false;
  // Where the rate is what holds, few connections carry it.
  const bool is_held = rate_.rate() > 0 || rate_.is_searching() || rate_.is_limiting(now);
  return !is_held || being_made == 0;
}

TimePoint SitePace::next_chance(TimePoint now) const {
  auto next = TimePoint::max();
  if (const auto send = rate_.next_send(now); send > now)
    next = send;
  if (limit_.paused_until() > now)
    next = std::min(next, limit_.paused_until());
  return next;
}

void SitePace::on_taken(Duration latency, unsigned busy, bool is_waiting, TimePoint now) {
  const bool is_saturated = is_waiting && rate_.rate() == 0;
  rate_.on_taken(now);
  limit_.on_answered(latency, busy, is_saturated, now);
}

Duration SitePace::on_refused(const ReplyMeaning& meaning, const mail::Reply& reply, unsigned busy,
                              TimePoint now) {
  if (meaning.rate_per_minute > 0)
    rate_.set_rate(meaning.rate_per_minute / 60, now);
  auto stop = suspension(meaning, now);
  if (meaning.limits_rate) {
    rate_.on_refused(find_hint(reply.text), now);
    if (rate_.is_searching() && rate_.paused_until() > now)
      stop = std::max(stop, rate_.paused_until() - now);
  } else if (meaning.klass == ReplyClass::connections && busy > 1) {
    limit_.on_refused(busy - 1, now);
  } else if (meaning.limits_connections) {
    limit_.on_broken(now);
  }
  return stop;
}

RateFinder SitePace::take_rates() {
  return std::exchange(rate_, RateFinder(bounds_.rate));
}

Duration SitePace::suspension(const ReplyMeaning& meaning, TimePoint now) {
  if (meaning.suspend == Duration{0})
    return {};
  // What was under way at the same time met the same: one complaint.
  if (complaints_.empty() || now - complaints_.back() >= kBurst)
    complaints_.push_back(now);
  while (now - complaints_.front() > std::chrono::hours(1) || complaints_.size() > kMostComplaints)
    complaints_.pop_front();
  if (complaints_.size() < std::max(1U, meaning.suspend_after))
    return {};
  complaints_.clear();
  return meaning.suspend;
}

std::string SitePace::explain(TimePoint now) const {
  return explain_limit(limit_, now) + "; " + explain_rate(rate_, now);
}

// "1 5 1 30 1.5 1.4 120": version, connections, whether more were refused, seconds before a probe;
// rate, proven rate, seconds before a probe.
std::string SitePace::store() const {
  const auto limit = limit_.stored();
  const auto rate = rate_.stored();
  if (limit.low == 0 && !(rate.rate > 0))
    return {};
  char text[kLongestStored];
  std::snprintf(text, sizeof text, "1 %u %d %u %.6g %.6g %u", static_cast<unsigned>(limit.low),
                limit.is_refused ? 1 : 0, static_cast<unsigned>(limit.backoff),
                static_cast<double>(rate.rate), static_cast<double>(rate.low),
                static_cast<unsigned>(rate.backoff));
  return text;
}

bool SitePace::restore(std::string_view stored, Duration idle) {
  const std::string text(stored.substr(0, kLongestStored));
  unsigned low = 0, limit_backoff = 0, rate_backoff = 0;
  int refused = 0, used = 0;
  LimitFinder::Stored limit;
  RateFinder::Stored rate;
  if (std::sscanf(text.c_str(), "1 %5u %1d %5u %20f %20f %5u%n", &low, &refused, &limit_backoff,
                  &rate.rate, &rate.low, &rate_backoff, &used) != 6 ||
      static_cast<std::size_t>(used) != text.size())
    return false;
  if (!std::isfinite(rate.rate) || !std::isfinite(rate.low))
    return false;
  limit.low = static_cast<std::uint16_t>(std::min(low, 65535U));
  limit.is_refused = refused != 0;
  limit.backoff = static_cast<std::uint16_t>(std::min(limit_backoff, 65535U));
  rate.backoff = static_cast<std::uint16_t>(std::min(rate_backoff, 65535U));
  limit_.restore(limit, idle);
  rate_.restore(rate, idle);
  return true;
}

}  // namespace postrider::scheduler
