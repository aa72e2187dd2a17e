// How long a client may take over its next octets (attacks.md X01). A command has its time as a
// whole, however slowly it drips; content may pause, but must keep a least rate over all. And how
// much may be read before the loop's other work has its turn.
#pragma once

#include "base/time.h"
#include "smtpd/server_settings.h"
#include "smtpd/session/session_framer.h"

#include <cstddef>
#include <cstdint>
#include <optional>

namespace postrider::smtpd {

class ReadingPace {
 public:
  explicit ReadingPace(SteadyTime began) : began_(began) {}

  // The session has lasted for longer than it may.
  bool is_over(SteadyTime now, const Timeouts& times) const { return now - began_ > times.session; }
  // How this client is treated now.
  struct Treatment {
    bool is_patient = true;  // is one of ours, or slots do not run low
    bool holds_much = false;
  };
  // The deadline to be set before the next octets are read; nothing: the one that is set stays.
  std::optional<Duration> deadline(const SessionFramer& talk, SteadyTime now, const Timeouts& times,
                                   Treatment treatment);
  // The deadline was changed for something else: it is to be set again.
  void restart() { commands_seen_ = kNone; }
  // A client does not pay for the time that we take over its content.
  void excuse(SteadyTime since, SteadyTime now);

  void count(std::size_t octets);
  void begin_turn() { in_turn_ = 0; }
  // So much was read without a wait that others are to have their turn; then another begins.
  bool ends_turn();

 private:
  static constexpr std::uint64_t kNone = ~0ULL;
  Duration patience_with_content(SteadyTime now, const Timeouts& times, Treatment treatment);

  SteadyTime began_;
  std::uint64_t commands_seen_ = kNone;  // when the deadline was last set
  SteadyTime content_began_;
  std::uint64_t content_read_ = 0;
  std::size_t in_turn_ = 0;  // octets that were read without a wait
};

}  // namespace postrider::smtpd
