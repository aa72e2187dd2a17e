// How much a session bears of a client whose commands fail or move no mail (pure; attacks.md B05,
// X01).
#pragma once

#include "smtpd/session/session_settings.h"

#include <cstdint>

namespace postrider::smtpd {

class Patience {
 public:
  void count_error() { ++errors_; }
  // A command or a chunk that moves no mail to speak of: beyond the limit each is an error.
  void count_junk(const Limits& limits) {
    if (++junk_ > limits.junk)
      ++errors_;
  }
  // A message was accepted.
  void renew() { errors_ = junk_ = 0; }
  // Whether the session ends. has_none: not even for one error.
  bool is_exhausted(const Limits& limits, bool has_none) const {
    return has_none ? errors_ > 0 : errors_ >= limits.errors;
  }

 private:
  std::uint32_t errors_ = 0;
  std::uint32_t junk_ = 0;
};

}  // namespace postrider::smtpd
