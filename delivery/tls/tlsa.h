// The TLSA records of a mail host: at which name they are looked for, and what the answers mean.
#pragma once

#include "delivery/routing/hosts.h"
#include "delivery/tls/tls_policy.h"
#include "dns/resolver.h"

#include <cstdint>

namespace postrider::delivery {

// RFC 7672 §2.2.2, for a host that was named securely and has an address. Where all its address
// records are authenticated: at the name behind its aliases, then at its own. Where they are not,
// but the host is an alias that is authenticated itself: at its own name. Otherwise it is not
// asked. The resolver must outlive the task.
Task<TlsaLookup> look_up_tlsa(dns::Resolver& resolver, FoundHost host, std::uint16_t port);

}  // namespace postrider::delivery
