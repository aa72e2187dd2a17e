// IP addresses as parts of names: for PTR questions, SPF macros and block lists.
#pragma once

#include "base/network.h"

#include <string>

namespace postrider::mailauth {

// Network order: 4 octets or 16; empty for no address.
std::string octets_of(const IpAddress& address);
// "1.2.0.192", or 32 nibbles "1.0.0...8.b.d.0.1.0.0.2", the last part of the address first. Empty
// for no address.
std::string reversed_parts(const IpAddress& address);
// The parts in the address's own order: "192.0.2.1", "2.0.0.1.0.d.b.8...".
std::string dotted_parts(const IpAddress& address);
// The name to ask for PTR, below in-addr.arpa or ip6.arpa (RFC 1035 §3.5, RFC 3596 §2.5).
std::string reverse_name(const IpAddress& address);

}  // namespace postrider::mailauth
