// For smtpd/auth/bearer_token.cc: signatures by OpenSSL.
#pragma once

#include "smtpd/auth/bearer_token.h"

namespace postrider::smtpd::auth {

// RS256, or ES256 with the two numbers side by side (RFC 7518 §3.4).
bool verify_signature(const TokenKeys::Key& key, std::string_view signed_part,
                      std::string_view signature);

}  // namespace postrider::smtpd::auth
