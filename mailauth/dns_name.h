// Names as they come out of records, messages and macros, before the DNS is asked for them.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace postrider::mailauth {

constexpr std::size_t kMostOfName = 253;  // octets, as text without the dot at the end
constexpr std::size_t kMostOfLabel = 63;

// Whether a question can be written for it: labels of 1 to 63 octets of printable ASCII, 253 in
// all, no dot at the end.
bool can_be_asked(std::string_view name);
// A domain that an identity claims to be (RFC 7208 §4.3): lower case, A-labels, without a dot at
// the end. Nothing for address literals, single labels and what cannot be asked.
std::optional<std::string> claimed_domain(std::string_view text);
std::size_t count_labels(std::string_view name);
// The right-hand labels. Requires: count >= 1. The whole name if it has no more.
std::string_view last_labels(std::string_view name, std::size_t count);
// True also for the domain itself. Any case.
bool is_within(std::string_view name, std::string_view domain);
// Whether both may have one Organizational Domain, as far as the names say. Any case.
bool may_be_one_organization(std::string_view name, std::string_view other);
// Behind the last "@"; empty if there is none.
std::string_view domain_of(std::string_view mailbox);

}  // namespace postrider::mailauth
