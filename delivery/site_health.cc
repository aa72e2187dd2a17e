#include "delivery/site_health.h"

#include <algorithm>

namespace postrider::delivery {

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
  return has_answered_ ? std::max(most, 1U) : 1;
}

void SiteHealth::on_success() {
  has_answered_ = true;
  broken_ = 0;
}

bool SiteHealth::on_answer() {
  const bool opens = blocked_until_ != TimePoint{} && !is_stopped_;
  if (opens)
    open_again();
  has_answered_ = true;
  return opens;
}

bool SiteHealth::on_verdict(TimePoint now) {
  if (!is_stopped_ || state(now) != State::probing)
    return false;
  open_again();
  has_answered_ = true;
  return true;
}

bool SiteHealth::on_broken() {
  return ++broken_ >= kMostBroken;
}

void SiteHealth::on_unreachable(const mail::Outcome& why, TimePoint now, Duration wait) {
  if (failures_ == 0)
    since_ = now;
  ++failures_;
  blocked_at_ = now;
  blocked_until_ = now + wait;
  broken_ = 0;
  has_answered_ = is_stopped_ = false;
  why_ = why;
}

void SiteHealth::on_stopped(const mail::Outcome& why, TimePoint now, Duration wait) {
  on_unreachable(why, now, wait);
  has_answered_ = is_stopped_ = true;
}

void SiteHealth::open_again() {
  blocked_until_ = blocked_at_ = since_ = TimePoint{};
  failures_ = broken_ = 0;
  has_answered_ = is_stopped_ = false;
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
