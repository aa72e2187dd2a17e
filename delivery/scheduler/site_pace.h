// How much a site is asked for: connections at one time and messages in a time, as far as it bears
// them, and what its refusals mean for both. Times are of one clock that does not go back. Pure.
#pragma once

#include "base/time.h"
#include "delivery/scheduler/limit_finder.h"
#include "delivery/scheduler/rate_finder.h"
#include "delivery/scheduler/reply_class.h"
#include "mail/reply.h"

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>

namespace postrider::scheduler {

// What an operator allows at most.
struct SiteBounds {
  unsigned connections = 20;
  double rate = 0;              // messages a second; 0: as the site takes them
  unsigned per_connection = 0;  // messages; 0: as it takes them
  friend bool operator==(const SiteBounds&, const SiteBounds&) = default;
};

class SitePace {
 public:
  SitePace() : limit_(bounds_.connections) {}

  void set_bounds(const SiteBounds& bounds);
  const SiteBounds& bounds() const { return bounds_; }

  unsigned limit() const { return limit_.limit(); }
  // That no more connections may be open, whatever they do: for the administrator says so, or the
  // site has refused more.
  unsigned hard_limit() const;
  bool may_open(unsigned open, unsigned being_made, TimePoint now) const;
  bool may_send(unsigned under_way, TimePoint now) const { return rate_.may_send(under_way, now); }
  // When what is not allowed now may be; TimePoint::max(): no time brings it.
  TimePoint next_chance(TimePoint now) const;

  void on_greeted(unsigned working, TimePoint now) { limit_.on_greeted(working, now); }
  void on_sent(TimePoint now) { rate_.on_sent(now); }
  // busy: connections with a message, this one included. is_waiting: there is more mail.
  void on_taken(Duration latency, unsigned busy, bool is_waiting, TimePoint now);
  // A new connection was refused, or hung, while `working` others, at least one, did not.
  void on_crowded(unsigned working, TimePoint now) { limit_.on_refused(working, now); }
  void on_silent(unsigned working, TimePoint now) { limit_.on_silent(working, now); }
  void on_broken(TimePoint now) { limit_.on_broken(now); }
  // A message, or a connection, was refused. How long the site must be left alone; 0: not at all.
  Duration on_refused(const ReplyMeaning& meaning, const mail::Reply& reply, unsigned busy,
                      TimePoint now);
  void restart() { limit_.restart(); }  // behind an outage: begins with one connection

  // What was found is believed less, the longer the site had no mail.
  void age(Duration idle) {
    limit_.age(idle);
    rate_.age(idle);
  }

  // What is known of the rate; it is no longer of this site.
  RateFinder take_rates();

  bool is_paused(TimePoint now) const { return now < rate_.paused_until(); }
  const RateFinder& rates() const { return rate_; }
  std::string explain(TimePoint now) const;

  // A line of text, empty if nothing was found; and the time since it was written, false: it is
  // no such line.
  std::string store() const;
  bool restore(std::string_view stored, Duration idle);

 private:
  Duration suspension(const ReplyMeaning& meaning, TimePoint now);

  SiteBounds bounds_;
  LimitFinder limit_;
  RateFinder rate_;
  std::deque<TimePoint> complaints_;  // of rows that stop a site after some
};

}  // namespace postrider::scheduler
