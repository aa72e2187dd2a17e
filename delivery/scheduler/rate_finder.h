// How many messages in what time a site takes, found by trying. Pure.
//
// There is no rate until the site refuses for one. Then one message at a time is tried, with
// growing pauses, until one is taken: what was taken since the counting began, by the time it took,
// is below the limit of a minute's window, an hour's, and of a bucket alike. From there the rate
// goes up while it is used to the full and nothing is refused, is bisected below a refusal, held,
// and probed rarely. Messages are spaced by a GCRA of microseconds.
#pragma once

#include "base/time.h"

#include <array>
#include <cstdint>
#include <optional>

namespace postrider::scheduler {

class RateFinder {
 public:
  // most: messages a second that an operator allows; 0: as the site does.
  explicit RateFinder(double most = 0) : most_(most) {}

  void set_most(double most) { most_ = most; }

  // Whether one more message may go now, with so many under way.
  bool may_send(unsigned under_way, TimePoint now) const;
  TimePoint next_send(TimePoint now) const;  // the earliest time that it may
  bool is_limiting(TimePoint now) const { return !may_send(0, now); }

  void on_sent(TimePoint now);
  void on_taken(TimePoint now);
  void on_refused(std::optional<Duration> hint, TimePoint now);
  // A reply table's row knows the rate ("one a minute").
  void set_rate(double per_second, TimePoint now);

  double rate() const;  // a second; 0: unlimited
  double low() const { return low_; }
  double high() const { return high_; }
  bool is_searching() const { return is_searching_; }  // paused until something is taken
  TimePoint paused_until() const { return pause_until_; }
  TimePoint cause_time() const { return last_refusal_; }

  struct Stored {
    float rate = 0, low = 0;
    std::uint16_t backoff = 0;
  };
  Stored stored() const;
  void restore(const Stored& stored, Duration idle);
  void age(Duration idle);

 private:
  void begin_search(std::optional<Duration> hint, TimePoint now);
  void lower(TimePoint now);
  void raise(TimePoint now);
  void begin_step(TimePoint now);
  double burst() const;
  void count(TimePoint now);
  double hour_mean(TimePoint now) const;  // messages a second; 0: not an hour yet

  double most_;
  double rate_ = 0, low_ = 0, high_ = 0, step_ = 0.05;
  bool is_searching_ = false;
  std::int64_t tat_ = 0;  // theoretical arrival time, us
  TimePoint pause_until_, last_refusal_, hold_until_, step_begun_;
  Duration pause_{0};
  Duration backoff_ = std::chrono::minutes(2);
  unsigned step_sent_ = 0, step_bound_ = 0, step_taken_ = 0;
  std::uint32_t credit_ = 0;
  bool is_probe_ = false;
  TimePoint counted_since_;
  double counted_ = 0;
  unsigned again_ = 0;    // refusals in close succession
  bool is_long_ = false;  // the window is as long as an hour: answers come late
  TimePoint first_taken_;
  std::array<std::uint32_t, 60> minutes_{};  // taken in each of the last hour
  std::int64_t minute_ = 0;
};

}  // namespace postrider::scheduler
