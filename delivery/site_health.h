// How a site is doing, and so how much may be asked of it. Pure.
//
//   open --nothing answers--> blocked --its time comes--> probing --answers--> open
//                                ^------- does not answer -------'
//
// Until it has answered once an open site gets one connection; then as many as its pace allows
// (scheduler/site_pace.h). A site that refused mail for the rate, or for what it thinks of us, has
// answered all along: only a message that it takes, or refuses on its own account, opens it.
#pragma once

#include "base/random.h"
#include "base/time.h"
#include "mail/outcome.h"
#include "queue/queue.h"

#include <cstdint>
#include <string>

namespace postrider::delivery {

class SiteHealth {
 public:
  enum class State : std::uint8_t { open, probing, blocked };

  SiteHealth() = default;
  explicit SiteHealth(const queue::SiteState& stored);

  // Blocked becomes probing when the time has come; a jump of the clock backwards blocks no longer
  // than the last wait was meant to be.
  State state(TimePoint now) const;
  unsigned limit(TimePoint now, unsigned most) const;  // connections at one time

  void on_success();  // a message was taken
  bool on_answer();   // a conversation began; true if that opened the site again
  // A message was taken, or refused on its own account; true if that opened the site again.
  bool on_verdict(TimePoint now);
  // A conversation broke while it carried a message. True: too often in a row, block the site.
  bool on_broken();
  void on_unreachable(const mail::Outcome& why, TimePoint now, Duration wait);
  void on_stopped(const mail::Outcome& why, TimePoint now, Duration wait);  // by its refusal
  void open_again();

  unsigned failures() const { return failures_; }  // probes in a row
  queue::SiteState stored(std::string name) const;
  const mail::Outcome& why() const { return why_; }
  TimePoint blocked_until() const { return blocked_until_; }
  TimePoint since() const { return since_; }

 private:
  static constexpr unsigned kMostBroken = 10;
  TimePoint blocked_until_;  // 0: open
  TimePoint blocked_at_;
  TimePoint since_;
  unsigned failures_ = 0;
  unsigned broken_ = 0;
  bool has_answered_ = false;
  bool is_stopped_ = false;  // rather than unreachable
  mail::Outcome why_;
};

}  // namespace postrider::delivery
