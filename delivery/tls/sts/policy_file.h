// The file https://mta-sts.DOMAIN/.well-known/mta-sts.txt (RFC 8461 §3.2). Pure.
#pragma once

#include "base/net/http/http.h"
#include "base/result.h"
#include "base/time.h"
#include "delivery/tls/tls_policy.h"

#include <optional>
#include <string>
#include <string_view>

namespace postrider::delivery {

// attacks.md X16.
inline constexpr std::size_t kMostStsPolicy = 64U << 10U;

struct StsPolicyFile {
  StsPolicy policy;  // without domain and id
  std::chrono::seconds max_age{0};
};

// What is wrong with the answer that should bring it: redirects are not followed, and no other
// status than 200 counts (§3.3).
std::optional<TlsTrouble> trouble_of(const HttpResponse& answer);

// Lines end with LF or CRLF; keys in any order, unknown ones are passed over, of a repeated one the
// first counts, `mx` may repeat. max_age is cut to a year (31,557,600 s). Hosts become lower case;
// one that is neither a host name nor "*." before one makes the whole file invalid, for mail must
// not be refused, nor let through, by half a policy.
Result<StsPolicyFile> parse_sts_policy(std::string_view text);

}  // namespace postrider::delivery
