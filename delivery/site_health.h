// How a site is doing, and so how much may be asked of it. Pure.
//
//   open --nothing answers--> blocked --its time comes--> probing --answers--> open
//                                ^------- does not answer -------'
//
// Until it has answered once an open site gets one connection. Then it starts with a few, gains one
// with each success, and loses half with each conversation that breaks. A refused connection beside
// others that work only lowers the limit.
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

  void on_success(TimePoint now);  // a message was taken
  bool on_answer();                // a conversation began; true if that opened the site again
  void on_crowded(unsigned working, TimePoint now);  // a new connection refused, others work
  // A conversation broke while it carried a message. True: too often in a row, block the site.
  bool on_broken();
  void on_unreachable(const mail::Outcome& why, TimePoint now, Duration wait);
  void open_again();

  unsigned failures() const { return failures_; }  // probes in a row
  queue::SiteState stored(std::string name) const;
  const mail::Outcome& why() const { return why_; }
  TimePoint blocked_until() const { return blocked_until_; }
  TimePoint since() const { return since_; }

 private:
  static constexpr unsigned kFirstLimit = 5;
  static constexpr unsigned kMostBroken = 10;
  TimePoint blocked_until_;  // 0: open
  TimePoint blocked_at_;
  TimePoint since_;
  unsigned failures_ = 0;
  unsigned limit_ = kFirstLimit;
  unsigned broken_ = 0;
  bool has_answered_ = false;
  TimePoint crowded_until_;
  mail::Outcome why_;
};

}  // namespace postrider::delivery
