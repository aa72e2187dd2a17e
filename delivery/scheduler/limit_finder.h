// How many connections a site bears, found by trying. Pure.
//
//   growing --refused, or no gain--> holding --its time comes--> probing --gain--> growing
//                                       ^  \--slower, once----> lowering   |
//                                       +------- no gain, refused ---------+
//
// Between `low` (proven) and `high` (refused, or of no use) the limit is bisected, then held, and
// probed rarely: behind a refused probe there are a hundred messages before the next one. A refusal
// beside k connections that work names the limit, k; only conversations that break halve it. Where
// more connections bring no more replies, or replies have become slow, fewer are used. A site that
// answers at once shows no load: while it grows, its limit doubles with each round of replies.
#pragma once

#include "base/time.h"

#include <cstdint>

namespace postrider::scheduler {

class LimitFinder {
 public:
  explicit LimitFinder(unsigned most = 50) : most_(most ? most : 1) {}

  unsigned limit() const { return current_ < most_ ? current_ : most_; }
  void set_most(unsigned most) { most_ = most ? most : 1; }
  // Another connection beside `open` of them, some of which are only being made.
  bool may_open(unsigned open, unsigned being_made, TimePoint now) const;
  TimePoint paused_until() const { return pause_until_; }

  // A connection was greeted, and `working` are now, this one included: so many it bears, although
  // one of those that were begun with it may have been refused before. One more may be tried, among
  // the first four.
  void on_greeted(unsigned working, TimePoint now);
  // A message was answered after `latency` while `busy` connections worked. is_saturated: mail
  // waits, and nothing but this limit holds it.
  void on_answered(Duration latency, unsigned busy, bool is_saturated, TimePoint now);
  // A new connection was refused for their number while `working` (at least one) worked.
  void on_refused(unsigned working, TimePoint now);
  // One connection hung while `working` (at least one) others did not.
  void on_silent(unsigned working, TimePoint now);
  // A conversation broke in the middle.
  void on_broken(TimePoint now);
  // Back from an outage: begin with one and double, as far as it bore before.
  void restart();

  // What is worth keeping; age() when it is loaded, or the site was idle.
  struct Stored {
    std::uint16_t low = 0;
    bool is_refused = false;  // by the site; else latency, or nothing yet, holds it
    std::uint16_t backoff = 0;
  };
  Stored stored() const;
  void restore(const Stored& stored, Duration idle);
  void age(Duration idle);

  enum class Cause : std::uint8_t { beginning, most, refusal, latency, breaks, silence };
  Cause cause() const { return cause_; }
  TimePoint cause_time() const { return cause_time_; }
  unsigned low() const { return low_; }
  unsigned high() const { return high_; }  // 0: none
  bool is_settled() const { return phase_ == Phase::holding || phase_ == Phase::probing; }
  bool is_probing() const { return phase_ == Phase::probing || phase_ == Phase::lowering; }
  TimePoint probe_at() const { return probe_at_; }

 private:
  enum class Phase : std::uint8_t { growing, holding, probing, lowering };
  struct Epoch {  // replies at one limit: logarithms, because sizes make them wildly different
    unsigned skip = 0, count = 0;
    double sum = 0, squares = 0;
    TimePoint begun;
  };

  void set(unsigned limit, Phase phase, TimePoint now);
  bool is_growing_freely() const;
  void count_to_double(TimePoint now);
  void begin_epoch(TimePoint now);
  bool is_epoch_complete(TimePoint now) const;
  double epoch_variance() const;
  void finish_epoch(TimePoint now);
  void finish_step(double latency, TimePoint now);
  void finish_lowering(double latency, TimePoint now);
  void on_gain(double latency, TimePoint now);
  void on_no_gain(TimePoint now);
  void hold(TimePoint now, bool was_probe);
  void probe_if_due(TimePoint now);
  void note(Cause cause, TimePoint now);
  unsigned soft_step() const { return (low_ + 3) / 4; }

  unsigned most_;
  unsigned current_ = 1, low_ = 0, high_ = 0, step_ = 1;
  Phase phase_ = Phase::growing;
  bool is_soft_ = false;        // high_ is latency's
  bool has_lowered_ = false;    // the first soft hold tries fewer once
  double low_latency_ = 0;      // geometric mean of ms at low_; 0: unknown
  double held_latency_ = 0;     // when the hold began
  std::uint32_t credit_ = 0;    // messages since the last refusal
  unsigned doubled_after_ = 0;  // successes at a limit that doubles without a test
  unsigned strikes_ = 0;        // refusals at or below low_
  std::uint32_t since_strike_ = 0;
  double sick_ = 0;  // share of conversations that break
  Duration backoff_ = std::chrono::seconds(30);
  TimePoint probe_at_, pause_until_, cause_time_;
  Cause cause_ = Cause::beginning;
  Epoch epoch_;
};

}  // namespace postrider::scheduler
