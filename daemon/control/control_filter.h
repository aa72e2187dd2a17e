// From the filter that somebody typed to the one that the queue understands.
#pragma once

#include "daemon/protocol/control_protocol.h"
#include "queue/queue.h"

namespace postrider::daemon {

// The error's step is a sentence: "--older: \"2 days\" is not a time such as 90m, 2h or 5d".
Result<queue::Filter> to_filter(const FilterText& text);
// A host without "://" is one for SMTP. The name under which the queue keeps it.
Result<std::string> to_next_hop(const std::string& text);
std::optional<queue::Verb> to_verb(std::string_view word);

}  // namespace postrider::daemon
