// The event of a connection's protection. Its keys are documented in postrider(8); changing one is
// a breaking change.
#pragma once

#include "base/log.h"
#include "delivery/tls/tls_policy.h"

#include <string_view>

namespace postrider::delivery::maillog {

// How a new connection is protected, and what was demanded: at `warn` when mail goes in clear after
// TLS was tried, or not at all for want of it.
void tls(Log& log, std::string_view relay, const TlsDemand& demand, const TlsAttempt& attempt,
         const TlsVerdict& verdict);

}  // namespace postrider::delivery::maillog
