// Where a user's mail goes: the pattern of local.mailbox, with names filled in that can never leave
// their place (attacks.md I01 to I04). Pure.
//
//   maildir:/var/mail/{user}/     mbox:/var/mail/{user}      one path component for each name
//   lmtp:unix:/run/dovecot/lmtp   lmtp:[::1]:24              no names in it
//   command:/usr/bin/lda -d {user} {extension}               split first, then filled in
//
// {user} is the local part in lower case without "+extension", {local} the whole local part,
// {extension} what follows "+", {domain} the domain.
#pragma once

#include "base/result.h"
#include "delivery/local/agents/local_target.h"

#include <string>
#include <string_view>

namespace postrider::delivery {

// The user that a local part (without quotes) stands for: lower case, without what follows the
// first octet of `separator`. Empty if it can never be one: empty, a leading dash or dot, controls,
// slashes, longer than 64 octets.
std::string local_user(std::string_view local_part, std::string_view separator = "+");
// What follows the first octet of `separator`; empty if nothing does.
std::string local_extension(std::string_view local_part, std::string_view separator = "+");

// One path component for any text: letters, digits, "-", "_", "." (not first) and "@" stand for
// themselves, all else is percent-encoded.
std::string path_component(std::string_view text);

struct MailboxNames {
  std::string user, local, extension, domain;
};
MailboxNames mailbox_names(std::string_view local_part, std::string_view domain,
                           std::string_view separator = "+");

// Errc::malformed: the pattern is wrong. Errc::refused: these names cannot be put into it, for an
// argument would begin with a dash, or {user} or {local} hold what a shell could read.
Result<LocalTarget> mailbox_target(std::string_view pattern, const MailboxNames& names);

// The pattern as configuration: nothing, or what is wrong with it.
Result<void> check_pattern(std::string_view pattern);
// What follows "lmtp:" in one.
Result<void> check_lmtp(std::string_view server);

struct MailboxPlace {
  std::string root;    // the part of the path that must exist or be ours to make: before "{"
  std::string folder;  // the mailbox below the root, relative, without trailing slash
};
// Of a maildir: or mbox: pattern; Errc::unsupported for another scheme.
Result<MailboxPlace> mailbox_place(std::string_view pattern, const MailboxNames& names);

}  // namespace postrider::delivery
