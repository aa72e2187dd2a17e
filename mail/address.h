// Mailboxes and paths as they stand in commands (RFC 5321 §4.1.2, RFC 6531 §3.3).
#pragma once

#include "base/result.h"

#include <string>
#include <string_view>

namespace postrider::mail {

struct PathRules {
  bool smtputf8 = false;         // UTF-8 in local part and domain
  bool null_allowed = false;     // "<>", for MAIL
  bool bare_postmaster = false;  // "<postmaster>" in any case, for RCPT
};

// The mailbox of "<...>" at the start of `text`, its source route read and dropped (RFC 5321
// appendix C), plus what follows. Limits: local part 64 octets, domain 255, path 256. Comments,
// quoted-pair abuse, scoped or non-canonical address literals are refused (attacks.md 2.8).
struct ParsedPath {
  std::string mailbox;    // "local@domain" as written, quoting kept; empty for "<>"
  std::string_view rest;  // behind ">"
};
Result<ParsedPath> parse_path(std::string_view text, const PathRules& rules);

// A whole string as a mailbox, without brackets; same limits.
Result<std::string> parse_mailbox(std::string_view text, bool smtputf8);

// The meaning of a local part: quotes and escapes removed ("\"a b\"" is a b).
std::string unquoted_local_part(std::string_view local_part);
// The other way: quoted if it must be.
std::string quoted_local_part(std::string_view meaning);

// True for a canonical address literal, "[192.0.2.1]" or "[IPv6:2001:db8::1]".
bool is_address_literal(std::string_view domain);
// A name of LDH labels, 1 to 253 octets, no trailing dot.
bool is_host_name(std::string_view name);
// Lower-case A-labels by IDNA2008 (libidn2, NFC, non-transitional); an ASCII name is lowered.
Result<std::string> to_ascii_domain(std::string_view domain);

}  // namespace postrider::mail
