#include "delivery/site_health.h"

#include <algorithm>

namespace postrider::delivery {

namespace {

// How long a crowded site keeps its lower limit.
constexpr auto kCrowded = std::chrono::seconds(10);
constexpr unsigned kHighestLimit = 100000;

}  // namespace

SiteHealth::SiteHealth(const queue::SiteState& stored)
    : blocked_until_(stored.blocked_until),
      since_(stored.since),
      failures_(stored.failures),
      why_(stored.last) {}

SiteHealth::State SiteHealth::state(TimePoint now) const {
  if (blocked_until_ == TimePoint{})
    return State::open;
  const bool clock_went_back = blocked_at_ != TimePoint{} && now < blocked_at_;
  return now >= blocked_until_ || clock_went_back ? State::probing : State::blocked;
}

unsigned SiteHealth::limit(TimePoint now, unsigned most) const {
  switch (state(now)) {
    case State::blocked:
      return 0;
    case State::probing:
      return 1;
    case State::open:
      break;
  }
  return has_answered_ ? std::clamp(limit_, 1U, std::max(most, 1U)) : 1;
}

void SiteHealth::on_success(TimePoint now) {
  has_answered_ = true;
  broken_ = 0;
  if (limit_ < kHighestLimit && now >= crowded_until_)
    ++limit_;
}

bool SiteHealth::on_answer() {
  const bool was_blocked = blocked_until_ != TimePoint{};
  if (was_blocked)
    open_again();
  has_answered_ = true;
  return was_blocked;
}

void SiteHealth::on_crowded(unsigned working, TimePoint now) {
  has_answered_ = true;  // those that work did
  limit_ = std::max(1U, working);
  crowded_until_ = now + kCrowded;
}

bool SiteHealth::on_broken() {
  limit_ = std::max(1U, limit_ / 2);
  return ++broken_ >= kMostBroken;
}

void SiteHealth::on_unreachable(const mail::Outcome& why, TimePoint now, Duration wait) {
  if (failures_ == 0)
    since_ = now;
  ++failures_;
  blocked_at_ = now;
  blocked_until_ = now + wait;
  broken_ = 0;
  has_answered_ = false;
  limit_ = kFirstLimit;
  why_ = why;
}

void SiteHealth::open_again() {
  blocked_until_ = blocked_at_ = since_ = TimePoint{};
  failures_ = broken_ = 0;
  has_answered_ = false;
  limit_ = kFirstLimit;
  why_ = {};
}

queue::SiteState SiteHealth::stored(std::string name) const {
  queue::SiteState state;
  state.site = std::move(name);
  state.blocked_until = blocked_until_;
  state.failures = failures_;
  state.since = since_;
  state.last = why_;
  return state;
}

}  // namespace postrider::delivery
