// The TLSA records of a mail host: at which name they are looked for, and what the answers mean.
#pragma once

#include "delivery/tls/tls_policy.h"
#include "dns/resolver.h"

#include <cstdint>
#include <string>

namespace postrider::delivery {

// A mail host, as its address lookups have shown it.
struct TlsaHost {
  std::string name;
  std::string canonical;  // behind its aliases; empty or the name itself: there are none
  bool secure = false;    // every answer with an address was authenticated
};

// RFC 7672 §2.2.2, for a host that was named securely and has an address. Where all its address
// records are authenticated: at the name behind its aliases, then at its own. Where they are not,
// but the host is an alias that is authenticated itself: at its own name. Otherwise it is not
// asked. The resolver must outlive the task.
Task<TlsaLookup> look_up_tlsa(dns::Resolver& resolver, TlsaHost host, std::uint16_t port);

}  // namespace postrider::delivery
