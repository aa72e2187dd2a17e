// What a command's end means for the recipient, as Postfix's local(8) has it, so that scripts
// written for other mailers keep their meaning. Pure.
#pragma once

#include "mail/outcome.h"

#include <string>
#include <string_view>

namespace postrider::delivery {

// What stands behind it in the text of an outcome is the command's own words, for the sender.
inline constexpr std::string_view kCommandOutput = ". Command output: ";

struct CommandEnd {
  enum class Kind : std::uint8_t { exited, killed, too_slow, stopped, not_started };
  Kind kind = Kind::exited;
  int number = 0;      // exit code, signal, or errno
  std::string output;  // what it said, raw, cut
};

// 0: delivered. A sysexits.h code: its meaning, EX_TEMPFAIL and EX_OSERR to be tried again; another
// code: bounce. A status code at the start of the output ("4.2.2 over quota") decides instead.
// Signals, time-outs and commands that cannot be started: to be tried again, also where a shell
// says so (126 and above); and whatever the code, where the output names a trouble of the machine's
// or of its sandbox. The output's first line goes into the text, escaped, and the remedy where it
// may be the unit that forbids something.
mail::Outcome judge_command(const CommandEnd& end, std::string_view command);

}  // namespace postrider::delivery
