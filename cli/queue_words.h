// What stands behind a verb of the queue without an option: ids, an address, or a domain.
#pragma once

#include "daemon/protocol/control_protocol.h"

#include <string>
#include <vector>

namespace postrider::cli {

// Adds the words to the filter: ids to its ids, one address (or @domain) as recipient, one domain.
// Gives a sentence about the first word that is none of them, or is one too many; empty if none is.
std::string add_words(const std::vector<std::string>& words, daemon::FilterText& filter);

// The id as the daemon knows it: mailq marks one of a message under way ("*") or held ("!"), and it
// is pasted so. Anything else stays what it is.
std::string unmarked_id(const std::string& word);

// Whether it can be none of them but a domain without a dot, for which there is an option.
bool is_bare_word(const std::string& word);

}  // namespace postrider::cli
