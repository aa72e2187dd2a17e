// Delivery into a command: an argument vector (no shell), the message on standard input behind a
// "From " line, a clean environment, no descriptors of ours, a session of its own that ends with
// its time, the signals, the limits and the umask (077) of a login. Blocks.
//
// The environment, as Postfix's local(8) gives it: HOME, USER, LOGNAME, SHELL=/bin/sh,
// PATH=/usr/local/bin:/usr/bin:/bin, SENDER, RECIPIENT, ORIGINAL_RECIPIENT, LOCAL, EXTENSION,
// DOMAIN. What comes from outside has every octet that could mean something to a shell replaced by
// "_" (attacks.md I03).
#pragma once

#include "delivery/local/agents/command_group.h"
#include "delivery/local/agents/local_target.h"
#include "mail/outcome.h"

#include <string>
#include <string_view>
#include <vector>

namespace postrider::delivery {

// Where the process is alone with its command, nothing that the command started is left at the
// end: it has two seconds to end by itself once the command has, and is killed then.
mail::Outcome deliver_to_command(const LocalJob& job, const LocalBody& body,
                                 const CommandSetting& setting);

// Letters, digits and "!@%-_=+:,./" stay, all else becomes "_". Pure.
std::string harmless(std::string_view outside);

// "NAME=value", ready for execve; home and user of the account that runs it.
std::vector<std::string> command_environment(const LocalEnvelope& envelope, std::string_view user,
                                             std::string_view home);

}  // namespace postrider::delivery
