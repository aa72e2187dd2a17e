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
  // Clients of our own may leave out the brackets and the domain, as devices and people do.
  bool lenient = false;
  std::string_view origin = {};  // the domain that completes such an address; empty: left as it is
};

// The mailbox of "<...>" at the start of `text`, its source route read and dropped (RFC 5321
// appendix C), plus what follows. Addresses are taken as the world has them: local parts up to the
// limit of a path (256 octets), dots anywhere in them, quoted words between dots, underscores in
// domains, a dot at a domain's end (dropped), literals in any spelling (brought into one).
// Comments, controls, quoted-pair abuse, scoped literals and IPv4 in disguise are refused
// (attacks.md 2.8). An error's step says which rule was broken, in words fit for a reply.
struct ParsedPath {
  std::string mailbox;    // "local@domain", quoting kept; empty for "<>"
  std::string_view rest;  // behind ">"
};
Result<ParsedPath> parse_path(std::string_view text, const PathRules& rules);

// A whole string as a mailbox, without brackets; same rules.
Result<std::string> parse_mailbox(std::string_view text, bool smtputf8);

// The meaning of a local part: quotes and escapes removed ("\"a b\"" is a b,
// "\"a\".b" is a.b).
std::string unquoted_local_part(std::string_view local_part);
// The other way: quoted if RFC 5321 wants it so.
std::string quoted_local_part(std::string_view meaning);

// The same text for all spellings of one mailbox: without quotes that are not needed, the domain in
// its ASCII form and in lower case. For comparisons; it is no address.
std::string mailbox_key(std::string_view address);

// True for an address literal in any valid spelling: "[192.0.2.1]", "[IPv6:2001:DB8:0::1]".
bool is_address_literal(std::string_view domain);
// A name of labels of letters, digits, hyphens within and underscores (which exist), 1 to 253
// octets, no trailing dot. One judge for addresses, configuration and hosts.
bool is_host_name(std::string_view name);
// The same with hyphens anywhere: what other people's MX records name and DNS resolves.
bool is_dns_name(std::string_view name);
// Lower-case A-labels by IDNA2008 (libidn2, NFC, non-transitional); an ASCII name is lowered.
Result<std::string> to_ascii_domain(std::string_view domain);
// The other way: the name with each A-label as the U-label that it stands for (RFC 5890 §2.3.2.1),
// in UTF-8; as it is if there is none, or one that is not valid.
std::string to_unicode_domain(std::string_view domain);

}  // namespace postrider::mail
