// Addresses as people and programs write them, in header fields and on command lines (RFC 5322
// §3.4, with the obsolete forms that occur): "Name <a@b>", "a@b (Name)", groups, source routes,
// comments nested to a limit. Linear, no recursion. What comes out is text for the envelope;
// whether it is an address is checked there.
#pragma once

#include "base/result.h"

#include <string>
#include <string_view>
#include <vector>

namespace postrider::cli {

inline constexpr std::size_t kMostListed = 50'000;

// Appends the addresses of `list`. Errors: a sentence with what is wrong, escaped.
Result<void> parse_address_list(std::string_view list, std::vector<std::string>& addresses);
// The same of a list that people wrote: an entry that cannot be meant costs itself alone. What was
// wrong with it goes to `wrong`. Errc::too_long: more addresses than kMostListed.
Result<void> gather_addresses(std::string_view list, std::vector<std::string>& addresses,
                              std::vector<std::string>& wrong);

}  // namespace postrider::cli
