// Authentication-Results (RFC 8601): what was found out about a message, written for those who read
// it later; read again; and removed where strangers wrote it in our name (attacks.md I17).
#pragma once

#include "base/result.h"
#include "mailauth/dkim_verify.h"

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::mailauth {

struct ResultProperty {
  std::string type;   // "smtp", "header", "body", "policy"
  std::string name;   // "mailfrom", "d"
  std::string value;  // outside text
};

struct MethodResult {
  std::string method;  // "spf", "dkim", "dmarc", "arc", "auth", "iprev"
  std::string result;
  std::string comment = {};  // "2048-bit key"
  std::string reason = {};
  std::vector<ResultProperty> properties = {};
};

// "authserv-id; dkim=pass header.d=...", or "authserv-id; none", folded to 78 columns behind
// "name:".
//
// Promises: one field of lines up to 998 octets, whatever the values hold. Values that are not
// plain are quoted; controls, and without `utf8` everything that is not ASCII, become "?"; what is
// longer than 400 octets is cut. Requires: methods, results and property names are of ours, not
// outside text.
std::string authentication_results_field(std::string_view authserv_id,
                                         const std::vector<MethodResult>& results,
                                         bool utf8 = false);
// ARC-Authentication-Results of this instance (RFC 8617 §4.1.1).
std::string arc_authentication_results_field(unsigned instance, std::string_view authserv_id,
                                             const std::vector<MethodResult>& results);

// One result for each signature with header.d, .i, .s, .a and as much of .b as tells it from the
// others (RFC 6008); one for all that were not looked at; dkim=none without signatures.
std::vector<MethodResult> dkim_results(const std::vector<SignatureReport>& reports);

// What is read of a field that others wrote.
struct AuthenticationResults {
  std::string authserv_id;
  std::vector<MethodResult> results;  // empty: "none"
};
constexpr std::size_t kMostResultsSize = std::size_t{32} << 10U;
constexpr std::size_t kMostResults = 100;
// value: of an Authentication-Results field, folding kept. Comments are dropped. Errors: outside
// the grammar, of another version than 1, or beyond the limits.
Result<AuthenticationResults> parse_authentication_results(std::string_view value);

// Whether somebody could read this value as written by `authserv_id`, in any spelling: other case,
// comments, quotes, folding, blanks round dots, a dot at the end, A-labels or U-labels, a version,
// blanks beyond ASCII, other characters where the name ends ("mx.example.org:x").
// True also for what has no id, cannot be read or is of a version other than 1 (§5): nobody should
// have to guess.
bool may_claim_authserv_id(std::string_view value, std::string_view authserv_id);

// The header section without each Authentication-Results field that may_claim_authserv_id() one of
// these; nothing if there is none to remove. To be done before any result of ours is added.
// ARC-Authentication-Results stay: seals cover them.
std::optional<std::string> without_forged_results(std::string_view header_section,
                                                  const std::vector<std::string>& authserv_ids);

}  // namespace postrider::mailauth
