// What SPF, DKIM and DMARC found, handed on: to DMARC, and to those who read
// Authentication-Results.
#pragma once

#include "mailauth/auth_results.h"
#include "mailauth/dkim_verify.h"
#include "mailauth/dmarc.h"
#include "mailauth/spf.h"

#include <cstdint>
#include <string>
#include <vector>

namespace postrider::mailauth {

// The domains that a message is authenticated for, each once for each method: the passes first,
// then those that trouble with the DNS leaves open. mail_from: the verdict on that identity, not on
// HELO (RFC 9989 §4.4.2). A signature with a key that its domain still tests (t=y) counts: such
// marks are left behind, and the domain's policy asks for nothing better.
std::vector<Identifier> identifiers_of(const SpfVerdict& mail_from,
                                       const std::vector<SignatureReport>& signatures);

enum class SpfIdentity : std::uint8_t { helo, mail_from };
// "spf=fail smtp.mailfrom=example.org", with the reason of an error (RFC 8601 §2.7.2).
MethodResult spf_result(const SpfVerdict& verdict, SpfIdentity identity);
// "dmarc=fail header.from=example.org policy.dmarc=reject": what the domain asks for, after sp, np
// and t; no policy without a record (RFC 9989 §9.1).
MethodResult dmarc_result(const DmarcVerdict& verdict);

}  // namespace postrider::mailauth
