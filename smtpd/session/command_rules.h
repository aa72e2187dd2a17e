// The commands of RFC 5321 and its extensions as a table: when each is allowed, and what it is
// otherwise (pure).
#pragma once

#include <cstdint>
#include <string_view>

namespace postrider::smtpd {

// Of a session; smtpd/session/session.h draws them.
enum class SessionState : std::uint8_t { start, ready, sender, recipients, chunks, failed };

enum class Verb : std::uint8_t {
  mail,
  rcpt,
  data,
  bdat,
  ehlo,
  helo,
  quit,
  rset,
  noop,
  vrfy,
  help,
  expn,
  starttls,
  auth
};

struct CommandRule {
  static constexpr std::uint8_t kEndsGroup = 1;  // RFC 2920 §3.1: nothing may follow in the group
  static constexpr std::uint8_t kIsJunk = 2;     // does not move mail: limited in number
  static constexpr std::uint8_t kMay8Bit = 4;    // reads its own octets above 127
  static constexpr std::uint8_t kAlways = 8;     // even while stopping

  Verb verb;
  std::string_view name;
  std::uint8_t states;       // bits of SessionState
  std::string_view refusal;  // the reply in other states
  std::uint8_t traits;

  bool is_allowed_in(SessionState state) const {
    return (states >> static_cast<unsigned>(state) & 1U) != 0;
  }
  bool ends_group() const { return (traits & kEndsGroup) != 0; }
  bool is_junk() const { return (traits & kIsJunk) != 0; }
  bool may_have_8bit() const { return (traits & kMay8Bit) != 0; }
  bool is_always_served() const { return (traits & kAlways) != 0; }
};

// Whatever the case of its letters. Null: there is no such command.
const CommandRule* find_command(std::string_view verb);

}  // namespace postrider::smtpd
