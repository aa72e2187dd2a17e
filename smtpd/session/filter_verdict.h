// What a filter says about a command or a message (pure).
#pragma once

#include "mail/reply.h"

#include <cstdint>
#include <string>
#include <utility>

namespace postrider::smtpd::filter {

// The commands at which a session waits for its filters. Content is always shown to them.
enum class Stage : std::uint8_t { connect = 1, helo = 2, mail = 4, recipient = 8, data = 16 };
using Stages = std::uint8_t;  // bits of Stage
constexpr Stages bit(Stage stage) {
  return static_cast<Stages>(stage);
}

struct Verdict {
  enum class Kind : std::uint8_t {
    go_on,
    done,     // the same, and this filter wants nothing more of this message; at connect and helo:
              // of this session
    discard,  // everything is taken with 250, and the message is thrown away
    refuse    // by `reply`, 4yz or 5yz: this command, at connect the session, else the message
  };
  Kind kind = Kind::go_on;
  mail::Reply reply;
  std::string problem;  // of refuse: why, for the log alone

  static Verdict refuse(mail::Reply reply, std::string problem = {}) {
    return {Kind::refuse, std::move(reply), std::move(problem)};
  }
  bool refuses() const { return kind == Kind::refuse; }
};

}  // namespace postrider::smtpd::filter
